// JavaScript values to ops: one template reads the arguments of any op by walking its fields.
#pragma once

#include <napi.h>

#include <climits>
#include <cmath>
#include <string>
#include <type_traits>
#include <vector>

#include "core/fields.h"

namespace glnet::addon {

/// Finds the tensor behind a handle.
class Handles {
 public:
  virtual ~Handles() = default;
  virtual const Tensor& find(Napi::Value handle, const char* op, const char* name) const = 0;
};

[[noreturn]] inline void wrong(const char* op, const char* name, const char* expected, Napi::Value value) {
  fail(ErrorCode::invalid_argument, op, ": ", name, " must be ", expected, ", and is ",
       value.ToString().Utf8Value());
}

/// Inputs, and what holds inputs, must be given; attributes have defaults.
template <class T>
constexpr bool kRequired = std::is_same_v<T, In> || std::is_same_v<T, InOut> || detail::Structured<T>;
template <class T>
constexpr bool kRequired<std::vector<T>> = kRequired<T>;

template <class T>
void read(const Handles& handles, const char* op, const char* name, Napi::Value value, T& into) {
  if constexpr (is_view<T>) {
    static_cast<View&>(into) = handles.find(value, op, name).view();
  } else if constexpr (std::is_same_v<T, bool>) {
    if (!value.IsBoolean()) wrong(op, name, "a boolean", value);
    into = value.As<Napi::Boolean>();
  } else if constexpr (std::is_same_v<T, int>) {
    if (!value.IsNumber()) wrong(op, name, "an integer", value);
    const double number = value.As<Napi::Number>();
    if (!(number >= INT_MIN && number <= INT_MAX) || number != std::trunc(number)) {
      wrong(op, name, "an integer of 32 bits", value);
    }
    into = static_cast<int>(number);
  } else if constexpr (std::is_same_v<T, float>) {
    if (!value.IsNumber()) wrong(op, name, "a number", value);
    into = value.As<Napi::Number>();
  } else if constexpr (std::is_enum_v<T>) {
    const std::string text = value.ToString();
    int i = 0;
    for (const char* known : EnumNames<T>::kNames) {
      if (text == known) {
        into = static_cast<T>(i);
        return;
      }
      ++i;
    }
    wrong(op, name, "one of its names", value);
  } else if constexpr (detail::is_vector<T>) {
    if (!value.IsArray()) wrong(op, name, "an array", value);
    const auto array = value.As<Napi::Array>();
    into.resize(array.Length());
    for (uint32_t i = 0; i < array.Length(); ++i) read(handles, op, name, array.Get(i), into[i]);
  } else {
    if (!value.IsObject()) wrong(op, name, "an object", value);
    read_fields(handles, op, value.As<Napi::Object>(), into);
  }
}

/// Reads the members of an op, or of a struct within one. What is absent keeps its default; inputs must be
/// there.
template <class T>
void read_fields(const Handles& handles, const char* op, Napi::Object object, T& into) {
  T::fields(into, [&](const char* name, auto& member) {
    using Member = std::remove_reference_t<decltype(member)>;
    if constexpr (std::is_same_v<Member, Out>) {
      return;
    } else {
      const Napi::Value value = object.Get(name);
      if (value.IsUndefined() || value.IsNull()) {
        if constexpr (kRequired<Member>) {
          fail(ErrorCode::invalid_argument, op, ": ", name, " is missing");
        }
        return;
      }
      read(handles, op, name, value, member);
    }
  });
}

/// The TypeScript type of a member, for binding.d.ts.
template <class T>
std::string type_name() {
  if constexpr (is_view<T>) {
    return "Handle";
  } else if constexpr (std::is_same_v<T, bool>) {
    return "boolean";
  } else if constexpr (std::is_arithmetic_v<T>) {
    return "number";
  } else if constexpr (std::is_enum_v<T>) {
    std::string text;
    for (const char* known : EnumNames<T>::kNames)
      text += (text.empty() ? "'" : " | '") + std::string(known) + "'";
    return text;
  } else if constexpr (detail::is_vector<T>) {
    return "readonly " + type_name<typename T::value_type>() + "[]";
  } else {
    std::string text;
    T member;
    T::fields(member, [&](const char* name, auto& value) {
      using Member = std::remove_reference_t<decltype(value)>;
      if constexpr (!std::is_same_v<Member, Out>) {
        text += std::string(text.empty() ? "" : "; ") + name + (kRequired<Member> ? ": " : "?: ") +
                type_name<Member>();
      }
    });
    return "{ " + text + " }";
  }
}

}  // namespace glnet::addon

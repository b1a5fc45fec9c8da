// JavaScript values to ops: one template reads the arguments of any op by walking its fields.
//
// They come as numbers in one array, since to ask an object for its members, one call of Node-API each, takes
// longer than all else that happens before an op is queued. A struct is its members that are given, each
// after its place among those that are not outputs, and kEnd; a vector is its length and its items; a tensor
// its handle, a boolean 0 or 1, an enumeration's value its place. JavaScript learns the order from
// `layout_of`.
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
  virtual const Tensor& find(double handle, const char* op, const char* name) const = 0;
};

/// Numbers that are read one after the other.
class Numbers {
 public:
  Numbers(const double* first, size_t count) : next_(first), end_(first + count) {}

  double peek() const {
    if (next_ == end_) fail(ErrorCode::invalid_argument, "the arguments of an op end too early");
    return *next_;
  }
  double take() {
    const double number = peek();
    ++next_;
    return number;
  }
  size_t left() const { return static_cast<size_t>(end_ - next_); }

 private:
  const double* next_;
  const double* end_;
};

constexpr double kEnd = -1;

/// Inputs, and what holds inputs, must be given; attributes have defaults.
template <class T>
constexpr bool kRequired = std::is_same_v<T, In> || std::is_same_v<T, InOut> || detail::Structured<T>;
template <class T>
constexpr bool kRequired<std::vector<T>> = kRequired<T>;

template <class T>
void read_fields(const Handles& handles, const char* op, Numbers& from, T& into);

template <class T>
void read(const Handles& handles, const char* op, const char* name, Numbers& from, T& into) {
  if constexpr (detail::is_vector<T>) {
    const double length = from.take();
    check(length >= 0 && length <= static_cast<double>(from.left()), op, ": ", name, " has no length of ",
          length);
    into.resize(static_cast<size_t>(length));
    for (auto& item : into) read(handles, op, name, from, item);
  } else if constexpr (detail::Structured<T>) {
    read_fields(handles, op, from, into);
  } else {
    const double number = from.take();
    if constexpr (is_view<T>) {
      static_cast<View&>(into) = handles.find(number, op, name).view();
    } else if constexpr (std::is_same_v<T, bool>) {
      into = number != 0;
    } else if constexpr (std::is_same_v<T, float>) {
      into = static_cast<float>(number);
    } else {
      const auto least = std::is_enum_v<T> ? 0 : INT_MIN;
      auto most = INT_MAX;
      if constexpr (std::is_enum_v<T>) most = static_cast<int>(std::size(EnumNames<T>::kNames)) - 1;
      check(number >= least && number <= most && number == std::trunc(number), op, ": ", name,
            " must be an integer of 32 bits, and is ", number);
      into = static_cast<T>(static_cast<int>(number));
    }
  }
}

/// Calls `visit(name, member)` for all members but outputs.
template <class T, class Visit>
void for_each_argument(T& op, Visit&& visit) {
  T::fields(op, [&](const char* name, auto& member) {
    if constexpr (!std::is_same_v<std::remove_reference_t<decltype(member)>, Out>) visit(name, member);
  });
}

/// Reads the members of an op, or of a struct within one. What is absent keeps its default; inputs must be
/// there.
template <class T>
void read_fields(const Handles& handles, const char* op, Numbers& from, T& into) {
  int place = 0;
  for_each_argument(into, [&](const char* name, auto& member) {
    if (from.peek() == place++) {
      from.take();
      read(handles, op, name, from, member);
    } else if constexpr (kRequired<std::remove_reference_t<decltype(member)>>) {
      fail(ErrorCode::invalid_argument, op, ": ", name, " is missing");
    }
  });
  check(from.take() == kEnd, op, ": there are arguments that it does not take");
}

/// What JavaScript must know to write a T: binding.d.ts's `Layout`.
template <class T>
Napi::Object layout_of(Napi::Env env) {
  Napi::Object layout = Napi::Object::New(env);
  if constexpr (is_view<T>) {
    layout.Set("kind", "tensor");
  } else if constexpr (std::is_same_v<T, bool>) {
    layout.Set("kind", "boolean");
  } else if constexpr (std::is_arithmetic_v<T>) {
    layout.Set("kind", "number");
  } else if constexpr (std::is_enum_v<T>) {
    Napi::Array names = Napi::Array::New(env);
    for (const char* name : EnumNames<T>::kNames) names.Set(names.Length(), name);
    layout.Set("kind", "name");
    layout.Set("names", names);
  } else if constexpr (detail::is_vector<T>) {
    layout.Set("kind", "array");
    layout.Set("items", layout_of<typename T::value_type>(env));
  } else {
    Napi::Array fields = Napi::Array::New(env);
    T op;
    for_each_argument(op, [&](const char* name, auto& member) {
      using Member = std::remove_reference_t<decltype(member)>;
      Napi::Object field = Napi::Object::New(env);
      field.Set("name", name);
      field.Set("required", kRequired<Member>);
      field.Set("type", layout_of<Member>(env));
      fields.Set(fields.Length(), field);
    });
    layout.Set("kind", "struct");
    layout.Set("fields", fields);
  }
  return layout;
}

}  // namespace glnet::addon

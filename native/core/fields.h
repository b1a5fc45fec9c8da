// How an op declares itself. An op is a struct whose members are its inputs, attributes and outputs, with
//
//   static constexpr const char* kName = "conv2d";
//   template <class Self, class Visit> static void fields(Self& op, Visit&& visit) { visit("x", op.x); ... }
//   void infer();   // checks inputs and attributes, sets shape and dtype of the outputs
//   double multiply_adds() const;
//
// Everything that must know an op's members walks `fields`: the JavaScript binder, the tests, the benchmarks.
#pragma once

#include <type_traits>

#include "core/error.h"
#include "core/tensor.h"

namespace glnet {

struct In : View {};   ///< read
struct Maybe : View {  ///< read, if given
  explicit operator bool() const { return data != nullptr; }
};
struct InOut : View {};  ///< read and written in place
struct Out : View {};    ///< written; allocated by the device as `infer` says

/// Names of an enumeration's values, in order: specialise for each enumeration that is an attribute.
template <class E>
struct EnumNames;

template <class T>
inline constexpr bool is_view = std::is_base_of_v<View, T>;

/// Calls `visit(name, view)` for every view of an op, those of nested structs too.
template <class Op, class Visit>
void for_each_view(Op& op, Visit&& visit);

namespace detail {
template <class T>
concept Structured = requires(T& t) { T::fields(t, [](const char*, auto&) {}); };
template <class T>
inline constexpr bool is_vector = false;
template <class T>
inline constexpr bool is_vector<std::vector<T>> = true;

template <class T, class Visit>
void visit_views(const char* name, T& value, Visit& visit) {
  using Plain = std::remove_const_t<T>;
  if constexpr (is_view<Plain>) {
    visit(name, value);
  } else if constexpr (is_vector<Plain>) {
    if constexpr (Structured<typename Plain::value_type> || is_view<typename Plain::value_type>) {
      for (auto& item : value) visit_views(name, item, visit);
    }
  } else if constexpr (Structured<Plain>) {
    for_each_view(value, visit);
  }
}
}  // namespace detail

template <class Op, class Visit>
void for_each_view(Op& op, Visit&& visit) {
  std::remove_const_t<Op>::fields(
      op, [&](const char* name, auto& value) { detail::visit_views(name, value, visit); });
}

/// Checks that an input is there, has `rank` dimensions, none of them empty.
inline void check_rank(const char* op, const char* name, const View& v, size_t rank) {
  check(v.shape.size() == rank, op, ": ", name, " must have ", rank, " dimensions, and has ", v.shape);
  for (const int64_t d : v.shape) check(d > 0, op, ": ", name, " is empty: ", v.shape);
}

/// Checks that an input has just this shape.
inline void check_shape(const char* op, const char* name, const View& v, const Shape& expected) {
  check(v.shape == expected, op, ": ", name, " must have shape ", expected, ", and has ", v.shape);
}

inline void check_dtype(const char* op, const char* name, const View& v, DType expected) {
  check(v.dtype == expected, op, ": ", name, " must be ", name_of(expected), ", and is ", name_of(v.dtype));
}

/// The reference computes with float64 in its place.
inline void check_float32(const char* op, const char* name, const View& v) {
  if (v.dtype != DType::float64) check_dtype(op, name, v, DType::float32);
}

}  // namespace glnet

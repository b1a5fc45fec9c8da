// What optimisers check: lists that belong together, an entry for each parameter.
#pragma once

#include <cmath>

#include "core/fields.h"

namespace glnet {

inline void check_parameters(const char* op, const std::vector<InOut>& parameters) {
  check(!parameters.empty(), op, ": there is no parameter");
  for (const InOut& p : parameters) check_float32(op, "parameter", p);
}

/// A list of tensors, each of its parameter's shape, float32.
template <class V>
void check_like(const char* op, const char* name, const std::vector<V>& list,
                const std::vector<InOut>& parameters) {
  check(list.size() == parameters.size(), op, ": ", list.size(), " ", name, " for ", parameters.size(),
        " parameters");
  for (size_t i = 0; i < list.size(); ++i) {
    check_float32(op, name, list[i]);
    check(list[i].shape == parameters[i].shape, op, ": ", name, "[", i, "] must have shape ",
          parameters[i].shape, ", as its parameter, and has ", list[i].shape);
  }
}

/// A list of numbers, each finite and not negative.
inline void check_rates(const char* op, const char* name, const std::vector<float>& list,
                        const std::vector<InOut>& parameters) {
  check(list.size() == parameters.size(), op, ": ", list.size(), " ", name, " for ", parameters.size(),
        " parameters");
  for (size_t i = 0; i < list.size(); ++i) {
    check(list[i] >= 0 && std::isfinite(list[i]), op, ": ", name, "[", i, "] is ", list[i],
          "; expected 0 or more, and finite");
  }
}

/// How many numbers the parameters have together.
inline double parameter_count(const std::vector<InOut>& parameters) {
  double n = 0;
  for (const InOut& p : parameters) n += static_cast<double>(p.size());
  return n;
}

}  // namespace glnet

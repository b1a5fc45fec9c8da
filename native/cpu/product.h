// Products of matrices in double precision, for weights that are composed before they are used.
#pragma once

#include <cstdint>

namespace glnet::cpu {

/// c [rows, columns] = a [rows, inner] b [inner, columns], all row-major.
void multiply_in_double(int threads, int64_t rows, int64_t inner, int64_t columns, const double* a,
                        const float* b, double* c);

}  // namespace glnet::cpu

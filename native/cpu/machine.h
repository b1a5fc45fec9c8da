// What the CPU backend runs on.
#pragma once

#include <string>

namespace glnet::cpu {

/// Version of the oneDNN library that is loaded, for example "2.6.3".
std::string onednn_version();
/// The best instruction set that oneDNN uses here, for example "avx512_core_bf16".
std::string onednn_isa();
/// Whether the processor multiplies bfloat16 itself; that it is faster than float32 does not follow.
bool has_bfloat16();
/// DNNL_MAX_CPU_ISA limits these too.
bool has_avx512();
/// And its companion, FMA.
bool has_avx2();

}  // namespace glnet::cpu

#include "cpu/machine.h"

#include "cpu/dnnl.h"

namespace glnet::cpu {

std::string onednn_version() {
  const dnnl_version_t* v = dnnl_version();
  return std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
}

std::string onednn_isa() {
  switch (dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_sse41:
      return "sse41";
    case dnnl_cpu_isa_avx:
      return "avx";
    case dnnl_cpu_isa_avx2:
      return "avx2";
    case dnnl_cpu_isa_avx2_vnni:
      return "avx2_vnni";
    case dnnl_cpu_isa_avx512_core:
      return "avx512_core";
    case dnnl_cpu_isa_avx512_core_vnni:
      return "avx512_core_vnni";
    case dnnl_cpu_isa_avx512_core_bf16:
      return "avx512_core_bf16";
    case dnnl_cpu_isa_avx512_core_amx:
      return "avx512_core_amx";
    default:
      return has_bfloat16() ? "newer than avx512_core_bf16" : "generic";
  }
}

namespace {

/// Whether oneDNN uses all that `isa` stands for: its names are sets of bits, and not in order.
bool has(dnnl_cpu_isa_t isa) {
  return (static_cast<unsigned>(dnnl_get_effective_cpu_isa()) & static_cast<unsigned>(isa)) ==
         static_cast<unsigned>(isa);
}

}  // namespace

bool has_bfloat16() {
  return has(dnnl_cpu_isa_avx512_core_bf16);
}

bool has_avx512() {
  return has(dnnl_cpu_isa_avx512_core);
}

bool has_avx2() {
#ifdef GLNET_X86
  // A virtual machine may leave the second out.
  return has(dnnl_cpu_isa_avx2) && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

}  // namespace glnet::cpu

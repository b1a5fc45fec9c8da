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
      return dnnl_get_effective_cpu_isa() > dnnl_cpu_isa_avx512_core_bf16 ? "newer than avx512_core_bf16"
                                                                          : "generic";
  }
}

bool has_bfloat16() {
  return dnnl_get_effective_cpu_isa() >= dnnl_cpu_isa_avx512_core_bf16;
}

bool has_own_kernels(DType dtype) {
#ifdef GLNET_AVX512_KERNELS
  return dtype == DType::bfloat16  ? has_bfloat16()
         : dtype == DType::float32 ? dnnl_get_effective_cpu_isa() >= dnnl_cpu_isa_avx512_core
                                   : false;
#else
  return false;
#endif
}

}  // namespace glnet::cpu

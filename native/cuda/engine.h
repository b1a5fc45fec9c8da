// The devices that run the CUDA kernels.
#pragma once

#include "core/engine.h"

namespace glnet::cuda {

/// How many devices there are, those too old for this build included. Throws ErrorCode::native, with what can
/// be done about it, if there is none.
int device_count();

std::shared_ptr<Engine> open_device(const EngineOptions& options);

}  // namespace glnet::cuda

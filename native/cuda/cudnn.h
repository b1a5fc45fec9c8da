// Plain convolutions by cuDNN, where its library is. Callers need not know whether it is.
#pragma once

#include <string>

#include "core/backend.h"

namespace glnet::cuda {

/// Asks for what `cudnn_conv2d` needs, if that will compute the op.
void prepare_cudnn_conv2d(const Conv2d& op, Prepare& prepare);

/// Queues the op; false if cuDNN is not there or not wanted, or has no code or no memory for it.
bool cudnn_conv2d(const Conv2d& op, const Context& context);

/// "cuDNN 9.12.0", or why there is none; empty where it is not wanted.
std::string cudnn_description();

}  // namespace glnet::cuda

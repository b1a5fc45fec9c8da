// Every op's cases.
#pragma once

#include "test/cases/accumulate.h"
#include "test/cases/adam.h"
#include "test/cases/add.h"
#include "test/cases/aggregate_conv.h"
#include "test/cases/aggregate_conv_backward_data.h"
#include "test/cases/aggregate_conv_backward_weights.h"
#include "test/cases/argmax.h"
#include "test/cases/batch_norm.h"
#include "test/cases/batch_norm_backward.h"
#include "test/cases/batch_norm_train.h"
#include "test/cases/cast.h"
#include "test/cases/channel_sum.h"
#include "test/cases/concat.h"
#include "test/cases/conv2d.h"
#include "test/cases/conv2d_backward_data.h"
#include "test/cases/conv2d_backward_weights.h"
#include "test/cases/core.h"
#include "test/cases/crop_resize.h"
#include "test/cases/crop_resize_backward.h"
#include "test/cases/decode_patches.h"
#include "test/cases/dice_loss.h"
#include "test/cases/file_weight.h"
#include "test/cases/focal_loss.h"
#include "test/cases/graphs.h"
#include "test/cases/lovasz_loss.h"
#include "test/cases/max_pool.h"
#include "test/cases/max_pool_backward.h"
#include "test/cases/merge_patches.h"
#include "test/cases/mse.h"
#include "test/cases/paste.h"
#include "test/cases/relu.h"
#include "test/cases/relu_backward.h"
#include "test/cases/resize.h"
#include "test/cases/sgd.h"
#include "test/cases/slice.h"
#include "test/cases/softmax.h"
#include "test/cases/stitch.h"
#include "test/cases/sum_of_squares.h"
#include "test/cases/triangle_resize.h"
#include "test/cases/unfold_resize.h"
#ifdef GLNET_EMULATOR
#include "test/cases/emulator.h"
#include "test/cases/engine.h"
#endif

namespace glnet::test {

/// Adds the cases of every op, of the core, and of the emulator where it is built.
inline void all_cases(Suite& suite) {
#define GLNET_CASES(Type, name) name##_cases(suite);
  GLNET_OPS(GLNET_CASES)
#undef GLNET_CASES
  core_cases(suite);
  file_weight_cases(suite);
  graphs_cases(suite);
#ifdef GLNET_EMULATOR
  emulator_cases(suite);
  engine_cases(suite);
#endif
}

}  // namespace glnet::test

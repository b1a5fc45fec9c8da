// The ops, in one list: a struct with its declaration, and the name of its kernel in every backend.
#pragma once

#include "ops/add.h"
#include "ops/aggregate_conv.h"
#include "ops/aggregate_conv_backward_data.h"
#include "ops/aggregate_conv_backward_weights.h"
#include "ops/argmax.h"
#include "ops/batch_norm.h"
#include "ops/cast.h"
#include "ops/concat.h"
#include "ops/conv2d.h"
#include "ops/conv2d_backward_data.h"
#include "ops/conv2d_backward_weights.h"
#include "ops/crop_resize.h"
#include "ops/crop_resize_backward.h"
#include "ops/decode_patches.h"
#include "ops/focal_loss.h"
#include "ops/max_pool.h"
#include "ops/merge_patches.h"
#include "ops/relu.h"
#include "ops/resize.h"
#include "ops/softmax.h"
#include "ops/stitch.h"
#include "ops/triangle_resize.h"

#define GLNET_OPS(X)                                               \
  X(Add, add)                                                      \
  X(AggregateConv, aggregate_conv)                                 \
  X(AggregateConvBackwardData, aggregate_conv_backward_data)       \
  X(AggregateConvBackwardWeights, aggregate_conv_backward_weights) \
  X(Argmax, argmax)                                                \
  X(BatchNorm, batch_norm)                                         \
  X(Cast, cast)                                                    \
  X(Concat, concat)                                                \
  X(Conv2d, conv2d)                                                \
  X(Conv2dBackwardData, conv2d_backward_data)                      \
  X(Conv2dBackwardWeights, conv2d_backward_weights)                \
  X(CropResize, crop_resize)                                       \
  X(CropResizeBackward, crop_resize_backward)                      \
  X(DecodePatches, decode_patches)                                 \
  X(FocalLoss, focal_loss)                                         \
  X(MaxPool, max_pool)                                             \
  X(MergePatches, merge_patches)                                   \
  X(Relu, relu)                                                    \
  X(Resize, resize)                                                \
  X(Softmax, softmax)                                              \
  X(Stitch, stitch)                                                \
  X(TriangleResize, triangle_resize)

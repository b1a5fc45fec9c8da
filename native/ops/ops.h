// The ops, in one list: a struct with its declaration, and the name of its kernel in every backend.
#pragma once

#include "ops/accumulate.h"
#include "ops/adam.h"
#include "ops/add.h"
#include "ops/aggregate_conv.h"
#include "ops/aggregate_conv_backward_data.h"
#include "ops/aggregate_conv_backward_weights.h"
#include "ops/argmax.h"
#include "ops/batch_norm.h"
#include "ops/batch_norm_backward.h"
#include "ops/batch_norm_train.h"
#include "ops/cast.h"
#include "ops/channel_sum.h"
#include "ops/concat.h"
#include "ops/conv2d.h"
#include "ops/conv2d_backward_data.h"
#include "ops/conv2d_backward_weights.h"
#include "ops/crop_resize.h"
#include "ops/crop_resize_backward.h"
#include "ops/decode_patches.h"
#include "ops/dice_loss.h"
#include "ops/focal_loss.h"
#include "ops/lovasz_loss.h"
#include "ops/max_pool.h"
#include "ops/max_pool_backward.h"
#include "ops/merge_patches.h"
#include "ops/mse.h"
#include "ops/paste.h"
#include "ops/relu.h"
#include "ops/relu_backward.h"
#include "ops/resize.h"
#include "ops/sgd.h"
#include "ops/slice.h"
#include "ops/softmax.h"
#include "ops/stitch.h"
#include "ops/sum_of_squares.h"
#include "ops/triangle_resize.h"
#include "ops/unfold_resize.h"

#define GLNET_OPS(X)                                               \
  X(Accumulate, accumulate)                                        \
  X(Adam, adam)                                                    \
  X(Add, add)                                                      \
  X(AggregateConv, aggregate_conv)                                 \
  X(AggregateConvBackwardData, aggregate_conv_backward_data)       \
  X(AggregateConvBackwardWeights, aggregate_conv_backward_weights) \
  X(Argmax, argmax)                                                \
  X(BatchNorm, batch_norm)                                         \
  X(BatchNormBackward, batch_norm_backward)                        \
  X(BatchNormTrain, batch_norm_train)                              \
  X(Cast, cast)                                                    \
  X(ChannelSum, channel_sum)                                       \
  X(Concat, concat)                                                \
  X(Conv2d, conv2d)                                                \
  X(Conv2dBackwardData, conv2d_backward_data)                      \
  X(Conv2dBackwardWeights, conv2d_backward_weights)                \
  X(CropResize, crop_resize)                                       \
  X(CropResizeBackward, crop_resize_backward)                      \
  X(DecodePatches, decode_patches)                                 \
  X(DiceLoss, dice_loss)                                           \
  X(FocalLoss, focal_loss)                                         \
  X(LovaszLoss, lovasz_loss)                                       \
  X(MaxPool, max_pool)                                             \
  X(MaxPoolBackward, max_pool_backward)                            \
  X(MergePatches, merge_patches)                                   \
  X(Mse, mse)                                                      \
  X(Paste, paste)                                                  \
  X(Relu, relu)                                                    \
  X(ReluBackward, relu_backward)                                   \
  X(Resize, resize)                                                \
  X(Sgd, sgd)                                                      \
  X(Slice, slice)                                                  \
  X(Softmax, softmax)                                              \
  X(Stitch, stitch)                                                \
  X(SumOfSquares, sum_of_squares)                                  \
  X(TriangleResize, triangle_resize)                               \
  X(UnfoldResize, unfold_resize)

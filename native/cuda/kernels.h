// The CUDA version of the ops: what is launched, for the tables of the devices that run it.
#pragma once

#include "core/backend.h"

// The ops that have a CUDA version.
#define GLNET_CUDA_OPS(X)                                          \
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

namespace glnet::cuda {

#define GLNET_DECLARE(Type, name) void name(const Type& op, const Context& context);
GLNET_CUDA_OPS(GLNET_DECLARE)
#undef GLNET_DECLARE

void prepare_adam(const Adam& op, Prepare& prepare);
void prepare_aggregate_conv(const AggregateConv& op, Prepare& prepare);
void prepare_aggregate_conv_backward_data(const AggregateConvBackwardData& op, Prepare& prepare);
void prepare_aggregate_conv_backward_weights(const AggregateConvBackwardWeights& op, Prepare& prepare);
void prepare_batch_norm(const BatchNorm& op, Prepare& prepare);
void prepare_batch_norm_backward(const BatchNormBackward& op, Prepare& prepare);
void prepare_batch_norm_train(const BatchNormTrain& op, Prepare& prepare);
void prepare_channel_sum(const ChannelSum& op, Prepare& prepare);
void prepare_conv2d(const Conv2d& op, Prepare& prepare);
void prepare_conv2d_backward_data(const Conv2dBackwardData& op, Prepare& prepare);
void prepare_conv2d_backward_weights(const Conv2dBackwardWeights& op, Prepare& prepare);
void prepare_crop_resize(const CropResize& op, Prepare& prepare);
void prepare_crop_resize_backward(const CropResizeBackward& op, Prepare& prepare);
void prepare_dice_loss(const DiceLoss& op, Prepare& prepare);
void prepare_focal_loss(const FocalLoss& op, Prepare& prepare);
void prepare_lovasz_loss(const LovaszLoss& op, Prepare& prepare);
void prepare_merge_patches(const MergePatches& op, Prepare& prepare);
void prepare_mse(const Mse& op, Prepare& prepare);
void prepare_resize(const Resize& op, Prepare& prepare);
void prepare_sgd(const Sgd& op, Prepare& prepare);
void prepare_stitch(const Stitch& op, Prepare& prepare);
void prepare_sum_of_squares(const SumOfSquares& op, Prepare& prepare);
void prepare_triangle_resize(const TriangleResize& op, Prepare& prepare);
void prepare_unfold_resize(const UnfoldResize& op, Prepare& prepare);

/// Puts the kernels into a backend's table; ops that have none keep nullptr.
inline void fill(Backend& backend) {
#define GLNET_ENTRY(Type, name) backend.name.run = name;
  GLNET_CUDA_OPS(GLNET_ENTRY)
#undef GLNET_ENTRY
  backend.adam.prepare = prepare_adam;
  backend.aggregate_conv.prepare = prepare_aggregate_conv;
  backend.aggregate_conv_backward_data.prepare = prepare_aggregate_conv_backward_data;
  backend.aggregate_conv_backward_weights.prepare = prepare_aggregate_conv_backward_weights;
  backend.batch_norm.prepare = prepare_batch_norm;
  backend.batch_norm_backward.prepare = prepare_batch_norm_backward;
  backend.batch_norm_train.prepare = prepare_batch_norm_train;
  backend.channel_sum.prepare = prepare_channel_sum;
  backend.conv2d.prepare = prepare_conv2d;
  backend.conv2d_backward_data.prepare = prepare_conv2d_backward_data;
  backend.conv2d_backward_weights.prepare = prepare_conv2d_backward_weights;
  backend.crop_resize.prepare = prepare_crop_resize;
  backend.crop_resize_backward.prepare = prepare_crop_resize_backward;
  backend.dice_loss.prepare = prepare_dice_loss;
  backend.focal_loss.prepare = prepare_focal_loss;
  backend.lovasz_loss.prepare = prepare_lovasz_loss;
  backend.merge_patches.prepare = prepare_merge_patches;
  backend.mse.prepare = prepare_mse;
  backend.resize.prepare = prepare_resize;
  backend.sgd.prepare = prepare_sgd;
  backend.stitch.prepare = prepare_stitch;
  backend.sum_of_squares.prepare = prepare_sum_of_squares;
  backend.triangle_resize.prepare = prepare_triangle_resize;
  backend.unfold_resize.prepare = prepare_unfold_resize;
}

}  // namespace glnet::cuda

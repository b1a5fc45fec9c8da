// The CUDA version of the ops: what is launched, for the tables of the devices that run it.
#pragma once

#include "core/backend.h"

// The ops that have a CUDA version.
#define GLNET_CUDA_OPS(X)                                          \
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

namespace glnet::cuda {

#define GLNET_DECLARE(Type, name) void name(const Type& op, const Context& context);
GLNET_CUDA_OPS(GLNET_DECLARE)
#undef GLNET_DECLARE

void prepare_aggregate_conv(const AggregateConv& op, Prepare& prepare);
void prepare_aggregate_conv_backward_data(const AggregateConvBackwardData& op, Prepare& prepare);
void prepare_aggregate_conv_backward_weights(const AggregateConvBackwardWeights& op, Prepare& prepare);
void prepare_batch_norm(const BatchNorm& op, Prepare& prepare);
void prepare_conv2d(const Conv2d& op, Prepare& prepare);
void prepare_conv2d_backward_data(const Conv2dBackwardData& op, Prepare& prepare);
void prepare_conv2d_backward_weights(const Conv2dBackwardWeights& op, Prepare& prepare);
void prepare_crop_resize(const CropResize& op, Prepare& prepare);
void prepare_crop_resize_backward(const CropResizeBackward& op, Prepare& prepare);
void prepare_focal_loss(const FocalLoss& op, Prepare& prepare);
void prepare_merge_patches(const MergePatches& op, Prepare& prepare);
void prepare_resize(const Resize& op, Prepare& prepare);
void prepare_stitch(const Stitch& op, Prepare& prepare);
void prepare_triangle_resize(const TriangleResize& op, Prepare& prepare);

/// Puts the kernels into a backend's table; ops that have none keep nullptr.
inline void fill(Backend& backend) {
#define GLNET_ENTRY(Type, name) backend.name.run = name;
  GLNET_CUDA_OPS(GLNET_ENTRY)
#undef GLNET_ENTRY
  backend.aggregate_conv.prepare = prepare_aggregate_conv;
  backend.aggregate_conv_backward_data.prepare = prepare_aggregate_conv_backward_data;
  backend.aggregate_conv_backward_weights.prepare = prepare_aggregate_conv_backward_weights;
  backend.batch_norm.prepare = prepare_batch_norm;
  backend.conv2d.prepare = prepare_conv2d;
  backend.conv2d_backward_data.prepare = prepare_conv2d_backward_data;
  backend.conv2d_backward_weights.prepare = prepare_conv2d_backward_weights;
  backend.crop_resize.prepare = prepare_crop_resize;
  backend.crop_resize_backward.prepare = prepare_crop_resize_backward;
  backend.focal_loss.prepare = prepare_focal_loss;
  backend.merge_patches.prepare = prepare_merge_patches;
  backend.resize.prepare = prepare_resize;
  backend.stitch.prepare = prepare_stitch;
  backend.triangle_resize.prepare = prepare_triangle_resize;
}

}  // namespace glnet::cuda

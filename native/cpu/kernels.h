// The CPU's version of every op.
#pragma once

#include "core/backend.h"

namespace glnet::cpu {

#define GLNET_DECLARE(Type, name) void name(const Type& op, const Context& context);
GLNET_OPS(GLNET_DECLARE)
#undef GLNET_DECLARE

void prepare_aggregate_conv(const AggregateConv& op, Prepare& prepare);
void prepare_aggregate_conv_backward_data(const AggregateConvBackwardData& op, Prepare& prepare);
void prepare_aggregate_conv_backward_weights(const AggregateConvBackwardWeights& op, Prepare& prepare);
void prepare_batch_norm_backward(const BatchNormBackward& op, Prepare& prepare);
void prepare_batch_norm_train(const BatchNormTrain& op, Prepare& prepare);
void prepare_channel_sum(const ChannelSum& op, Prepare& prepare);
void prepare_conv2d(const Conv2d& op, Prepare& prepare);
void prepare_conv2d_backward_data(const Conv2dBackwardData& op, Prepare& prepare);
void prepare_conv2d_backward_weights(const Conv2dBackwardWeights& op, Prepare& prepare);
void prepare_crop_resize_backward(const CropResizeBackward& op, Prepare& prepare);
void prepare_dice_loss(const DiceLoss& op, Prepare& prepare);
void prepare_focal_loss(const FocalLoss& op, Prepare& prepare);
void prepare_lovasz_loss(const LovaszLoss& op, Prepare& prepare);
void prepare_mse(const Mse& op, Prepare& prepare);
void prepare_sum_of_squares(const SumOfSquares& op, Prepare& prepare);
void prepare_triangle_resize(const TriangleResize& op, Prepare& prepare);
void prepare_unfold_resize(const UnfoldResize& op, Prepare& prepare);

}  // namespace glnet::cpu

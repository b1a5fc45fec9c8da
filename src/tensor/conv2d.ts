import { differentiate, refuseGradient } from './autograd';
import { channelSum } from './channel-sum';
import { reluBackward } from './relu';
import type { Tensor } from './tensor';

export interface Conv2dOptions {
  /** [K], float32. */
  bias?: Tensor;
  /** Added before the ReLU; of the output's shape. */
  residual?: Tensor;
  /** Default 1. */
  stride?: number;
  /** Zeros on each side; default 0. */
  padding?: number;
  relu?: boolean;
  /** The result takes the residual's memory, whose values are gone. Has no gradient. Default false. */
  overwrite?: boolean;
  /**
   * The result is the largest value of each 3x3 window, stride 2, padding 1, as `maxPool` gives it. Only with the ReLU and
   * without a residual. Has no gradient. Default false.
   */
  pool?: boolean;
}

/**
 * `relu(conv(x, weight) + bias + residual)`.
 * @param x [N, H, W, C]
 * @param weight [K, C, kh, kw]
 * @returns [N, (H + 2·padding − kh) / stride + 1, …, K], or pooled
 */
export function conv2d(x: Tensor, weight: Tensor, options: Conv2dOptions = {}): Tensor {
  const { bias, residual, stride = 1, padding = 0, relu, overwrite, pool } = options;
  if (overwrite || pool) {
    const inputs = [x, weight, bias, residual].filter((input) => input !== undefined);
    refuseGradient(`a convolution that ${overwrite ? 'overwrites' : 'pools'}`, inputs);
  }
  const y = x.device.run1('conv2d', { x, weight, ...options });
  differentiate(y, [x, weight, bias, residual], ({ keep, wanted }) => {
    const saved = {
      x: wanted[1] ? keep(x) : undefined,
      weight: wanted[0] ? keep(weight) : undefined,
      y: relu ? keep(y) : undefined,
    };
    const [, height, width] = x.shape as [number, number, number, number];
    return (gradient, [dx, dweight, dbias, dresidual]) => {
      const dy = saved.y ? reluBackward(gradient, saved.y) : gradient;
      dx?.replace((addend) =>
        dy.device.run1('conv2d_backward_data', {
          dy,
          weight: saved.weight!,
          height,
          width,
          stride,
          padding,
          ...(addend && { addend }),
        }),
      );
      if (dweight) {
        dy.device.run('conv2d_backward_weights', {
          x: saved.x!,
          dy,
          stride,
          padding,
          dweight: dweight.sum(),
        });
      }
      if (dbias) channelSum(dy, dbias.sum());
      if (dresidual) dresidual.add(dy);
      else if (dy !== gradient) dy.dispose();
    };
  });
  return y;
}

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
}

/**
 * `relu(conv(x, weight) + bias + residual)`.
 * @param x [N, H, W, C]
 * @param weight [K, C, kh, kw]
 * @returns [N, (H + 2·padding − kh) / stride + 1, …, K]
 */
export function conv2d(x: Tensor, weight: Tensor, options: Conv2dOptions = {}): Tensor {
  return x.device.run1('conv2d', { x, weight, ...options });
}

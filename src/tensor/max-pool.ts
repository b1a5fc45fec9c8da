import type { Tensor } from './tensor';

/**
 * The largest value of each window; padding never wins.
 * @param x [N, H, W, C]
 */
export function maxPool(x: Tensor, window: { kernel: number; stride: number; padding: number }): Tensor {
  return x.device.run1('max_pool', { x, ...window });
}

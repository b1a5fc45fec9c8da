import type { Tensor } from './tensor';

/** Per channel, [C], float32. */
export interface BatchNormStatistics {
  weight: Tensor;
  bias: Tensor;
  mean: Tensor;
  variance: Tensor;
}

/**
 * `relu((x − mean) / √(variance + epsilon) · weight + bias + residual)` with given statistics.
 * @param x [N, H, W, C]
 */
export function batchNorm(
  x: Tensor,
  statistics: BatchNormStatistics,
  options: { residual?: Tensor; relu?: boolean; epsilon?: number } = {},
): Tensor {
  return x.device.run1('batch_norm', { x, ...statistics, ...options });
}

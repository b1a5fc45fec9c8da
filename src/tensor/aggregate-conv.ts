import type { GridSource } from './crop-resize';
import type { Tensor } from './tensor';

export interface AggregateConvOptions {
  /** [K], float32. */
  bias?: Tensor;
  /** Added before the ReLU; of the output's shape. */
  addend?: Tensor;
  /** The input channel of the weight at which the sources begin; default 0. */
  first?: number;
  relu?: boolean;
}

/**
 * A convolution with "same" padding over the channel concatenation of maps that live on different grids, without
 * building the concatenation or the resized maps.
 * @param sources of one height and width on the target grid
 * @param weight [K, C, k, k], k odd
 * @returns [N, height, width, K]
 */
export function aggregateConv(
  sources: readonly GridSource[],
  weight: Tensor,
  options: AggregateConvOptions = {},
): Tensor {
  return weight.device.run1('aggregate_conv', { sources, weight, ...options });
}

import type { Tensor } from './tensor';

/** The sum of the squares of each tensor's elements: [inputs], float32. NaN and infinity stay in their tensor's sum. */
export function sumOfSquares(inputs: readonly Tensor[]): Tensor {
  return inputs[0]!.device.run1('sum_of_squares', { inputs });
}

import type { Tensor } from './tensor';

/** Joins maps, [N, H, W, C_i], along their channels. */
export function concat(inputs: readonly Tensor[]): Tensor {
  return inputs[0]!.device.run1('concat', { inputs });
}

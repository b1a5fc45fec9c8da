import { differentiate } from './autograd';
import type { Tensor } from './tensor';

/** Joins maps, [N, H, W, C_i], along their channels. */
export function concat(inputs: readonly Tensor[]): Tensor {
  const y = inputs[0]!.device.run1('concat', { inputs });
  differentiate(y, inputs, () => {
    const counts = inputs.map((input) => input.dim(3));
    return (dy, gradients) => {
      let first = 0;
      for (const [i, count] of counts.entries()) {
        gradients[i]?.add(dy.device.run1('slice', { x: dy, first, count }));
        first += count;
      }
    };
  });
  return y;
}

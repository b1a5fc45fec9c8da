import type { Tensor } from './tensor';

/** Softmax over the last dimension. */
export function softmax(x: Tensor): Tensor {
  return x.device.run1('softmax', { x });
}

import type { Tensor } from './tensor';

/** Index of the largest value over the last dimension, uint8; the first of equal ones. */
export function argmax(x: Tensor): Tensor {
  return x.device.run1('argmax', { x });
}

import type { Tensor } from './tensor';

/** `max(x, 0)`. */
export function relu(x: Tensor): Tensor {
  return x.device.run1('relu', { x });
}

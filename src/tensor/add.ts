import type { Tensor } from './tensor';

/** `a + b`, of one shape. */
export function add(a: Tensor, b: Tensor): Tensor {
  return a.device.run1('add', { a, b });
}

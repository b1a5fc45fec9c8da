import { accumulate } from './accumulate';
import { differentiate } from './autograd';
import type { Tensor } from './tensor';

/** `a + b`, of one shape. */
export function add(a: Tensor, b: Tensor): Tensor {
  const y = a.device.run1('add', { a, b });
  differentiate(y, [a, b], () => (dy, [da, db]) => {
    if (da && db) {
      const copy = dy.device.zeros(dy.shape, dy.dtype);
      accumulate(copy, dy);
      da.add(copy);
    }
    (db ?? da)!.add(dy);
  });
  return y;
}

import { differentiate } from './autograd';
import type { Tensor } from './tensor';

/**
 * The largest value of each window; padding never wins. The gradient goes to the first of equal ones.
 * @param x [N, H, W, C]
 */
export function maxPool(x: Tensor, window: { kernel: number; stride: number; padding: number }): Tensor {
  const y = x.device.run1('max_pool', { x, ...window });
  differentiate(y, [x], ({ keep }) => {
    const input = keep(x);
    return (dy, [dx]) => dx!.add(dy.device.run1('max_pool_backward', { dy, x: input, ...window }));
  });
  return y;
}

import type { Tensor } from './tensor';

/** `sum += x`, in place; of one shape, float32. */
export function accumulate(sum: Tensor, x: Tensor): void {
  sum.device.run('accumulate', { sum, x });
}

import type { Tensor } from './tensor';

/** The same values in another floating dtype, rounded to nearest even. */
export function cast(x: Tensor, dtype: 'float32' | 'bfloat16'): Tensor {
  return x.device.run1('cast', { x, dtype });
}

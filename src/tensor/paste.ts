import { refuseGradient } from './autograd';
import type { Tensor } from './tensor';

export interface PasteOptions {
  /** Rows of y between those that the upper and the lower half of x go to; columns likewise. Default 0. */
  skipRows?: number;
  skipColumns?: number;
  /** x is added to what is there, in float32 or bfloat16. Default false. */
  add?: boolean;
  /** Rows of x are columns of y. Default false. */
  transposed?: boolean;
}

/**
 * Writes a map over a part of a larger one, in place. Has no gradient.
 * @param y [N, H, W, C]
 * @param x [N, h, w, C], or transposed [N, w, h, C]; within y
 * @param top row of y that the first goes to
 * @param left column
 */
export function paste(y: Tensor, x: Tensor, top: number, left: number, options: PasteOptions = {}): void {
  refuseGradient('paste', [y, x]);
  y.device.run('paste', { y, x, top, left, ...options });
}

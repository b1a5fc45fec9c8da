import { refuseGradient } from './autograd';
import type { Tensor } from './tensor';

/**
 * Writes a map over a part of a larger one, in place. Has no gradient.
 * @param y [N, H, W, C]
 * @param x [N, h, w, C], within y
 */
export function paste(y: Tensor, x: Tensor, top: number, left: number): void {
  refuseGradient('paste', [y, x]);
  y.device.run('paste', { y, x, top, left });
}

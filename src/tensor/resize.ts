import { differentiate, refuseGradient } from './autograd';
import { cropResizeBackward } from './crop-resize';
import type { Tensor } from './tensor';

/**
 * Resizes maps: bilinear with half-pixel centres, no corner alignment and no antialiasing, or nearest, which has no
 * gradient.
 * @param x [N, H, W, C]
 */
export function resize(
  x: Tensor,
  height: number,
  width: number,
  interpolation: 'bilinear' | 'nearest' = 'bilinear',
): Tensor {
  const y = x.device.run1('resize', { x, height, width, interpolation });
  if (interpolation === 'nearest') refuseGradient('resize by nearest neighbour', [x]);
  const source = { x, sizes: [height, width] };
  differentiate(y, [x], () => cropResizeBackward(source));
  return y;
}

import type { Tensor } from './tensor';

/**
 * Resizes maps: bilinear with half-pixel centres, no corner alignment and no antialiasing, or nearest.
 * @param x [N, H, W, C]
 */
export function resize(
  x: Tensor,
  height: number,
  width: number,
  interpolation: 'bilinear' | 'nearest' = 'bilinear',
): Tensor {
  return x.device.run1('resize', { x, height, width, interpolation });
}

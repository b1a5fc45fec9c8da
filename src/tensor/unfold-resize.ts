import { refuseGradient } from './autograd';
import type { GridSource } from './crop-resize';
import type { Tensor } from './tensor';

/**
 * The neighbourhood of each pixel of a map, resized bilinearly, one tap of a kernel after the other, with zeros around
 * the map. A 1x1 convolution of it is the resized result of a convolution of the map with "same" padding. Has no gradient.
 * @param source [N, H, W, C] on its target grid, without a window
 * @param kernel its side, odd
 * @returns [N, height, width, kernel · kernel · C]
 */
export function unfoldResize(source: GridSource, kernel: number, height: number, width: number): Tensor {
  refuseGradient('unfold_resize', [source.x]);
  return source.x.device.run1('unfold_resize', { source, kernel, height, width });
}

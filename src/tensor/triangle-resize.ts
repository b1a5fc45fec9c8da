import type { OpArguments } from './device';
import type { Tensor } from './tensor';

/**
 * The antialiased 8-bit resize (Pillow's BILINEAR), streaming: adds a band of an image's rows to `sum`
 * ([height, width, C], int32), in place. Returns the image so far; it is complete after the last band.
 */
export function triangleResize(args: OpArguments<'triangle_resize'>): Tensor {
  return args.x.device.run1('triangle_resize', args);
}

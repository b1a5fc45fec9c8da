import type { OpArguments } from './device';
import type { Tensor } from './tensor';

/**
 * Cuts patches out of 8-bit pixels, [H, W, C], and decodes them to [0, 1]; past the right and bottom edge they are
 * mirrored. `turn` is one of the eight flips and quarter turns: `turn & 4` mirrors left and right, then
 * `turn & 3` quarters anticlockwise.
 */
export function decodePatches(args: OpArguments<'decode_patches'>): Tensor {
  return args.x.device.run1('decode_patches', args);
}

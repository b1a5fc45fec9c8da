import type { OpArguments } from './device';
import type { Tensor } from './tensor';

/**
 * A map as seen from another grid: a crop for each patch, then bilinear resizes one after the other. With crops,
 * `x` is one map, [1, H, W, C], and `tops` and `lefts` have an entry for each patch.
 */
export type GridSource = OpArguments<'crop_resize'>['source'];

/** Builds what a {@link GridSource} describes: [patches, height, width, C]. */
export function cropResize(source: GridSource): Tensor {
  return source.x.device.run1('crop_resize', { source });
}

import { GlnetError } from '../errors';
import { type Backward, differentiate } from './autograd';
import type { OpArguments } from './device';
import type { Tensor } from './tensor';

/**
 * A map as seen from another grid: a crop for each patch, then bilinear resizes one after the other. With crops,
 * `x` is one map, [1, H, W, C], and `tops` and `lefts` have an entry for each patch. Last, a window of the grid may be
 * meant, which may reach beyond it into zeros; that has no gradient.
 */
export type GridSource = OpArguments<'crop_resize'>['source'];

/** Where a {@link GridSource} lies and what size it has, without its data. */
export type SourceGeometry = OpArguments<'crop_resize_backward'>['source'];

/** @throws GlnetError ERR_INVALID_ARGUMENT if it has a window: that has no gradient. */
export function geometryOf(source: GridSource): SourceGeometry {
  const { x, windowTop, windowLeft, windowHeight, windowWidth, ...rest } = source;
  if (windowHeight) throw new GlnetError('ERR_INVALID_ARGUMENT', 'a window of a map has no gradient');
  const [batch, height, width, channels] = x.shape as [number, number, number, number];
  return { ...rest, batch, height, width, channels };
}

/** Builds what a {@link GridSource} describes: [patches, height, width, C]. */
export function cropResize(source: GridSource): Tensor {
  const y = source.x.device.run1('crop_resize', { source });
  differentiate(y, [source.x], () => cropResizeBackward(source));
  return y;
}

/** The backward pass of a source's crops and resizes. */
export function cropResizeBackward(source: GridSource): Backward {
  const geometry = geometryOf(source);
  return (dy, [dx]) =>
    dx!.replace((addend) =>
      dy.device.run1('crop_resize_backward', { dy, source: geometry, ...(addend && { addend }) }),
    );
}

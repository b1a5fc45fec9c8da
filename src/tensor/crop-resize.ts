import { GlnetError } from '../errors';
import { type Backward, differentiate } from './autograd';
import type { OpArguments } from './device';
import type { Tensor } from './tensor';

/**
 * A map as seen from another grid: a crop for each patch, then bilinear resizes one after the other. With crops,
 * `x` is one map, [1, H, W, C], and `tops` and `lefts` have an entry for each patch. Last, a window of the grid may be
 * meant, which may reach beyond it into zeros, and between whose upper and lower half `windowSkipRows` rows are left
 * out, likewise columns; that has no gradient.
 */
export type GridSource = OpArguments<'crop_resize'>['sources'][number];

/** Where a {@link GridSource} lies and what size it has, without its data. */
export type SourceGeometry = OpArguments<'crop_resize_backward'>['source'];

/** @throws GlnetError ERR_INVALID_ARGUMENT if it has a window: that has no gradient. */
export function geometryOf(source: GridSource): SourceGeometry {
  const { x, windowTop, windowLeft, windowHeight, windowWidth, windowSkipRows, windowSkipColumns, ...rest } =
    source;
  if (windowHeight) throw new GlnetError('ERR_INVALID_ARGUMENT', 'a window of a map has no gradient');
  const [batch, height, width, channels] = x.shape as [number, number, number, number];
  return { ...rest, batch, height, width, channels };
}

/**
 * Builds what {@link GridSource}s describe, side by side: [patches, height, width, all their channels]. Of several, there
 * is no gradient.
 * @param sources of one height and width on the target grid
 */
export function cropResize(sources: readonly GridSource[]): Tensor {
  const [source] = sources;
  if (!source) throw new GlnetError('ERR_INVALID_ARGUMENT', 'there is no source');
  const y = source.x.device.run1('crop_resize', { sources });
  differentiate(
    y,
    sources.map(({ x }) => x),
    () => {
      if (sources.length > 1)
        throw new GlnetError('ERR_INVALID_ARGUMENT', 'several sources together have no gradient');
      return cropResizeBackward(source);
    },
  );
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

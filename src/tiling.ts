/**
 * The patch grid that covers an image, and where a patch lies on a map of another resolution. Every rounding is
 * half to even and every product is formed in the order of the reference implementation, so that patches and
 * crops fall on the same pixels as there.
 */
import { GlnetError } from './errors';

/** Least overlap of neighbouring patches along an axis, in pixels. */
export const MIN_OVERLAP = 50;

/** Square patches over an image, ordered row by row: patch `i` is at row `i / columns.length`, rounded down. */
export interface PatchGrid {
  /** Side of a patch, in pixels. */
  readonly patch: number;
  /** Size of the image, in pixels. */
  readonly width: number;
  readonly height: number;
  /** Size after padding on the right and bottom: at least one patch along each axis. */
  readonly paddedWidth: number;
  readonly paddedHeight: number;
  /** Top of each row of patches, ascending. */
  readonly rows: readonly number[];
  /** Left of each column of patches, ascending. */
  readonly columns: readonly number[];
  /** How many patches there are: `rows.length * columns.length`. */
  readonly count: number;
}

/** A rectangle of whole pixels. */
export interface Rect {
  readonly top: number;
  readonly left: number;
  readonly width: number;
  readonly height: number;
}

/** Rounds to the nearest integer, ties to the even one. */
function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const fraction = value - floor;
  if (fraction !== 0.5) return fraction < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

function checkPatch(patch: number): void {
  if (!Number.isInteger(patch) || patch % 4 !== 0 || patch <= MIN_OVERLAP) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `patch is ${patch}; expected a multiple of 4 of at least ${MIN_OVERLAP + 2} pixels, because neighbouring patches overlap by ${MIN_OVERLAP} or more`,
    );
  }
}

function checkLength(name: string, length: number): void {
  if (!Number.isSafeInteger(length) || length < 1) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `${name} is ${length}; expected a positive whole number of pixels`,
    );
  }
}

/**
 * Starts of the patches along one axis.
 *
 * @param length Pixels along the axis, at least 1.
 * @param patch Side of a patch: a multiple of 4, at least 52.
 * @returns Ascending starts; the first is 0 and the last `length - patch`, or `[0]` if one patch covers the axis.
 * @throws {GlnetError} ERR_INVALID_ARGUMENT for a length or a patch out of range.
 */
export function axisStarts(length: number, patch: number): number[] {
  checkLength('length', length);
  checkPatch(patch);
  if (length <= patch) return [0];
  const span = length - patch;
  // The least n with n·patch >= length and a step of span / (n - 1) <= patch - MIN_OVERLAP.
  const count = Math.max(Math.ceil(length / patch), Math.ceil(span / (patch - MIN_OVERLAP)) + 1);
  const step = span / (count - 1);
  return Array.from({ length: count }, (_, k) => (k < count - 1 ? roundHalfEven(k * step) : span));
}

/**
 * Lays patches over an image. An axis shorter than a patch is padded to one patch.
 *
 * @throws {GlnetError} ERR_INVALID_ARGUMENT for a size or a patch out of range (see {@link axisStarts}).
 */
export function patchGrid(width: number, height: number, patch: number): PatchGrid {
  checkLength('width', width);
  checkLength('height', height);
  const rows = axisStarts(height, patch);
  const columns = axisStarts(width, patch);
  return {
    patch,
    width,
    height,
    paddedWidth: Math.max(width, patch),
    paddedHeight: Math.max(height, patch),
    rows,
    columns,
    count: rows.length * columns.length,
  };
}

/**
 * Lays patches over a box of an image only, for coarse-to-fine segmentation. Positions are the image's, so that crops of
 * maps of the whole image follow from them as ever.
 *
 * @param box Inside the image.
 * @throws {GlnetError} ERR_INVALID_ARGUMENT for a size or a patch out of range (see {@link axisStarts}).
 */
export function boxGrid(width: number, height: number, patch: number, box: Rect): PatchGrid {
  const starts = (length: number, start: number, extent: number): number[] => {
    if (length <= patch) return axisStarts(length, patch);
    if (extent > patch) return axisStarts(extent, patch).map((offset) => start + offset);
    // One patch, the box in its middle where the image has room.
    return [Math.min(Math.max(start + Math.round((extent - patch) / 2), 0), length - patch)];
  };
  const rows = starts(height, box.top, box.height);
  const columns = starts(width, box.left, box.width);
  return { ...patchGrid(width, height, patch), rows, columns, count: rows.length * columns.length };
}

/**
 * Where patch `index` lies on the padded image.
 *
 * @throws {GlnetError} ERR_INVALID_ARGUMENT unless 0 <= index < grid.count.
 */
export function patchRect(grid: PatchGrid, index: number): Rect {
  const top = grid.rows[Math.floor(index / grid.columns.length)];
  const left = grid.columns[index % grid.columns.length];
  if (top === undefined || left === undefined) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `patch index is ${index}; expected a whole number from 0 to ${grid.count - 1}`,
    );
  }
  return { top, left, width: grid.patch, height: grid.patch };
}

function cropAxis(start: number, patch: number, length: number, mapLength: number): [number, number] {
  const size = Math.min(Math.max(roundHalfEven(mapLength * (patch / length)), 1), mapLength);
  return [Math.min(roundHalfEven((start / length) * mapLength), mapLength - size), size];
}

/**
 * Where patch `index` lies on a map of the whole (padded) image: the crop that global-to-local sharing takes and
 * local-to-global merging writes. At least one pixel, and always inside the map.
 *
 * @param mapWidth Columns of the map, at least 1.
 * @param mapHeight Rows of the map, at least 1.
 * @throws {GlnetError} ERR_INVALID_ARGUMENT for an index or a map size out of range.
 */
export function cropOf(grid: PatchGrid, index: number, mapWidth: number, mapHeight: number): Rect {
  checkLength('mapWidth', mapWidth);
  checkLength('mapHeight', mapHeight);
  const rect = patchRect(grid, index);
  const [top, height] = cropAxis(rect.top, grid.patch, grid.paddedHeight, mapHeight);
  const [left, width] = cropAxis(rect.left, grid.patch, grid.paddedWidth, mapWidth);
  return { top, left, width, height };
}

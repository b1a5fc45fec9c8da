/**
 * Coarse to fine (GLNet, CVPR 2019): the global branch alone finds the foreground of the whole image, and patches are
 * laid over its bounding box only. The background is class 0.
 */
import type { Rect } from '../tiling';

/** How much the box of the foreground is widened on each side, as a share of its longer side. */
export interface CoarseToFine {
  readonly margin: number;
}

export const defaultCoarseToFine: CoarseToFine = { margin: 0.1 };

/** What was computed at full resolution. */
export interface Refinement {
  /** The box, in the image's pixels; undefined if there was no foreground. */
  readonly box: Rect | undefined;
  /** Share of the image's pixels inside the box. */
  readonly share: number;
  /** Patches that were laid, and how many the whole image would have had. */
  readonly patches: number;
  readonly allPatches: number;
}

/**
 * The box around all foreground.
 * @param labels row by row; 0 and `ignored` are no foreground
 * @returns undefined if there is none
 */
export function foregroundBox(
  labels: Uint8Array,
  columns: number,
  rows: number,
  ignored = 255,
): Rect | undefined {
  let [top, bottom, left, right] = [rows, -1, columns, -1];
  for (let row = 0, i = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, i++) {
      const label = labels[i]!;
      if (label === 0 || label === ignored) continue;
      if (row < top) top = row;
      bottom = row;
      if (column < left) left = column;
      if (column > right) right = column;
    }
  }
  if (bottom < 0) return undefined;
  return { top, left, width: right - left + 1, height: bottom - top + 1 };
}

/**
 * A box of a `columns` x `rows` grid, widened, in the pixels of the `width` x `height` image that the grid covers.
 */
export function refinedBox(
  box: Rect,
  [columns, rows]: readonly [number, number],
  [width, height]: readonly [number, number],
  { margin }: CoarseToFine,
): Rect {
  const scale: readonly [number, number] = [width / columns, height / rows];
  const widened = margin * Math.max(box.width * scale[0], box.height * scale[1]);
  const along = (start: number, extent: number, factor: number, length: number): [number, number] => {
    const first = Math.max(Math.floor(start * factor - widened), 0);
    const last = Math.min(Math.ceil((start + extent) * factor + widened), length);
    return [first, last - first];
  };
  const [left, w] = along(box.left, box.width, scale[0], width);
  const [top, h] = along(box.top, box.height, scale[1], height);
  return { top, left, width: w, height: h };
}

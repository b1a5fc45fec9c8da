/** The eight flips and quarter turns of an image (native/ops/turn.h), for rectangles. */
import type { Window } from '../raster/raster';

/** All eight; the first leaves the image as it is. */
export const allTurns: readonly number[] = [0, 1, 2, 3, 4, 5, 6, 7];

/** Whether a turned image has width and height exchanged. */
export function swapsSides(turn: number): boolean {
  return (turn & 1) === 1;
}

/** The rectangle of a `width` x `height` image that is `window` of its turned version. */
export function turnedWindow(turn: number, width: number, height: number, window: Window): Window {
  // As in native/ops/turn.h, with the far edges instead of the last pixels.
  const { top, left } = window;
  const bottom = top + window.height;
  const right = left + window.width;
  const [firstRow, lastRow, firstColumn, lastColumn] = (
    [
      [top, bottom, left, right],
      [left, right, width - bottom, width - top],
      [height - bottom, height - top, width - right, width - left],
      [height - right, height - left, top, bottom],
    ] as const
  )[(turn & 3) as 0 | 1 | 2 | 3];
  return {
    top: firstRow,
    left: turn & 4 ? width - lastColumn : firstColumn,
    width: lastColumn - firstColumn,
    height: lastRow - firstRow,
  };
}

/** The rectangle of a turned `width` x `height` image that is `window` of the image itself. */
export function windowInTurned(turn: number, width: number, height: number, window: Window): Window {
  const { top, height: rows, width: columns } = window;
  const left = turn & 4 ? width - (window.left + columns) : window.left;
  const right = width - (left + columns);
  const bottom = height - (top + rows);
  switch (turn & 3) {
    case 1:
      return { top: right, left: top, width: rows, height: columns };
    case 2:
      return { top: bottom, left: right, width: columns, height: rows };
    case 3:
      return { top: left, left: bottom, width: rows, height: columns };
    default:
      return { top, left, width: columns, height: rows };
  }
}

/** Labels of a turned scene on a coarser grid. */
import { GlnetError } from '../errors';
import type { Window } from '../raster/raster';
import { ignoredLabel } from './dataset';

/**
 * Samples the labels under a window of the turned scene at `rows` x `columns` points, by nearest neighbour: row `i`
 * takes the window's row floor((i + 0.5) * window.height / rows), and columns likewise. For a factor of 4 these are
 * the pixels 4i + 2.
 *
 * @param labels height * width class indices of the scene as it is, not turned.
 * @param turn 0 to 7, see native/ops/turn.h.
 * @param window In pixels of the turned scene; it may reach beyond it.
 * @returns rows * columns class indices; {@link ignoredLabel} (255) outside the scene.
 * @throws {GlnetError} ERR_INVALID_ARGUMENT for sizes or a turn out of range.
 */
export function labelsOnGrid(
  labels: Uint8Array,
  width: number,
  height: number,
  turn: number,
  window: Window,
  rows: number,
  columns: number,
): Uint8Array {
  const whole = [width, height, window.width, window.height, rows, columns];
  if (!whole.every((n) => Number.isInteger(n) && n >= 1) || labels.length !== width * height) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `labels: ${labels.length} values for ${width}x${height} pixels, a window of ${window.width}x${window.height} ` +
        `and a grid of ${columns}x${rows}; expected whole numbers from 1, and a value for each pixel`,
    );
  }
  if (!Number.isInteger(turn) || turn < 0 || turn > 7) {
    throw new GlnetError('ERR_INVALID_ARGUMENT', `turn is ${turn}; expected 0 to 7`);
  }
  const swapped = (turn & 1) === 1;
  const xs = gridPoints(window.left, window.width, columns, swapped ? height : width);
  const ys = gridPoints(window.top, window.height, rows, swapped ? width : height);
  // Where a turned pixel comes from is linear in its place.
  const source = (y: number, x: number): number => {
    const [row, column] = turnSource(turn, height, width, y, x);
    return row * width + column;
  };
  const origin = source(0, 0);
  const stepY = source(1, 0) - origin;
  const stepX = source(0, 1) - origin;
  const grid = new Uint8Array(rows * columns).fill(ignoredLabel);
  ys.forEach((y, i) => {
    if (y < 0) return;
    for (let j = 0; j < columns; j++) {
      const x = xs[j]!;
      if (x >= 0) grid[i * columns + j] = labels[origin + y * stepY + x * stepX]!;
    }
  });
  return grid;
}

/** Pixels of a turned side that the points of the grid take; -1 outside. */
function gridPoints(start: number, length: number, count: number, side: number): Int32Array {
  return Int32Array.from({ length: count }, (_, i) => {
    const at = start + Math.floor(((2 * i + 1) * length) / (2 * count));
    return at >= 0 && at < side ? at : -1;
  });
}

/** The pixel (row, column) of a scene that lies at (y, x) of its turned version, as in native/ops/turn.h. */
function turnSource(turn: number, height: number, width: number, y: number, x: number): [number, number] {
  const [row, column] = (
    [
      [y, x],
      [x, width - 1 - y],
      [height - 1 - y, width - 1 - x],
      [height - 1 - x, y],
    ] as const
  )[(turn & 3) as 0 | 1 | 2 | 3];
  return [row, turn & 4 ? width - 1 - column : column];
}

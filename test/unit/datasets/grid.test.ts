import { labelsOnGrid } from '../../../src/datasets/grid';

const width = 13;
const height = 7;
const labels = Uint8Array.from({ length: width * height }, (_, i) => (i * 37) % 251);
const rows = Array.from({ length: height }, (_, y) =>
  Array.from(labels.subarray(y * width, (y + 1) * width)),
);

const mirrored = (image: number[][]) => image.map((row) => [...row].reverse());
/** The right column becomes the upper row. */
const anticlockwise = (image: number[][]) => image[0]!.map((_, x) => image.map((row) => row.at(-1 - x)!));

/** Mirrored left to right with `turn & 4`, then turned by `turn & 3` quarters. */
function turned(turn: number): number[][] {
  let image = turn & 4 ? mirrored(rows) : rows;
  for (let i = 0; i < (turn & 3); i++) image = anticlockwise(image);
  return image;
}

describe.each([0, 1, 2, 3, 4, 5, 6, 7])('turn %i', (turn) => {
  const image = turned(turn);
  const whole = { left: 0, top: 0, width: image[0]!.length, height: image.length };

  test('the whole scene at its own size is the scene turned', () => {
    const grid = labelsOnGrid(labels, width, height, turn, whole, whole.height, whole.width);
    expect(Array.from(grid)).toEqual(image.flat());
  });

  test.each([
    ['a quarter of the size', { left: 0, top: 0, width: 4, height: 4 }, 1, 1],
    ['inside', { left: 2, top: 1, width: 5, height: 4 }, 2, 3],
    ['finer than the scene', { left: 1, top: 2, width: 3, height: 2 }, 7, 5],
    ['beyond the right and the bottom', { left: 4, top: 3, width: 20, height: 24 }, 6, 5],
    ['beyond the left and the top', { left: -3, top: -5, width: 9, height: 8 }, 8, 9],
    ['apart', { left: 50, top: 0, width: 4, height: 4 }, 2, 2],
  ])('a window %s', (_, window, gridRows, columns) => {
    const expected: number[] = [];
    for (let i = 0; i < gridRows; i++) {
      for (let j = 0; j < columns; j++) {
        const y = window.top + Math.floor(((i + 0.5) * window.height) / gridRows);
        const x = window.left + Math.floor(((j + 0.5) * window.width) / columns);
        expected.push(image[y]?.[x] ?? 255);
      }
    }
    const grid = labelsOnGrid(labels, width, height, turn, window, gridRows, columns);
    expect(Array.from(grid)).toEqual(expected);
  });
});

test('a factor of 4 takes pixels 4i + 2', () => {
  const line = Uint8Array.from({ length: 12 }, (_, i) => i);
  const window = { left: 0, top: 0, width: 12, height: 1 };
  expect(Array.from(labelsOnGrid(line, 12, 1, 0, window, 1, 3))).toEqual([2, 6, 10]);
});

test.each([
  [
    'labels of another size',
    () => labelsOnGrid(labels, 12, 7, 0, { left: 0, top: 0, width: 1, height: 1 }, 1, 1),
    /91 values for 12x7/,
  ],
  [
    'no rows',
    () => labelsOnGrid(labels, 13, 7, 0, { left: 0, top: 0, width: 1, height: 1 }, 0, 1),
    /a grid of 1x0/,
  ],
  [
    'a turn out of range',
    () => labelsOnGrid(labels, 13, 7, 8, { left: 0, top: 0, width: 1, height: 1 }, 1, 1),
    /turn is 8/,
  ],
])('refuses %s', (_, call, message) => {
  expect(call).toThrow(
    expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT', message: expect.stringMatching(message) }),
  );
});

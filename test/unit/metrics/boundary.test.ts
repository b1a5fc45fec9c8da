import { BoundaryScore } from '../../../src/metrics/boundary';

/** A map from lines of digits; `.` is ignored. */
function map(...lines: string[]): Uint8Array {
  return Uint8Array.from(lines.join(''), (c) => (c === '.' ? 255 : Number(c)));
}

/** Random blobs, so that boundaries are long and ragged. */
function blobs(width: number, height: number, classes: number, cell: number, seed: number): Uint8Array {
  let state = seed;
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  const columns = Math.ceil(width / cell);
  const cells = Array.from({ length: columns * Math.ceil(height / cell) }, () => {
    const value = Math.floor(random() * (classes + 0.5));
    return value < classes ? value : 255;
  });
  return Uint8Array.from({ length: width * height }, (_, i) => {
    const [x, y] = [i % width, Math.floor(i / width)];
    return cells[Math.floor(y / cell) * columns + Math.floor(x / cell)]!;
  });
}

interface Point {
  x: number;
  y: number;
}

/** The definition, word for word: every pair of boundary pixels is compared. */
function bruteForce(labels: Uint8Array, truth: Uint8Array, width: number, classes: number, radius: number) {
  const height = truth.length / width;
  const boundary = (of: Uint8Array, index: number): Point[] => {
    const points: Point[] = [];
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        if (of[y * width + x] !== index || truth[y * width + x]! >= classes) continue;
        const differs = [
          [x - 1, y],
          [x + 1, y],
          [x, y - 1],
          [x, y + 1],
        ].some(([u, v]) => {
          const inside = u! >= 0 && v! >= 0 && u! < width && v! < height;
          return inside && truth[v! * width + u!]! < classes && of[v! * width + u!] !== index;
        });
        if (differs) points.push({ x, y });
      }
    }
    return points;
  };
  const share = (of: Point[], others: Point[]) => {
    const near = of.filter((a) => others.some((b) => (a.x - b.x) ** 2 + (a.y - b.y) ** 2 <= radius ** 2));
    return of.length > 0 ? near.length / of.length : 0;
  };
  const all = Array.from({ length: classes }, (_, index) => [
    boundary(labels, index),
    boundary(truth, index),
  ]);
  return {
    precision: all.map(([a, b]) => share(a!, b!)),
    recall: all.map(([a, b]) => share(b!, a!)),
  };
}

test('a shifted outline matches within the tolerance and not beyond', () => {
  const truth = map('0011111', '0011111', '0011111');
  const labels = map('0000111', '0000111', '0000111');
  const near = new BoundaryScore(2);
  near.add(labels, truth, 7, 2);
  expect([near.precision(), near.recall(), near.fScore(), near.meanFScore()]).toEqual([
    [1, 1],
    [1, 1],
    [1, 1],
    1,
  ]);
  const far = new BoundaryScore(2);
  far.add(labels, truth, 7, 1.9);
  expect([far.precision(), far.recall(), far.fScore(), far.meanFScore()]).toEqual([
    [0, 0],
    [0, 0],
    [0, 0],
    0,
  ]);
});

test('precision and recall are not the same: outlines that are too many, and that are missing', () => {
  const truth = map('0111111', '0111111');
  const labels = map('0111101', '0111111');
  const score = new BoundaryScore(2);
  score.add(labels, truth, 7, 0);
  // The hole at column 5 is one pixel of class 0, with three of class 1 around it.
  expect(score.precision()).toEqual([2 / 3, 2 / 5]);
  expect(score.recall()).toEqual([1, 1]);
  expect(score.fScore()[0]).toBeCloseTo(0.8, 12);
  expect(score.meanFScore([1])).toBeCloseTo(0.8, 12);
});

test('what is ignored makes no boundary, whatever the labels there', () => {
  const truth = map('00...11', '00...11');
  const score = new BoundaryScore(2);
  score.add(map('0010111', '0001111'), truth, 7, 3);
  expect([score.fScore(), score.meanFScore()]).toEqual([[0, 0], 0]);
});

test('a class without an outline in both does not count in the mean; one in either does', () => {
  const score = new BoundaryScore(4);
  score.add(map('0012'), map('0011'), 4, 0);
  expect(score.fScore()).toEqual([1, 1, 0, 0]);
  expect(score.meanFScore()).toBeCloseTo(2 / 3, 12);
});

test.each([
  [31, 33, 1],
  [33, 31, 2.5],
  [1, 47, 3],
  [47, 1, 5],
  [29, 37, 0],
  [23, 19, 100],
])('equals the definition on ragged maps of %i x %i with tolerance %d', (width, height, radius) => {
  const truth = blobs(width, height, 3, 4, 1);
  const labels = blobs(width, height, 3, 3, 2).map((value) => value % 3);
  const score = new BoundaryScore(3);
  score.add(labels, truth, width, radius);
  const expected = bruteForce(labels, truth, width, 3, radius);
  expect({ precision: score.precision(), recall: score.recall() }).toEqual(expected);
  expect(Math.max(...score.precision())).toBeGreaterThan(0);
});

test('the default tolerance is 0.75 % of the diagonal, and at least one pixel', () => {
  const row = (length: number, at: number) => Uint8Array.from({ length }, (_, i) => (i < at ? 0 : 1));
  const shifted = (length: number, by: number) => {
    const score = new BoundaryScore(2);
    score.add(row(length, 10 + by), row(length, 10), length);
    return score.meanFScore();
  };
  expect([shifted(20, 1), shifted(20, 2)]).toEqual([1, 0]);
  expect([shifted(1000, 7), shifted(1000, 8)]).toEqual([1, 0]);
});

test('images add up and merge', () => {
  const pairs = [1, 2].map((seed) => [blobs(13, 17, 2, 3, seed), blobs(13, 17, 2, 4, seed + 5)] as const);
  const whole = new BoundaryScore(2);
  const merged = new BoundaryScore(2);
  for (const [labels, truth] of pairs) {
    whole.add(labels, truth, 13, 1);
    const part = new BoundaryScore(2);
    part.add(labels, truth, 13, 1);
    expect(part.fScore()).not.toEqual(merged.fScore());
    merged.merge(part);
  }
  expect([merged.precision(), merged.recall()]).toEqual([whole.precision(), whole.recall()]);
});

test('wrong arguments are refused by their values', () => {
  const score = new BoundaryScore(2);
  expect(() => new BoundaryScore(256)).toThrow(/classes is 256; expected 2 to 255/);
  expect(() => score.add(map('01'), map('011'), 3)).toThrow(/2 labels and 3 pixels of truth/);
  expect(() => score.add(map('010'), map('011'), 2)).toThrow(/whole rows of 2/);
  expect(() => score.add(map('01'), map('01'), 2, -1)).toThrow(
    /tolerance is -1; expected a number of pixels from 0/,
  );
  expect(() => score.merge(new BoundaryScore(3))).toThrow(/of 3 classes cannot be added to one of 2/);
});

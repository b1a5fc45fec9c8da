import { ConfusionMatrix } from '../../../src/metrics/confusion';

const bytes = (...values: number[]) => Uint8Array.from(values);

test('counts pairs; IoU, mean and accuracy follow', () => {
  const matrix = new ConfusionMatrix(3);
  matrix.add(bytes(0, 0, 1, 1, 2), bytes(0, 1, 1, 1, 0));
  expect([...matrix.counts]).toEqual([1, 0, 1, 1, 2, 0, 0, 0, 0]);
  expect(matrix.iou()).toEqual([1 / 3, 2 / 3, 0]);
  expect(matrix.meanIou()).toBeCloseTo(1 / 3, 12);
  expect(matrix.meanIou([0])).toBeCloseTo(1 / 3, 12);
  expect(matrix.meanIou([2])).toBeCloseTo(1 / 2, 12);
  expect(matrix.pixelAccuracy()).toBe(3 / 5);
});

test('precision, recall and F1 of each class', () => {
  const matrix = new ConfusionMatrix(4);
  // Truth 0 0 0 1 1 2; class 3 is in neither.
  matrix.add(bytes(0, 0, 1, 1, 0, 0), bytes(0, 0, 0, 1, 1, 2));
  expect(matrix.precision()).toEqual([2 / 4, 1 / 2, 0, 0]);
  expect(matrix.recall()).toEqual([2 / 3, 1 / 2, 0, 0]);
  expect(matrix.f1()).toEqual([4 / 7, 2 / 4, 0, 0]);
  expect(matrix.pixels()).toBe(6);
  expect(JSON.parse(JSON.stringify(matrix))).toEqual([
    [2, 1, 0, 0],
    [1, 1, 0, 0],
    [1, 0, 0, 0],
    [0, 0, 0, 0],
  ]);
});

test('matrices of several images merge into that of all', () => {
  const [whole, first, second] = [new ConfusionMatrix(2), new ConfusionMatrix(2), new ConfusionMatrix(2)];
  whole.add(bytes(0, 1, 1, 0), bytes(0, 1, 0, 1));
  first.add(bytes(0, 1, 1), bytes(0, 1, 0));
  second.add(bytes(0), bytes(1));
  first.merge(second);
  expect(first.counts).toEqual(whole.counts);
  expect(() => first.merge(new ConfusionMatrix(3))).toThrow(/of 3 classes cannot be added to one of 2/);
});

test('adds up over calls', () => {
  const [whole, parts] = [new ConfusionMatrix(2), new ConfusionMatrix(2)];
  whole.add(bytes(0, 1, 1, 0), bytes(0, 1, 0, 1));
  parts.add(bytes(0, 1), bytes(0, 1));
  parts.add(bytes(1, 0), bytes(0, 1));
  expect(parts.counts).toEqual(whole.counts);
  expect(parts.iou()).toEqual([1 / 3, 1 / 3]);
});

test('truth that is no class is ignored, whatever the label', () => {
  const matrix = new ConfusionMatrix(2);
  matrix.add(bytes(1, 0, 77), bytes(1, 255, 2));
  expect([...matrix.counts]).toEqual([0, 0, 0, 1]);
  expect(matrix.pixelAccuracy()).toBe(1);
});

test('nothing gives 0, not NaN', () => {
  const matrix = new ConfusionMatrix(2);
  expect([matrix.meanIou(), matrix.meanIou([0, 1]), matrix.pixelAccuracy(), ...matrix.iou()]).toEqual([
    0, 0, 0, 0, 0,
  ]);
});

test('wrong arguments are refused by their values', () => {
  const matrix = new ConfusionMatrix(2);
  expect(() => new ConfusionMatrix(1)).toThrow(/classes is 1; expected 2 to 255/);
  expect(() => matrix.add(bytes(0), bytes(0, 1))).toThrow(/1 labels for 2 pixels/);
  expect(() => matrix.add(bytes(0, 2), bytes(0, 1))).toThrow(/a label is 2; expected 0 to 1/);
  expect([...matrix.counts]).toEqual([0, 0, 0, 0]);
});

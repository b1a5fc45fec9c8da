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

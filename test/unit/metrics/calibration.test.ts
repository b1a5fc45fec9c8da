import { Calibration } from '../../../src/metrics/calibration';

const bytes = (...values: number[]) => Uint8Array.from(values);

test('intervals have their upper ends, and the error is weighted by their pixels', () => {
  const calibration = new Calibration(2);
  // 17 is 1/15, the upper end of the first interval of 15; 18 is in the second.
  calibration.add(bytes(0, 0, 1, 1, 1), bytes(17, 17, 18, 255, 255), bytes(0, 1, 1, 1, 0));
  const bins = calibration.reliability();
  expect(bins).toHaveLength(15);
  expect(bins[0]).toEqual({ pixels: 2, confidence: 34 / 255 / 2, accuracy: 1 / 2 });
  expect(bins[1]).toEqual({ pixels: 1, confidence: 18 / 255, accuracy: 1 });
  expect(bins[14]).toEqual({ pixels: 2, confidence: 1, accuracy: 1 / 2 });
  expect(bins[7]).toEqual({ pixels: 0, confidence: 0, accuracy: 0 });
  const expected = (2 * (1 / 2 - 17 / 255) + (1 - 18 / 255) + 2 * (1 - 1 / 2)) / 5;
  expect(calibration.expectedError()).toBeCloseTo(expected, 12);
  // In one interval: 3 of 5 right, at a mean confidence of 562 / 5 bytes.
  expect(calibration.expectedError(1)).toBeCloseTo(3 / 5 - 562 / 5 / 255, 12);
});

test('confidence that says what it means has no error, up to what a byte rounds off', () => {
  const calibration = new Calibration(2);
  for (let byte = 0; byte < 256; byte++) {
    const truth = Uint8Array.from({ length: 255 }, (_, i) => (i < byte ? 1 : 0));
    calibration.add(new Uint8Array(255).fill(1), new Uint8Array(255).fill(byte), truth);
  }
  expect(calibration.expectedError()).toBeLessThan(1e-12);
});

test('ignored pixels do not count; none give 0', () => {
  const calibration = new Calibration(2);
  expect(calibration.expectedError()).toBe(0);
  calibration.add(bytes(1, 1), bytes(200, 100), bytes(255, 2));
  expect(calibration.reliability().reduce((sum, { pixels }) => sum + pixels, 0)).toBe(0);
});

test('images merge into the same as all at once', () => {
  const [whole, first, second] = [new Calibration(3), new Calibration(3), new Calibration(3)];
  whole.add(bytes(0, 1, 2), bytes(90, 120, 250), bytes(0, 2, 2));
  first.add(bytes(0), bytes(90), bytes(0));
  second.add(bytes(1, 2), bytes(120, 250), bytes(2, 2));
  first.merge(second);
  expect(first.reliability()).toEqual(whole.reliability());
  expect(first.expectedError()).toBeGreaterThan(0);
});

test('wrong arguments are refused by their values', () => {
  const calibration = new Calibration(2);
  expect(() => calibration.add(bytes(0), bytes(0, 1), bytes(0))).toThrow(
    /1 labels and 2 confidences for 1 pixels/,
  );
  expect(() => calibration.reliability(0)).toThrow(/bins is 0; expected 1 to 255/);
});

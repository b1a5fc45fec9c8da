import {
  elementCount,
  fromFloat32,
  type HostTensor,
  toFloat16,
  toFloat32,
} from '../../../src/checkpoint/state-dict';

const tensor = (dtype: HostTensor['dtype'], values: ArrayBufferView & { length: number }): HostTensor => ({
  dtype,
  shape: [values.length],
  data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
});

describe('toFloat32', () => {
  test('converts every float16 exactly', () => {
    const halves = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const floats = toFloat32(tensor('float16', halves));
    for (let half = 0; half < 65536; half++) {
      const sign = half & 0x8000 ? -1 : 1;
      const exponent = (half >> 10) & 31;
      const fraction = half & 1023;
      const expected =
        exponent === 31
          ? fraction
            ? Number.NaN
            : sign * Number.POSITIVE_INFINITY
          : exponent === 0
            ? sign * fraction * 2 ** -24
            : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
      if (!Object.is(floats[half], expected)) throw new Error(`${half}: ${floats[half]}, not ${expected}`);
    }
  });

  test('converts bfloat16 exactly', () => {
    const values = [0, -0, 1, -2.5, 3.0517578125e-5, Number.POSITIVE_INFINITY, 2 ** -133];
    const halves = Uint16Array.from(
      values,
      (value) => new Uint32Array(Float32Array.of(value).buffer)[0]! >>> 16,
    );
    expect([...toFloat32(tensor('bfloat16', halves))]).toEqual(values);
    expect(toFloat32(tensor('bfloat16', Uint16Array.of(0xffc1)))[0]).toBeNaN();
  });

  test('rounds float64 and integers to the nearest float32', () => {
    expect([...toFloat32(tensor('float64', Float64Array.of(0.1, -1e300, 2)))]).toEqual([
      Math.fround(0.1),
      Number.NEGATIVE_INFINITY,
      2,
    ]);
    expect([...toFloat32(tensor('int64', BigInt64Array.of(42n, -(2n ** 62n))))]).toEqual([42, -(2 ** 62)]);
    expect([...toFloat32(tensor('int32', Int32Array.of(-7, 2 ** 24 + 1)))]).toEqual([-7, 2 ** 24]);
    expect([...toFloat32(tensor('int16', Int16Array.of(-300)))]).toEqual([-300]);
    expect([...toFloat32(tensor('int8', Int8Array.of(-3)))]).toEqual([-3]);
    expect([...toFloat32(tensor('uint8', Uint8Array.of(200)))]).toEqual([200]);
    expect([...toFloat32(tensor('bool', Uint8Array.of(0, 1)))]).toEqual([0, 1]);
  });

  test('reads unaligned bytes, and shares aligned float32', () => {
    const values = Float32Array.of(1.5, -2.25);
    const shifted = new Uint8Array(9);
    shifted.set(new Uint8Array(values.buffer), 1);
    const unaligned: HostTensor = { dtype: 'float32', shape: [2], data: shifted.subarray(1) };
    expect([...toFloat32(unaligned)]).toEqual([1.5, -2.25]);
    expect(toFloat32(fromFloat32([2], values)).buffer).toBe(values.buffer);
  });
});

test('elementCount is exact or no safe integer', () => {
  expect(elementCount([])).toBe(1);
  expect(elementCount([2, 3, 4])).toBe(24);
  expect(elementCount([2 ** 52, 2 ** 52, 2 ** 1000, 0])).toBe(0);
  expect(Number.isSafeInteger(elementCount([2 ** 30, 2 ** 30]))).toBe(false);
});

describe('toFloat16', () => {
  const halvesOf = (...values: number[]): number[] => {
    const { data } = toFloat16(fromFloat32([values.length], Float32Array.from(values)));
    return [...new Uint16Array(data.buffer, data.byteOffset, values.length)];
  };

  test('gives every float16 back', () => {
    const halves = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const again = halvesOf(...toFloat32(tensor('float16', halves)));
    const isNaNHalf = (half: number) => (half & 0x7fff) > 0x7c00;
    const wrong = again.filter((half, i) => (isNaNHalf(i) ? !isNaNHalf(half) : half !== i));
    expect(wrong).toEqual([]);
  });

  test('rounds to the nearest, ties to even', () => {
    const step = 2 ** -10;
    expect(halvesOf(1 + step / 2, 1 + (3 * step) / 2, 1 + 0.49 * step, 1 + 0.51 * step)).toEqual([
      0x3c00, 0x3c02, 0x3c00, 0x3c01,
    ]);
    // A carry into the exponent, the largest number, and beyond.
    expect(halvesOf(2 - step / 4, 65519, 65520, -1e6)).toEqual([0x4000, 0x7bff, 0x7c00, 0xfc00]);
    expect(halvesOf(2 ** -25, 1.5 * 2 ** -25, -(2 ** -24), -0)).toEqual([0, 1, 0x8001, 0x8000]);
  });

  test('leaves float16 as it is', () => {
    const half = tensor('float16', Uint16Array.of(0x3c00));
    expect(toFloat16(half)).toBe(half);
  });
});

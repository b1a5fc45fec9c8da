/** Convolutions that take their residual's memory, and that pool. */
import { Tape } from '../../../src/tensor/autograd';
import { conv2d } from '../../../src/tensor/conv2d';
import { Device } from '../../../src/tensor/device';
import { maxPool } from '../../../src/tensor/max-pool';

const ones = (shape: readonly number[]) => new Float32Array(shape.reduce((a, b) => a * b)).fill(1);

test('overwrite: the result is the residual’s memory, and no more is taken', async () => {
  using device = new Device();
  const [x, weight, residual] = [
    [1, 8, 8, 16],
    [16, 16, 1, 1],
    [1, 8, 8, 16],
  ].map((shape) => device.upload(ones(shape), shape, 'float32'));
  const before = device.memory().active;
  const y = conv2d(x!, weight!, { residual: residual!, overwrite: true });
  expect(new Set(await y.data())).toEqual(new Set([17]));
  expect(await residual!.data()).toEqual(await y.data());
  residual!.dispose();
  // What is more is the weight in another layout.
  expect(device.memory().active - before).toBeLessThanOrEqual(16 * 16 * 4);
  expect(new Set(await y.data())).toEqual(new Set([17]));
});

test('overwrite: refused for x itself, and where a gradient is wanted', () => {
  using device = new Device();
  const [x, weight] = [
    [1, 8, 8, 16],
    [16, 16, 1, 1],
  ].map((shape) => device.upload(ones(shape), shape, 'float32'));
  expect(() => conv2d(x!, weight!, { residual: x!, overwrite: true })).toThrow('x cannot be overwritten');
  expect(() => conv2d(x!, weight!, { overwrite: true })).toThrow('there is no residual to overwrite');
  device.tape = new Tape(device);
  device.tape.watch(weight!);
  const residual = device.upload(ones([1, 8, 8, 16]), [1, 8, 8, 16], 'float32');
  expect(() => conv2d(x!, weight!, { residual, overwrite: true })).toThrow('cannot be differentiated');
});

test('pool: as max_pool of the convolution', async () => {
  using device = new Device();
  // Whole numbers, so that no sum is rounded.
  const [x, weight, bias] = [[2, 35, 38, 3], [64, 3, 7, 7], [64]].map((shape, i) =>
    device.upload(
      ones(shape).map((_, k) => ((k * (i + 5)) % 11) - 5),
      shape,
      'float32',
    ),
  );
  const options = { bias: bias!, stride: 2, padding: 3, relu: true };
  const pooled = conv2d(x!, weight!, { ...options, pool: true });
  const expected = maxPool(conv2d(x!, weight!, options), { kernel: 3, stride: 2, padding: 1 });
  expect(pooled.shape).toEqual([2, 9, 10, 64]);
  expect(await pooled.data()).toEqual(await expected.data());
});

test('pool: refused without ReLU, with a residual, and where a gradient is wanted', () => {
  using device = new Device();
  const [x, weight] = [
    [1, 8, 8, 16],
    [16, 16, 1, 1],
  ].map((shape) => device.upload(ones(shape), shape, 'float32'));
  const refusal = 'it pools only with relu and without a residual';
  expect(() => conv2d(x!, weight!, { pool: true })).toThrow(refusal);
  expect(() => conv2d(x!, weight!, { residual: x!, relu: true, pool: true })).toThrow(refusal);
  device.tape = new Tape(device);
  device.tape.watch(weight!);
  expect(() => conv2d(x!, weight!, { relu: true, pool: true })).toThrow('cannot be differentiated');
});

import { add } from '../../src/tensor/add';
import { conv2d } from '../../src/tensor/conv2d';
import { Device } from '../../src/tensor/device';
import { relu } from '../../src/tensor/relu';

let device: Device;
beforeEach(() => {
  device = new Device({ threads: 1 });
});
afterEach(() => device.dispose());

test('values survive the way to the device and back', async () => {
  using x = device.upload(Float32Array.of(-1, 2, NaN), [3], 'float32');
  using y = relu(x);
  expect(await y.data()).toEqual(Float32Array.of(0, 2, NaN));
});

test('a view of a larger buffer is uploaded from its own offset', async () => {
  using x = device.upload(Float32Array.of(9, 1, 2, 9).subarray(1, 3), [2], 'float32');
  expect(await x.data()).toEqual(Float32Array.of(1, 2));
});

test('dispose is idempotent, and use after it throws', () => {
  const x = device.zeros([4], 'float32');
  x.dispose();
  x.dispose();
  expect(x.disposed).toBe(true);
  expect(() => relu(x)).toThrow(expect.objectContaining({ code: 'ERR_DISPOSED' }));
  expect(device.memory()).toMatchObject({ active: 0, tensors: 0 });
});

test('memory goes back in stream order: queued work still sees it', async () => {
  const x = device.upload(new Float32Array(1 << 20).fill(1), [1 << 20], 'float32');
  const y = relu(x);
  x.dispose();
  using z = device.upload(new Float32Array(1 << 20).fill(5), [1 << 20], 'float32');
  expect(z.size).toBe(1 << 20);
  const values = (await y.data()) as Float32Array;
  expect(values.every((value) => value === 1)).toBe(true);
  y.dispose();
});

test('a scope frees what it made, but for what it returns, however deep', () => {
  const before = device.memory().tensors;
  const kept = device.scope(() => {
    const a = device.zeros([8], 'float32');
    const inner = device.scope(() => ({ sum: [add(a, a)], gone: device.zeros([8], 'float32').size }));
    return { deep: { ...inner } };
  });
  expect(device.memory().tensors).toBe(before + 1);
  expect(kept.deep.sum[0]!.disposed).toBe(false);
  kept.deep.sum[0]!.dispose();
  expect(device.memory().active).toBe(0);
});

test('a scope that throws frees everything', () => {
  expect(() =>
    device.scope(() => {
      device.zeros([8], 'float32');
      throw new RangeError('mine');
    }),
  ).toThrow(RangeError);
  expect(device.memory().tensors).toBe(0);
});

test('copies of weights in other layouts go with the weights', async () => {
  const x = device.zeros([1, 9, 9, 16], 'float32');
  const weight = device.zeros([32, 16, 3, 3], 'float32');
  conv2d(x, weight, { padding: 1 }).dispose();
  await device.synchronize();
  const active = device.memory().active;
  conv2d(x, weight, { padding: 1 }).dispose();
  expect(device.memory().active).toBe(active);
  x.dispose();
  weight.dispose();
  expect(device.memory().active).toBe(0);
});

test('the limit is obeyed, and the error says what would fit', () => {
  const small = new Device({ memoryLimit: 32 << 20 });
  const x = small.zeros([4 << 20], 'float32');
  expect(() => small.zeros([8 << 20], 'float32')).toThrow(
    expect.objectContaining({
      code: 'ERR_OUT_OF_MEMORY',
      message: expect.stringMatching(/needs 32\.0 MiB; in use are 16\.0 MiB.*limit is 32\.0 MiB/),
    }),
  );
  x.dispose();
  small.zeros([7 << 20], 'float32').dispose();
  small.dispose();
});

test('forgotten tensors are freed by the collector, and counted', async () => {
  const { setFlagsFromString } = await import('node:v8');
  const { runInNewContext } = await import('node:vm');
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  (() => device.zeros([1024], 'float32'))();
  for (let i = 0; i < 50 && device.leaks === 0; i++) {
    gc();
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  expect(device.leaks).toBe(1);
  expect(device.memory().active).toBe(0);
});

test('shapes that do not fit are named at once, and nothing is left', () => {
  const x = device.zeros([1, 4, 4, 3], 'float32');
  const weight = device.zeros([2, 5, 1, 1], 'float32');
  expect(() => conv2d(x, weight)).toThrow(
    expect.objectContaining({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringContaining('weight [2, 5, 1, 1] takes 5 channels, and x [1, 4, 4, 3] has 3'),
    }),
  );
  expect(device.memory().tensors).toBe(2);
  x.dispose();
  weight.dispose();
});

test('a tensor of another device is refused', () => {
  const other = new Device({ kind: 'reference' });
  const [a, b] = [device.zeros([2], 'float32'), other.zeros([2], 'float32')];
  expect(() => add(a, b)).toThrow(expect.objectContaining({ code: 'ERR_DISPOSED' }));
  other.dispose();
  a.dispose();
});

test('a disposed device refuses work, rejects what waits, and disposes twice', async () => {
  const x = device.zeros([1 << 20], 'float32');
  const waiting = x.data();
  device.dispose();
  device.dispose();
  await expect(waiting).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
  expect(() => relu(x)).toThrow(expect.objectContaining({ code: 'ERR_DISPOSED' }));
  x.dispose();
});

test.each([
  [{ kind: 'tpu' }, /device is tpu/],
  [{ threads: -1 }, /threads is -1/],
  [{ threads: 1.5 }, /threads is 1.5/],
  [{ memoryLimit: Number.NaN }, /memoryLimit is NaN/],
])('options %j are refused', (options, message) => {
  expect(() => new Device(options as never)).toThrow(
    expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT', message: expect.stringMatching(message) }),
  );
});

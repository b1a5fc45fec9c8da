/** What becomes of arguments on their way to the addon. */
import { concat } from '../../../src/tensor/concat';
import { Device } from '../../../src/tensor/device';
import { resize } from '../../../src/tensor/resize';

let device: Device;
beforeEach(() => {
  device = new Device();
});
afterEach(() => device.dispose());

const run = (name: string, args: object) => () => device.run(name as never, args as never);
const refused = (message: string) =>
  expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT', message: expect.stringContaining(message) });

test('values of wrong types are refused, with the names of the op and the argument', () => {
  const x = device.zeros([1, 4, 4, 1], 'float32');
  const weight = device.zeros([1, 1, 1, 1], 'float32');
  expect(run('no_op', {})).toThrow(refused("there is no op 'no_op'"));
  expect(run('conv2d', { weight })).toThrow(refused('conv2d: x is missing'));
  expect(run('conv2d', { x: 1, weight })).toThrow(refused('conv2d: x must be a tensor, and is 1'));
  expect(run('conv2d', { x, weight, stride: '2' })).toThrow(refused('conv2d: stride must be a number'));
  for (const stride of [1.5, Number.NaN, 2 ** 31])
    expect(run('conv2d', { x, weight, stride })).toThrow(
      refused('conv2d: stride must be an integer of 32 bits'),
    );
  expect(run('conv2d', { x, weight, relu: 1 })).toThrow(refused('conv2d: relu must be a boolean, and is 1'));
  expect(run('cast', { x, dtype: 'float8' })).toThrow(
    refused('cast: dtype must be one of float32, bfloat16'),
  );
  expect(run('concat', { inputs: x })).toThrow(refused('concat: inputs must be an array'));
  const source = { x, sizes: [2, 2] };
  expect(run('unfold_resize', { source: 3 })).toThrow(
    refused('unfold_resize: source must be an object, and is 3'),
  );
  expect(run('crop_resize', { sources: source })).toThrow(refused('crop_resize: sources must be an array'));
  expect(run('crop_resize', { sources: [source, { sizes: [2, 2] }] })).toThrow(
    refused('crop_resize: x is missing'),
  );
});

test('what is undefined has its default, and outputs come with shape and type', () => {
  const x = device.zeros([1, 4, 6, 2], 'bfloat16');
  const y = device.run1('max_pool', { x, kernel: 3, stride: undefined, padding: 1 } as never);
  expect([y.shape, y.dtype]).toEqual([[1, 2, 3, 2], 'bfloat16']);
  expect([resize(x, 2, 3).shape, device.run1('argmax', { x }).dtype]).toEqual([[1, 2, 3, 2], 'uint8']);
});

test('an op takes any number of inputs', async () => {
  const one = device.upload(Float32Array.of(1), [1, 1, 1, 1], 'float32');
  const many = concat(Array.from({ length: 3000 }, () => one));
  expect(many.shape).toEqual([1, 1, 1, 3000]);
  expect((await many.data()).every((value) => value === 1)).toBe(true);
});

test('a tensor has at most eight dimensions', () => {
  expect(() => device.zeros(Array(9).fill(1), 'float32')).toThrow(refused('at most 8 dimensions'));
});

import { AggregateConv, ConvBatchNorm } from '../../../src/nn/layers';
import { Parameters } from '../../../src/nn/parameters';
import { Device } from '../../../src/tensor/device';
import type { Tensor } from '../../../src/tensor/tensor';

test.each<[string, (parameters: Parameters, x: Tensor) => Tensor]>([
  ['a convolution', (parameters, x) => new ConvBatchNorm(parameters, 'conv', 'bn').forward(x)],
  ['a convolution over maps', (parameters, x) => new AggregateConv(parameters.at('conv')).forward([{ x }])],
  ['a part of one', (parameters, x) => new AggregateConv(parameters.at('conv')).partial([{ x }], 0)],
])('%s keeps its packed weight, unless weights are read once', async (_, layer) => {
  using device = new Device();
  const upload = (shape: number[]): Tensor =>
    device.upload(
      Float32Array.from({ length: shape.reduce((n, m) => n * m, 1) }, (_, i) => ((i * 7919) % 17) - 8),
      shape,
      'float32',
    );
  const weight = upload([32, 32, 3, 3]);
  const parameters = new Parameters(
    new Map([
      ['conv.weight', weight],
      ['conv.bias', upload([32])],
    ]),
  );
  const x = upload([1, 9, 9, 32]);
  const before = device.memory().active;
  const run = async (): Promise<Buffer> => {
    using y = layer(parameters, x);
    return Buffer.from((await y.data()).buffer);
  };
  const pass = device.unloading(run);
  expect(device.unloads).toBe(false);
  const once = await pass;
  expect(device.memory().active).toBe(before);
  const kept = await run();
  expect(device.memory().active).toBeGreaterThan(before);
  expect(Buffer.compare(once, kept)).toBe(0);
});

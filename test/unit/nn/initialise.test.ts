import { expectedParameters, type ParameterShapes } from '../../../src/models/parameters';
import { initialise } from '../../../src/nn/initialise';

const invalid = expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' });

const shapes: ParameterShapes = expectedParameters(
  {
    backbone: 'resnet18',
    width: 0.25,
    fpn: { channels: 32, smooth: 16 },
    classes: Array.from({ length: 7 }, (_, i) => ({ name: `class ${i}`, color: [i, i, i] })),
  },
  'global-to-local',
);
const parameters = initialise(shapes, 1);

function meanAndDeviation(values: Float32Array): [number, number] {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return [mean, Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length)];
}

test('has every parameter, with as many values as its shape', () => {
  expect([...parameters.keys()]).toEqual([...shapes.keys()]);
  for (const [name, shape] of shapes) {
    expect([name, parameters.get(name)!.length]).toEqual([name, shape.reduce((a, b) => a * b, 1)]);
  }
});

test.each([
  // sqrt(2 / (out · height · width))
  ['resnet_local.conv1.weight', Math.sqrt(2 / (16 * 49))],
  ['resnet_local.layer1.0.conv1.weight', Math.sqrt(2 / (16 * 9))],
  ['resnet_local.layer4.0.conv1.weight', Math.sqrt(2 / (128 * 9))],
  ['resnet_local.layer4.0.downsample.0.weight', Math.sqrt(2 / 128)],
  ['fpn_local.toplayer.weight', 0.01],
  ['fpn_local.smooth1_2.weight', 0.01],
  ['fpn_local.smooth.weight', 0.01],
  ['ensemble_conv.weight', 0.01],
])('%s is normal with mean 0 and deviation %d', (name, expected) => {
  const values = parameters.get(name)!;
  const [mean, deviation] = meanAndDeviation(values);
  const standardError = expected / Math.sqrt(values.length);
  expect(Math.abs(mean)).toBeLessThan(4 * standardError);
  expect(Math.abs(deviation - expected)).toBeLessThan(4 * standardError);
});

test('batch normalisation is the identity, biases are 0', () => {
  const wrong: string[] = [];
  for (const [name, values] of parameters) {
    if (shapes.get(name)!.length !== 1) continue;
    const one = /running_var$|(bn\d|downsample\.1)\.weight$/.test(name);
    if (!values.every((value) => value === (one ? 1 : 0))) wrong.push(name);
  }
  expect(wrong).toEqual([]);
});

test('depends on the seed, the name and the shape alone', () => {
  const differing = Array.from(initialise(shapes, 1)).filter(([name, values]) =>
    values.some((value, i) => value !== parameters.get(name)![i]),
  );
  expect(differing).toEqual([]);
  const name = 'resnet_local.conv1.weight';
  expect(initialise(new Map([[name, shapes.get(name)!]]), 1).get(name)).toEqual(parameters.get(name));

  const others = [
    initialise(shapes, 2).get(name)!,
    initialise(new Map([['resnet_global.conv1.weight', shapes.get(name)!]]), 1)
      .values()
      .next().value!,
  ];
  for (const other of others) {
    const same = other.filter((value, i) => value === parameters.get(name)![i]).length;
    expect(same).toBeLessThan(5);
  }
});

test('refuses names that are none of GLNet', () => {
  for (const [name, shape] of [
    ['conv1.weight', [64, 3, 7, 7]],
    ['fpn_local.running_mean', [64]],
    ['fpn_local.smooth.weight', [64]],
    ['resnet_local.bn1.num_batches_tracked', [1]],
  ] as const) {
    expect(() => initialise(new Map([[name, shape]]), 1)).toThrow(invalid);
  }
  expect(() => initialise(shapes, -1)).toThrow(invalid);
});

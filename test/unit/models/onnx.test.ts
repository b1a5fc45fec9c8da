/** The graphs, read back from files: what they are made of, and that they hang together. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type ModelConfig, openModel } from '../../../src/checkpoint/model-file';
import { toFloat32 } from '../../../src/checkpoint/state-dict';
import { type ExportOptions, exportOnnx } from '../../../src/inference/export';
import { branchParameters, expectedParameters } from '../../../src/models/parameters';
import { type DecodedModel, readOnnx } from '../../support/onnx';
import { tinyConfig, writeTinyModel } from '../../support/tiny-model';

const folder = mkdtempSync(path.join(tmpdir(), 'glnet-onnx-'));
const weights = path.join(folder, 'model.safetensors');
afterAll(() => rmSync(folder, { recursive: true }));

async function exported(changes: Partial<ModelConfig>, options: ExportOptions): Promise<DecodedModel> {
  await writeTinyModel(weights, changes);
  const out = path.join(folder, 'out.onnx');
  await exportOnnx(weights, out, options);
  return readOnnx(out);
}

function count({ nodes }: DecodedModel): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { op } of nodes) counts[op] = (counts[op] ?? 0) + 1;
  return counts;
}

/** Each value is made once, before it is read; all that is made or given is read or an output. */
function expectSound({ nodes, initialisers, inputs, outputs }: DecodedModel): void {
  const known = new Set([...Object.keys(initialisers), ...inputs.map(({ name }) => name)]);
  const unread = new Set(known);
  const wrong: string[] = [];
  const read = (reader: string, name: string): void => {
    if (!known.has(name)) wrong.push(`${reader} reads ${name}, which is not there yet`);
    unread.delete(name);
  };
  for (const node of nodes) {
    for (const input of node.inputs.filter(Boolean)) read(node.name, input);
    for (const output of node.outputs) {
      if (known.has(output)) wrong.push(`${output} is made twice`);
      known.add(output);
      unread.add(output);
    }
  }
  for (const { name } of outputs) read('the caller', name);
  expect({ wrong, unread: [...unread] }).toEqual({ wrong: [], unread: [] });
}

const names = (values: DecodedModel['inputs']) => values.map(({ name }) => name);
const mapNames = [
  ...['global_c', 'global_ps0_', 'global_ps1_', 'global_ps2_'].flatMap((stage) =>
    [5, 4, 3, 2].map((level) => `${stage}${level}`),
  ),
  'global_ps3',
];

test('the global branch', async () => {
  const model = await exported({}, { mode: 'global' });
  expectSound(model);
  expect(model.inputs).toEqual([{ name: 'image', type: 1, shape: ['N', 3, 64, 64] }]);
  expect(model.outputs).toEqual([{ name: 'logits', type: 1, shape: ['N', 3, 16, 16] }]);
  // ResNet-18 has 20 convolutions, the pyramid 4 + 8, the classifier is one.
  expect(count(model)).toEqual({
    Conv: 33,
    BatchNormalization: 20,
    Relu: 17,
    MaxPool: 1,
    Add: 8 + 3,
    Resize: 3 + 3,
    Shape: 1,
    // Sizes of the laterals' resizes, and of the last maps' (of other channels); the last maps themselves.
    Concat: 3 + 1 + 1,
  });
});

test('weights are those of the file, in float32', async () => {
  const model = await exported({}, { mode: 'global-to-local' });
  const shapes = expectedParameters(tinyConfig, 'global-to-local');
  const floats = Object.entries(model.initialisers).filter(([, { type }]) => type === 1);
  expect(new Map(floats.map(([name, { shape }]) => [name, shape]))).toEqual(shapes);
  const file = await openModel(weights);
  for (const name of ['resnet_local.conv1.weight', 'resnet_local.bn1.running_var', 'ensemble_conv.bias']) {
    const expected = toFloat32(await file.read(`global-to-local.${name}`));
    expect(model.initialisers[name]!.values).toEqual([...expected]);
  }
  await file.close();
});

test('the local branch and the aggregation', async () => {
  const model = await exported({}, { mode: 'global-to-local' });
  expectSound(model);
  expect(names(model.inputs)).toEqual(['patches', ...mapNames]);
  expect(model.inputs[0]!.shape).toEqual(['N', 3, 64, 64]);
  expect(model.inputs[1]!.shape).toEqual(['N', 64, 'height_5', 'width_5']);
  expect(model.inputs.at(-1)!.shape).toEqual(['N', 16, 'height_2', 'width_2']);
  expect(model.outputs).toEqual(
    ['ensemble', 'local'].map((name) => ({ name, type: 1, shape: ['N', 3, 16, 16] })),
  );
  const counts = count(model);
  // As the global branch, and smooth and ensemble_conv.
  expect(counts.Conv).toBe(35);
  // 16 shared maps and ps3; laterals; three levels of two maps each to the finest.
  expect(counts.Resize).toBe(17 + 3 + 6);
  for (const { op, attributes } of model.nodes) {
    if (op !== 'Resize') continue;
    expect(attributes).toEqual({ mode: 'linear', coordinate_transformation_mode: 'half_pixel' });
  }
});

test('the global maps have the names, channels and sizes that the local graph takes', async () => {
  const global = await exported({}, { mode: 'global', maps: true });
  const local = await exported({}, { mode: 'global-to-local' });
  expectSound(global);
  expect(names(global.outputs)).toEqual(['logits', ...mapNames]);
  for (const { name, shape } of local.inputs.slice(1)) {
    const output = global.outputs.find((each) => each.name === name)!;
    expect(output.shape.slice(0, 2)).toEqual(shape.slice(0, 2));
  }
  expect(global.outputs.slice(1, 5).map(({ shape }) => shape[3])).toEqual([2, 4, 8, 16]);
});

test('bottlenecks, a batch that is given, sides that do not halve evenly', async () => {
  const model = await exported({ backbone: 'resnet50', patch: 76 }, { mode: 'global-to-local', batch: 5 });
  expectSound(model);
  expect(count(model)).toMatchObject({ Conv: 53 + 4 + 8 + 3, BatchNormalization: 53 });
  expect(count(model).Shape).toBeUndefined();
  expect(model.inputs[0]!.shape).toEqual([5, 3, 76, 76]);
  expect(model.outputs[0]!.shape).toEqual([5, 3, 19, 19]);
  const sizes = Object.entries(model.initialisers).filter(([, { type }]) => type === 7);
  expect(new Set(sizes.map(([, { values }]) => values.slice(2).join()))).toEqual(
    new Set(['3,3', '5,5', '10,10', '19,19']),
  );
  const strides = model.nodes.filter(
    ({ op, attributes }) => op === 'Conv' && String(attributes.strides) === '2,2',
  );
  expect(strides.map(({ name }) => name.replace('resnet_local.', ''))).toEqual([
    'conv1',
    ...[2, 3, 4].flatMap((stage) => [`layer${stage}.0.downsample.0`, `layer${stage}.0.conv2`]),
  ]);
});

test.each([
  ['shallow', ['global_ps2_5', 'global_ps2_4', 'global_ps2_3', 'global_ps2_2', 'global_ps3'], 12],
  ['none', ['global_ps3'], 13],
] as const)(
  'sharing %s: the maps that are taken in, and the kernels that are cut',
  async (sharing, maps, slices) => {
    const model = await exported({ sharing }, { mode: 'global-to-local' });
    expectSound(model);
    expect(names(model.inputs)).toEqual(['patches', ...maps]);
    expect(count(model).Slice).toBe(slices);
  },
);

test('without a mode it is the last one that can be exported', async () => {
  expect((await exported({}, {})).metadata.mode).toBe('global-to-local');
  const model = await exported({ modes: ['global'] }, {});
  expect(model.metadata).toEqual({ mode: 'global', classes: JSON.stringify(tinyConfig.classes) });
  expect(Object.keys(model.initialisers)).toEqual(
    expect.arrayContaining([...branchParameters(tinyConfig, 'global').keys()]),
  );
});

test.each([
  [{ batch: 0 }, 'batch is 0; expected a whole number from 1'],
  [{ batch: 1.5 }, 'batch is 1.5'],
  [{ mode: 'global-to-local', maps: true }, 'maps is set; only mode global gives them'],
] as const)('%j is refused', async (options, message) => {
  await expect(exported({}, options)).rejects.toMatchObject({
    code: 'ERR_INVALID_ARGUMENT',
    message: expect.stringContaining(message),
  });
});

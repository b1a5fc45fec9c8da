import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { importBackbone, importReference } from '../../../src/checkpoint/import';
import { type ModelConfig, openModel, writeModel } from '../../../src/checkpoint/model-file';
import { writeSafetensors } from '../../../src/checkpoint/safetensors';
import {
  elementCount,
  fromFloat32,
  type HostTensor,
  type StateDict,
} from '../../../src/checkpoint/state-dict';
import {
  backboneParameters,
  branchParameters,
  expectedParameters,
  type ParameterShapes,
} from '../../../src/models/parameters';
import { checkpointOf, fixtures, randomIntegers, rejection, temporaryFolder } from './files';

const folder = temporaryFolder();

const architecture = {
  backbone: 'resnet50' as const,
  width: 1 / 32,
  fpn: { channels: 4, smooth: 3 },
  classes: [
    { name: 'water', color: [0, 0, 255] as const },
    { name: 'land', color: [0, 255, 0] as const },
    { name: 'ice', color: [255, 255, 255] as const },
  ],
};

/** Random weights of these shapes. */
function random(seed: number, ...shapes: ParameterShapes[]): StateDict {
  const next = randomIntegers(seed);
  const tensors: StateDict = new Map();
  for (const [name, shape] of shapes.flatMap((part) => [...part])) {
    tensors.set(
      name,
      fromFloat32(
        shape,
        Float32Array.from({ length: elementCount(shape) }, () => next() / 2 ** 32),
      ),
    );
  }
  return tensors;
}

const globalBranch = branchParameters(architecture, 'global');
const localBranch = branchParameters(architecture, 'local');
const phase = {
  global: random(1, globalBranch),
  globalToLocal: random(2, expectedParameters(architecture, 'global-to-local')),
  localToGlobal: random(3, expectedParameters(architecture, 'bidirectional')),
};
const localWeights: StateDict = new Map([...phase.globalToLocal].filter(([name]) => localBranch.has(name)));
/** The counters of each batch normalisation. */
const counters = (tensors: StateDict): StateDict =>
  new Map(
    [...tensors.keys()]
      .filter((name) => name.endsWith('running_mean'))
      .map((name) => [
        name.replace('running_mean', 'num_batches_tracked'),
        { dtype: 'int64', shape: [], data: new Uint8Array(8) },
      ]),
  );
const withModule = (tensors: StateDict): StateDict =>
  new Map(Array.from(tensors, ([name, tensor]) => [`module.${name}`, tensor]));
const save = (name: string, tensors: StateDict): string => folder.file(name, checkpointOf(tensors));
/** As the reference saves a phase: the whole network, also what the phase doesn't use. */
const whole = (name: string, ...used: StateDict[]): string => {
  const tensors = new Map([
    ...random(
      99,
      globalBranch,
      localBranch,
      expectedParameters(architecture, 'bidirectional'),
      expectedParameters(architecture, 'global-to-local'),
    ),
    ...used.flatMap((part) => [...part]),
  ]);
  return save(name, withModule(new Map([...tensors, ...counters(tensors)])));
};
const same = (found: HostTensor | undefined, expected: HostTensor | undefined): boolean =>
  !!found && !!expected && Buffer.compare(found.data, expected.data) === 0;

describe('importReference', () => {
  test('joins three whole files into each phase’s own parameters, and the file opens', async () => {
    const { config, tensors } = await importReference(
      {
        global: whole('g.pth', phase.global),
        globalToLocal: whole('g2l.pth', phase.global, phase.globalToLocal),
        localToGlobal: whole('l2g.pth', localWeights, phase.localToGlobal),
      },
      { classes: architecture.classes, patch: 248, global: 124 },
    );
    const expected: ModelConfig = {
      ...architecture,
      patch: 248,
      global: 124,
      modes: ['global', 'global-to-local', 'bidirectional'],
    };
    expect(config).toEqual(expected);
    const sources = [
      ['global', phase.global],
      ['global-to-local', phase.globalToLocal],
      ['bidirectional', phase.localToGlobal],
    ] as const;
    for (const [mode, source] of sources) {
      for (const [name, tensor] of source)
        expect([mode, name, same(tensors.get(`${mode}.${name}`), tensor)]).toEqual([mode, name, true]);
    }
    expect(tensors.size).toBe(phase.global.size + phase.globalToLocal.size + phase.localToGlobal.size);

    const path = join(folder.path, 'joined.safetensors');
    await writeModel(path, config, tensors);
    const model = await openModel(path);
    expect(model.config).toEqual(expected);
    expect(
      same(
        (await model.readMode('bidirectional')).get('fpn_local.smooth.weight'),
        localWeights.get('fpn_local.smooth.weight'),
      ),
    ).toBe(true);
    expect(
      same(
        (await model.readMode('global-to-local')).get('resnet_global.conv1.weight'),
        phase.global.get('resnet_global.conv1.weight'),
      ),
    ).toBe(true);
    await model.close();
  });

  test('takes files that hold only what their phase uses', async () => {
    const { config, tensors } = await importReference({
      global: save('small-g.pth', phase.global),
      globalToLocal: save('small-g2l.pth', phase.globalToLocal),
    });
    expect(config).toMatchObject({ patch: 508, global: 508, modes: ['global', 'global-to-local'] });
    expect(config.classes).toEqual([
      { name: 'class 0', color: [0, 0, 0] },
      { name: 'class 1', color: [128, 0, 0] },
      { name: 'class 2', color: [0, 128, 0] },
    ]);
    expect(tensors.size).toBe(phase.global.size + phase.globalToLocal.size);
  });

  test('keeps a branch that differs from the phase before', async () => {
    const moved = new Map(phase.global);
    moved.set('resnet_global.bn1.running_mean', fromFloat32([2], Float32Array.of(5, 6)));
    const { config, tensors } = await importReference({
      global: save('moved-g.pth', phase.global),
      globalToLocal: save('moved-g2l.pth', new Map([...moved, ...phase.globalToLocal])),
    });
    expect(tensors.size).toBe(2 * phase.global.size + phase.globalToLocal.size);
    const path = join(folder.path, 'moved.safetensors');
    await writeModel(path, config, tensors);
    const model = await openModel(path);
    expect(model.locate('global-to-local').get('resnet_global.bn1.running_mean')).toBe(
      'global-to-local.resnet_global.bn1.running_mean',
    );
    expect(model.locate('global').get('resnet_global.bn1.running_mean')).toBe(
      'global.resnet_global.bn1.running_mean',
    );
    await model.close();
  });

  test('takes the local branch of phase 3 where phase 2 is not given, and asks for it', async () => {
    const global = save('two-g.pth', phase.global);
    const { config, tensors } = await importReference({
      global,
      localToGlobal: save('two-l2g.pth', new Map([...phase.localToGlobal, ...localWeights])),
    });
    expect(config.modes).toEqual(['global', 'bidirectional']);
    expect(tensors.has('bidirectional.fpn_local.smooth.weight')).toBe(true);
    const error = await rejection(
      importReference({ global, localToGlobal: save('none-l2g.pth', phase.localToGlobal) }),
    );
    expect(error.message).toMatch(
      /none-l2g\.pth, as the weights of bidirectional:\n +missing \(\d+\): resnet_local\.conv1\.weight/,
    );
  });

  test('keeps float16 as it is', async () => {
    const halves: StateDict = new Map(
      Array.from(phase.global, ([name, { shape }]) => [
        name,
        { dtype: 'float16', shape, data: new Uint8Array(2 * elementCount(shape)).fill(7) },
      ]),
    );
    const { tensors } = await importReference({ global: save('half.pth', halves) });
    expect(new Set(Array.from(tensors.values(), ({ dtype }) => dtype))).toEqual(new Set(['float16']));
  });

  test('lists every missing, surplus and misshapen tensor of every file in one error', async () => {
    const first = new Map(phase.global);
    first.delete('resnet_global.layer2.1.conv2.weight');
    first.delete('fpn_global.smooth3_1.bias');
    first.set('extra.weight', fromFloat32([1], Float32Array.of(1)));
    first.set('fpn_global.latlayer2.weight', random(1, new Map([['x', [4, 17, 1, 1]]])).get('x')!);
    const second = new Map(phase.globalToLocal);
    second.delete('ensemble_conv.bias');
    second.set('fpn_local.classify.bias', { dtype: 'int64', shape: [3], data: new Uint8Array(24) });
    const error = await rejection(
      importReference({ global: save('bad-g.pth', first), globalToLocal: save('bad-g2l.pth', second) }),
    );
    expect(error.code).toBe('ERR_CHECKPOINT');
    expect(
      error.message
        .split('\n')
        .slice(1)
        .map((line) => line.trim().replace(folder.path, '')),
    ).toEqual([
      '/bad-g.pth, as the weights of global:',
      'missing (2): resnet_global.layer2.1.conv2.weight, fpn_global.smooth3_1.bias',
      'surplus (1): extra.weight',
      'misshapen (1): fpn_global.latlayer2.weight (4, 17, 1, 1) instead of (4, 16, 1, 1)',
      '/bad-g2l.pth, as the weights of global-to-local:',
      'missing (1): ensemble_conv.bias',
      'not of a floating type (1): fpn_local.classify.bias int64',
    ]);
    expect(error.message).toMatch(
      /bad-g\.pth: has resnet50 of width 0\.03125, FPN of 4 and 3 channels, 3 classes/,
    );
  });

  test('counts them all where it names only the first', async () => {
    const resnet = new Map([...phase.globalToLocal].filter(([name]) => !name.startsWith('resnet_local.')));
    const error = await rejection(
      importReference({
        global: save('many-g.pth', phase.global),
        globalToLocal: save('many-g2l.pth', resnet),
      }),
    );
    expect(error.message).toMatch(/missing \(265\): resnet_local\.conv1\.weight, .*, and 225 more$/);
  });

  test('says what it cannot infer', async () => {
    const without = (prefix: string): string =>
      save('part.pth', new Map([...phase.global].filter(([name]) => !name.startsWith(prefix))));
    expect((await rejection(importReference({ global: without('fpn_global.classify') }))).message).toMatch(
      /part\.pth: fpn_global\.classify\.weight and fpn_global\.classify\.bias are missing/,
    );
    expect((await rejection(importReference({ global: without('resnet_global.layer3.5') }))).message).toMatch(
      /have 3, 4, 5, 3 bottleneck blocks, as none of resnet18, resnet34, resnet50, resnet101 has/,
    );
    const tiny = await rejection(importReference({ global: join(fixtures, 'tiny-zip.pth') }));
    expect(tiny.message).toMatch(/resnet_global\.conv1\.weight.*it holds conv\.weight, conv\.bias/);
  });

  test('refuses options that do not fit', async () => {
    const global = save('options.pth', phase.global);
    const classes = architecture.classes.slice(1);
    expect(await rejection(importReference({ global }, { classes }))).toEqual({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(/has 3 classes, but 2 were named \(land, ice\)/),
    });
    expect(await rejection(importReference({ global }, { patch: 250 }))).toEqual({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(/patch is 250, expected a multiple of 4/),
    });
    expect(await rejection(importReference({ global: 'nowhere.pth' }))).toMatchObject({ code: 'ERR_FILE' });
  });
});

describe('importBackbone', () => {
  test.each(['resnet18', 'resnet34', 'resnet50', 'resnet101'] as const)(
    '%s of torchvision',
    async (backbone) => {
      const weights = random(5, backboneParameters(backbone, 1 / 32), new Map([['fc.weight', [10, 4]]]));
      const path = save('imagenet.pth', new Map([...weights, ...counters(weights)]));
      const imported = await importBackbone(path);
      expect(imported).toMatchObject({ backbone, width: 1 / 32 });
      expect([...imported.tensors.keys()]).toEqual([...backboneParameters(backbone, 1 / 32).keys()]);
      for (const [name, tensor] of imported.tensors)
        if (!same(tensor, weights.get(name))) throw new Error(name);
    },
  );

  test('of safetensors too; another network is refused by its tensors', async () => {
    const weights = random(6, backboneParameters('resnet18', 1 / 16));
    const path = join(folder.path, 'imagenet.safetensors');
    await writeSafetensors(path, weights);
    expect(await importBackbone(path)).toMatchObject({ backbone: 'resnet18', width: 1 / 16 });
    weights.delete('layer2.0.downsample.0.weight');
    weights.set('layer1.0.se.weight', fromFloat32([1], Float32Array.of(1)));
    await writeSafetensors(path, weights);
    const error = await rejection(importBackbone(path));
    expect(error.code).toBe('ERR_CHECKPOINT');
    expect(error.message).toMatch(
      /missing \(1\): layer2\.0\.downsample\.0\.weight\n +surplus \(1\): layer1\.0\.se\.weight/,
    );
  });
});

test("the demonstration's model opens, with the labels' colours", async () => {
  const demo = join(__dirname, '../../../demo');
  const model = await openModel(join(demo, 'blue-marble-small.safetensors'));
  expect(model.config).toMatchObject({
    backbone: 'resnet18',
    width: 0.25,
    fpn: { channels: 64, smooth: 32 },
    patch: 252,
    global: 252,
    modes: ['global', 'global-to-local', 'bidirectional'],
  });
  expect(model.config.classes.map(({ name }) => name)).toEqual(['water', 'land', 'ice sheet']);
  const png = readFileSync(join(demo, 'blue-marble-labels.png'));
  const palette = png.indexOf('PLTE') + 4;
  expect(model.config.classes.flatMap(({ color }) => color)).toEqual([...png.subarray(palette, palette + 9)]);
  expect(new Set(Array.from(model.tensors.values(), ({ dtype }) => dtype))).toEqual(new Set(['float16']));
  expect((await model.readMode('bidirectional')).get('ensemble_conv.weight')).toMatchObject({
    shape: [3, 256, 3, 3],
  });
  await model.close();
});

/** `glnet train` as a process: what it refuses, before it has written anything, and a short run. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { allModes, openModel } from '../../../src/checkpoint/model-file';
import { overridden, type TrainArguments, train as trainHere } from '../../../src/cli/train';
import { parseTrainConfig, phaseConfig } from '../../../src/training/config';
import { runFiles } from '../../../src/training/trainer';
import { type Finished, glnet } from '../../support/command';
import { tinyTraining, writeTinyDataset } from '../../support/tiny-dataset';
import { writeTinyModel } from '../../support/tiny-model';

const folder = mkdtempSync(path.join(tmpdir(), 'glnet-train-'));
const at = (...names: string[]) => path.join(folder, ...names);
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => jest.restoreAllMocks());

const putJson = (name: string, value: unknown) => writeFileSync(at(name), JSON.stringify(value));
const train = (args: string[]): Promise<Finished> =>
  glnet(['train', ...args, '--threads', '1'], { cwd: folder });

const { model: tinyNetwork } = tinyTraining;

beforeAll(async () => {
  for (const name of ['data', 'wrong']) await writeTinyDataset(at(name));
  const mask = (name: string) => sharp(at('data/masks', name)).toColourspace('b-w');
  await mask('0.png').extract({ left: 0, top: 0, width: 180, height: 186 }).toFile(at('wrong/masks/0.png'));
  rmSync(at('wrong/masks/1.png'));
  await mask('2.png').linear(0, 9).toFile(at('wrong/masks/2.png'));
  putJson('train.json', tinyTraining);
  const network = {
    ...tinyNetwork,
    classes: Array.from({ length: 7 }, (_, i) => ({ name: `class ${i}`, color: [i, i, i] as const })),
    modes: ['global'] as const,
  };
  await writeTinyModel(at('global.safetensors'), network);
  await writeTinyModel(at('resnet34.safetensors'), { ...network, backbone: 'resnet34' });
  await writeTinyModel(at('channels.safetensors'), { ...network, fpn: { channels: 8, smooth: 4 } });
  await writeTinyModel(at('three-classes.safetensors'), { ...network, classes: network.classes.slice(0, 3) });
});

const global = ['--phase', 'global', '-c', 'train.json'];

test.each<[string, string[], number, RegExp[]]>([
  ['a folder that is no data set', ['-d', '.', ...global], 1, [/^glnet: \.: no known layout of a data set/]],
  [
    'a phase that is none',
    ['-d', 'data', '--phase', 'local'],
    2,
    [/'local' is invalid.*global, global-to-local, bidirectional/],
  ],
  [
    'a data set with a mask that is missing, one of another size and one with other labels',
    ['-d', 'wrong', ...global],
    1,
    [
      /^ {2}wrong\/images\/1\.png: has no mask; expected masks\/1\.png/m,
      /^ {2}wrong\/masks\/0\.png: is 180x186 pixels, but its image wrong\/images\/0\.png is 186x186/m,
      /^ {2}wrong\/masks\/2\.png: .*\b9\b/m,
    ],
  ],
  [
    'phase 2 without weights',
    ['-d', 'data', '--phase', 'global-to-local', '-c', 'train.json'],
    2,
    [/^glnet: phase global-to-local needs the weights of phase global: /],
  ],
])('refused: %s', async (_, args, expected, messages) => {
  const { code, stderr } = await train([...args, '-o', 'out']);
  expect(code).toBe(expected);
  for (const message of messages) expect(stderr).toMatch(message);
  expect(stderr).not.toMatch(/\n {4}at /);
  expect(existsSync(at('out'))).toBe(false);
});

/** Runs the command in this process, for time. */
async function refusal(options: Partial<TrainArguments>): Promise<{ code: string; message: string }> {
  jest.spyOn(console, 'log').mockImplementation();
  const given = { data: at('data'), out: at('out'), config: at('train.json'), phase: ['global' as const] };
  try {
    await trainHere({ ...given, ...options });
  } catch (error) {
    return error as { code: string; message: string };
  }
  throw new Error('nothing was refused');
}

test.each<[string, Partial<TrainArguments>, string, RegExp]>([
  ['no data set', { data: at('nope') }, 'ERR_FILE', /nope: no such folder/],
  [
    'no phase',
    { phase: undefined as never },
    'ERR_INVALID_ARGUMENT',
    /nothing to train was named: give --phase/,
  ],
  [
    'phase 3 with weights of phase 1 alone',
    { phase: ['bidirectional'], weights: at('global.safetensors') },
    'ERR_INVALID_ARGUMENT',
    /^phase bidirectional needs the weights of phase global-to-local: /,
  ],
  [
    'weights of another backbone',
    { weights: at('resnet34.safetensors') },
    'ERR_INVALID_ARGUMENT',
    /resnet34\.safetensors: its backbone is resnet34 of width 0\.0625; .* resnet18 of width 0\.0625/,
  ],
  [
    'weights of another pyramid',
    { weights: at('channels.safetensors') },
    'ERR_INVALID_ARGUMENT',
    /channels\.safetensors: its fpn has 8 channels and 4 after smoothing; .* 4 and 4/,
  ],
  [
    'weights for other classes',
    { weights: at('three-classes.safetensors') },
    'ERR_INVALID_ARGUMENT',
    /three-classes\.safetensors: it has 3 classes; the data set has 7/,
  ],
  ['weights that are an image', { weights: at('data/images/0.png') }, 'ERR_CHECKPOINT', /images\/0\.png: /],
  ['settings that are not there', { config: at('nope.json') }, 'ERR_FILE', /nope\.json: .*no such file/],
  [
    'settings that are no JSON',
    { config: at('data/images/0.png') },
    'ERR_FILE',
    /0\.png: can't be read as JSON: /,
  ],
])('refused: %s', async (_, options, code, message) => {
  expect(await refusal(options)).toMatchObject({ code, message: expect.stringMatching(message) });
  expect(existsSync(at('out'))).toBe(false);
});

test.each<[string, unknown, RegExp[]]>([
  [
    'fields',
    { ...tinyTraining, batch: 0, optimizer: {}, model: { width: '1' } },
    [/settings\.json is wrong:/, /batch: /, /optimizer/, /model\.width: /],
  ],
  ['no object', null, [/settings\.json is wrong:/]],
  [
    'a width that no model file can have',
    { ...tinyTraining, model: { ...tinyNetwork, width: 0.1 } },
    [/width is 0\.1, expected a positive multiple of 1\/64/],
  ],
  [
    'what fits neither data nor phase',
    {
      ...tinyTraining,
      steps: 3,
      classWeights: [1, 2],
      schedule: { kind: 'cosine', floor: 1, warmup: 3 },
    },
    [
      /classWeights has 2 numbers, expected 7/,
      /schedule\.floor is 1, expected/,
      /schedule\.warmup is 3, expected fewer than its 3 steps/,
    ],
  ],
])('refused: settings, %s', async (_, settings, messages) => {
  putJson('settings.json', settings);
  const { code, message } = await refusal({ config: at('settings.json') });
  expect(code).toBe('ERR_INVALID_ARGUMENT');
  for (const expected of messages) expect(message).toMatch(expected);
  expect(existsSync(at('out'))).toBe(false);
});

test('two steps of every phase, the options over the settings of single phases too', async () => {
  putJson('phases.json', {
    ...tinyTraining,
    epochs: 7,
    phases: { 'global-to-local': { epochs: 50, learningRate: 1 } },
  });
  const { code, stdout } = await train([
    '-d',
    'data',
    '--all-phases',
    '-c',
    'phases.json',
    '--steps',
    '2',
    '--learning-rate',
    '1e-4',
    '-o',
    'run',
  ]);
  expect(code).toBe(0);
  expect(stdout).toMatch(/tiny: 3 images to train on, 1 to evaluate on/);
  for (const phase of allModes) {
    expect(stdout).toMatch(new RegExp(`^${phase}: 2 steps$`, 'm'));
    const lines = readFileSync(at('run', runFiles.metrics(phase)), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    const steps = lines.filter(({ loss }) => loss !== undefined);
    expect(steps.map(({ step, rate }) => [step, rate])).toEqual([
      [1, 1e-4],
      [2, expect.closeTo(1e-4 * 0.5 ** 0.9, 12)],
    ]);
    expect(steps.every(({ loss, gradientNorm }) => loss > 0 && gradientNorm > 0)).toBe(true);
    expect(lines.filter(({ evaluation }) => evaluation)).toHaveLength(1);
  }
  expect(stdout).toMatch(/the model is run\/model\.safetensors/);
  const model = await openModel(at('run/model.safetensors'));
  expect(model.config.modes).toEqual(allModes);
  await model.close();
  // What only a stopped run needs is gone.
  const names = [
    'config.json',
    'model.safetensors',
    'tensorboard',
    ...allModes.map((phase) => `${phase}.metrics.jsonl`),
  ];
  expect(readdirSync(at('run')).sort()).toEqual(names.sort());
});

test('phase 2 from the weights of a finished phase 1', async () => {
  const { code } = await train([
    '-d',
    'data',
    '--phase',
    'global-to-local',
    '-c',
    'train.json',
    '-w',
    'global.safetensors',
    '--steps',
    '1',
    '-o',
    'second',
  ]);
  expect(code).toBe(0);
  const model = await openModel(at('second/model.safetensors'));
  expect(model.config.modes).toEqual(['global', 'global-to-local']);
  // The fixed branch is as it was.
  const before = await openModel(at('global.safetensors'));
  const name = 'global.resnet_global.conv1.weight';
  expect(
    Buffer.compare(Buffer.from((await model.read(name)).data), Buffer.from((await before.read(name)).data)),
  ).toBe(0);
  await before.close();
  await model.close();
});

test('a learning rate that is far too high is told, with the step and the layer', async () => {
  const { code, stderr } = await train([
    '-d',
    'data',
    ...global,
    '--steps',
    '20',
    '--learning-rate',
    '1e30',
    '-o',
    'diverged',
  ]);
  expect(code).toBe(1);
  expect(stderr).toMatch(
    /^glnet: phase global, step \d+: the loss is NaN; the first layer whose output is not finite is (resnet|fpn)_global\.\w+/m,
  );
  expect(stderr).toMatch(/\(scenes: [0-2], [0-2]\)\. Lower the learning rate/);
  expect(existsSync(at('diverged/model.safetensors'))).toBe(false);
});

const config = {
  batch: 3,
  steps: 100,
  phases: { global: { epochs: 40, batch: 2 }, 'global-to-local': { steps: 7, lambda: 0.1 } },
};

test('options override the configuration, and what it says of single phases', () => {
  const value = parseTrainConfig(overridden(config, { epochs: 2, batch: 1, data: 'data' }));
  for (const phase of ['global', 'global-to-local', 'bidirectional'] as const) {
    const { steps, epochs, batch } = phaseConfig(value, phase);
    expect({ steps, epochs, batch }).toEqual({ steps: undefined, epochs: 2, batch: 1 });
  }
  expect(phaseConfig(value, 'global-to-local').lambda).toBe(0.1);
  expect(phaseConfig(parseTrainConfig(overridden(config, {})), 'global')).toMatchObject({
    epochs: 40,
    batch: 2,
  });
});

test('a configuration that is none is refused, whatever the options', () => {
  for (const value of [null, [], 5]) {
    expect(() => parseTrainConfig(overridden(value, { steps: 1 }), 'train.json')).toThrow(
      /train\.json is wrong/,
    );
  }
  expect(() => parseTrainConfig({ steps: 1, epochs: 1 })).toThrow(/epochs: cannot be given beside steps/);
  expect(() => parseTrainConfig({ phases: { global: { steps: 1, epochs: 1 } } })).toThrow(
    /phases\.global\.epochs: cannot be given beside steps/,
  );
});

/** The command as a process: help, exit codes, `import`, `info` and `doctor`. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { openModel } from '../../../src/checkpoint/model-file';
import { writeSafetensors } from '../../../src/checkpoint/safetensors';
import type { StateDict } from '../../../src/checkpoint/state-dict';
import { randomWeights } from '../../../src/cli/self-test';
import { glnet } from '../../support/command';
import { fixtures } from '../../support/golden';
import { tinyConfig, writeTinyModel } from '../../support/tiny-model';

const { version } = require('../../../package.json') as { version: string };
const folder = mkdtempSync(path.join(tmpdir(), 'glnet-command-'));
const inFolder = { cwd: folder };
afterAll(() => rmSync(folder, { recursive: true }));

describe('help', () => {
  test('--version', async () => {
    expect(await glnet(['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
  });

  test.each([
    [
      ['--help'],
      /segment.*\n.*train.*\n.*evaluate.*\n.*import.*\n.*export.*\n.*info.*\n.*doctor[\s\S]*Examples:/,
    ],
    [
      ['segment', '--help'],
      /\(default: 2 on the CPU[\s\S]*--memory-limit <size>[\s\S]*Examples:[\s\S]*--stretch 0,3000/,
    ],
    [['evaluate', '--help'], /--split <name>[\s\S]*--json <file>[\s\S]*Examples:/],
    [['import', '--help'], /--local-to-global <file>[\s\S]*Examples:/],
    [['export', '--help'], /--onnx <file>[\s\S]*--maps[\s\S]*Examples:/],
    [['info', '--help'], /\(default: 508\)[\s\S]*Examples:/],
    [['doctor', '--help'], /double-precision/],
  ])('%j', async (args, expected) => {
    const { code, stdout, stderr } = await glnet(args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(expected);
  });
});

test.each<[string, string[], RegExp]>([
  ['no command', [], /^Usage: glnet/],
  ['unknown command', ['segmnt'], /^glnet: unknown command 'segmnt'\n\(Did you mean segment\?\)/],
  ['unknown option', ['doctor', '--jsn'], /^glnet: unknown option '--jsn'\n\(Did you mean --json\?\)/],
  [
    'missing option',
    ['segment', 'a.png', '-o', 'out'],
    /^glnet: required option '-w, --weights <file>' not specified/,
  ],
  ['missing image', ['segment', '-w', 'm', '-o', 'out'], /^glnet: missing required argument/],
  [
    'unknown choice',
    ['segment', 'a', '-w', 'm', '-o', 'o', '--mode', 'local'],
    /Allowed choices are global, global-to-local/,
  ],
  [
    'wrong number',
    ['info', 'a', '--patch', '0'],
    /'--patch <pixels>' argument '0' is invalid. Expected a whole number/,
  ],
  [
    'wrong size',
    ['segment', 'a', '-w', 'm', '-o', 'o', '--memory-limit', '1XB'],
    /Expected a size such as 1GB/,
  ],
  [
    'conflict',
    ['import', '--global', 'g', '-o', 'm', '--dataset', 'isic', '--class-names', 'a,b'],
    /cannot be used with/,
  ],
])('wrong usage is exit code 2: %s', async (_, args, message) => {
  const { code, stdout, stderr } = await glnet(args, inFolder);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toMatch(message);
  expect(stderr).not.toMatch(/\n {4}at /);
});

describe('import', () => {
  /** The phases' files with the reference's own names. */
  beforeAll(async () => {
    const tensors = randomWeights(tinyConfig, 5);
    for (const mode of tinyConfig.modes) {
      const phase: StateDict = new Map();
      for (const [name, tensor] of tensors) {
        if (name.startsWith(`${mode}.`)) phase.set(name.slice(mode.length + 1), tensor);
      }
      await writeSafetensors(path.join(folder, `${mode}.safetensors`), phase);
    }
    writeFileSync(path.join(folder, 'classes.json'), JSON.stringify(tinyConfig.classes));
    writeFileSync(path.join(folder, 'wrong.json'), '{"water": [0, 0, 255]}');
  });
  const phases = ['--global', 'global.safetensors', '--global-to-local', 'global-to-local.safetensors'];

  test('joins, prints what it found, and what it wrote opens', async () => {
    const { code, stdout, stderr } = await glnet(
      [
        'import',
        ...phases,
        '--local-to-global',
        'bidirectional.safetensors',
        '-o',
        'joined.safetensors',
      ].concat(['--classes', 'classes.json', '--patch', '64', '--global-size', '64']),
      inFolder,
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(
      /resnet18, width 0\.125[\s\S]*3: red, green, blue[\s\S]*global, global-to-local, bidirectional/,
    );
    expect(stdout).toMatch(
      /parameters +[\d,]+ in \d+ tensors of float32[\s\S]*joined\.safetensors, [\d.]+ MB/,
    );
    const model = await openModel(path.join(folder, 'joined.safetensors'));
    expect(model.config).toEqual(tinyConfig);
    await model.close();
  });

  test('names and colours of classes', async () => {
    await glnet(['import', ...phases, '-o', 'named.safetensors', '--class-names', 'sea, land,ice'], inFolder);
    const model = await openModel(path.join(folder, 'named.safetensors'));
    expect(model.config.modes).toEqual(['global', 'global-to-local']);
    expect(model.config.classes.map(({ name }) => name)).toEqual(['sea', 'land', 'ice']);
    expect(new Set(model.config.classes.map(({ color }) => color.join())).size).toBe(3);
    await model.close();
  });

  test.each<[string, string[], number, RegExp]>([
    ['too few names', ['--class-names', 'a,b'], 2, /has 3 classes, but --class-names has 2 \(a, b\)/],
    ['a data set of other classes', ['--dataset', 'deepglobe'], 2, /has 3 classes, but 7 were named/],
    ['classes of another shape', ['--classes', 'wrong.json'], 2, /wrong\.json: expected a list such as/],
    ['classes that are not there', ['--classes', 'nope.json'], 1, /nope\.json: can't be read as JSON/],
    ['a patch out of range', ['--patch', '63'], 2, /patch is 63, expected a multiple of 4/],
    ['a phase of another kind', ['--local-to-global', 'global.safetensors'], 1, /missing \(\d+\): .*_ext/],
  ])('refuses %s', async (_, args, expected, message) => {
    const { code, stdout, stderr } = await glnet(
      ['import', ...phases, '-o', 'refused.safetensors', ...args],
      inFolder,
    );
    expect({ code, stdout }).toEqual({ code: expected, stdout: '' });
    expect(stderr).toMatch(message);
    await expect(openModel(path.join(folder, 'refused.safetensors'))).rejects.toMatchObject({
      code: 'ERR_FILE',
    });
  });
});

describe('info', () => {
  beforeAll(async () => {
    await writeTinyModel(path.join(folder, 'model.safetensors'));
    const image = sharp({ create: { width: 120, height: 70, channels: 4, background: '#123' } });
    await image.png().toFile(path.join(folder, 'image.png'));
  });

  test('describes models, checkpoints and images; a bad file does not stop it', async () => {
    const checkpoint = path.join(fixtures, 'tiny-zip.pth');
    const files = ['model.safetensors', checkpoint, 'nope.png', 'image.png'];
    const { code, stdout, stderr } = await glnet(['info', '--patch', '64', ...files], inFolder);
    expect(code).toBe(1);
    expect(stderr).toBe('glnet: nope.png: no such file; check the path\n');
    expect(stdout).toMatch(/a glnet model[\s\S]*resnet18, width 0\.125[\s\S]*patch +64 px/);
    expect(stdout).toMatch(/a PyTorch checkpoint, not a glnet model/);
    expect(stdout).toMatch(/120x70 pixels\n.*png, 4 bands of 8 bits\n.*5x2 = 10 of 64 px\n.*8\.40 kB/);
  });

  test('--json', async () => {
    const { code, stdout, stderr } = await glnet(
      ['info', '--json', 'model.safetensors', 'image.png', 'nope.pth'],
      inFolder,
    );
    expect(code).toBe(1);
    expect(stderr).toMatch(/^glnet: nope\.pth: .*no such file\n$/);
    const [model, image, missing] = JSON.parse(stdout);
    expect(model).toMatchObject({
      path: 'model.safetensors',
      kind: 'model',
      ...tinyConfig,
      dtypes: ['float32'],
    });
    expect(model.fileBytes).toBeGreaterThan(model.bytes);
    expect(model.bytes).toBeGreaterThan(4 * model.parameters);
    expect(image).toEqual({
      path: 'image.png',
      kind: 'image',
      width: 120,
      height: 70,
      format: 'png',
      bands: 4,
      bits: 8,
      patches: { patch: 508, columns: 1, rows: 1, count: 1 },
      maskBytes: 8400,
    });
    expect(missing).toEqual({
      path: 'nope.pth',
      error: { code: 'ERR_FILE', message: expect.stringMatching(/nope/) },
    });
  });

  test('GLNET_DEBUG=1 shows where an error came from', async () => {
    const { stderr } = await glnet(['info', 'nope.png'], { ...inFolder, env: { GLNET_DEBUG: '1' } });
    expect(stderr).toMatch(/nope\.png: no such file[\s\S]*\n {4}at openFile/);
  });
});

describe('doctor', () => {
  test('compares the devices of this machine', async () => {
    const { code, stdout } = await glnet(['doctor', '--json']);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({
      glnet: version,
      node: process.versions.node,
      oneDNN: expect.stringMatching(/^\d+\.\d+/),
      libvips: expect.stringMatching(/^\d+\.\d+/),
      devices: [
        { name: 'cpu:0', description: expect.stringMatching(/threads/) },
        { name: expect.stringMatching(/^cuda/) },
      ],
      passes: true,
    });
    expect(code).toBe(0);
    const [{ comparisons }] = report.selfTests;
    expect(comparisons.map(({ name }: { name: string }) => name)).toEqual(
      expect.arrayContaining([
        'global, global, logits',
        'bidirectional, ensemble, logits',
        'bidirectional, ensemble, confidence',
      ]),
    );
    for (const { difference, tolerance } of comparisons) expect(difference).toBeLessThanOrEqual(tolerance);
    // The other version sums in another order, so that equal logits would mean that one was compared with itself.
    expect(
      Math.max(...comparisons.map(({ difference }: { difference: number }) => difference)),
    ).toBeGreaterThan(0);
  });

  test('prints a verdict', async () => {
    const { code, stdout } = await glnet(['doctor']);
    expect(stdout).toMatch(
      /oneDNN +\d[\s\S]*device cpu:0 +ready[\s\S]*ensemble, logits +\d\.\de-\d[\s\S]*\npasses: worst difference/,
    );
    expect(code).toBe(0);
  });
});

describe('without a native addon', () => {
  // Where node-gyp-build then looks, there is none.
  const without = { cwd: folder, env: { GLNET_PREBUILD: path.join(folder, 'nowhere') } };

  test('help and info work', async () => {
    expect((await glnet(['--help'], without)).code).toBe(0);
    await writeTinyModel(path.join(folder, 'alone.safetensors'));
    expect((await glnet(['info', 'alone.safetensors'], without)).code).toBe(0);
  });

  test('doctor says so', async () => {
    const { code, stdout } = await glnet(['doctor'], without);
    expect(code).toBe(1);
    expect(stdout).toMatch(
      /addon +not loaded[\s\S]*device cpu +needs the addon[\s\S]*\nthe native addon did not load on .*\n[\s\S]*Things to try:/,
    );
    expect(stdout).not.toMatch(/passes/);
  });

  test('segment says what to try', async () => {
    await writeTinyModel(path.join(folder, 'alone.safetensors'));
    writeFileSync(path.join(folder, 'any.png'), '');
    const args = ['segment', 'any.png', '-w', 'alone.safetensors', '-o', 'out'];
    const { code, stderr } = await glnet(args, without);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^glnet: the native addon did not load on [\s\S]*Things to try:/);
    expect(stderr).not.toMatch(/\n {4}at /);
  });
});

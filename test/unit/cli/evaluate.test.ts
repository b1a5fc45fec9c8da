/** `glnet evaluate` as a process, on a data set in DeepGlobe's layout. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { GLNet } from '../../../src';
import { datasetClasses } from '../../../src/datasets/classes';
import { BoundaryScore } from '../../../src/metrics/boundary';
import { Calibration } from '../../../src/metrics/calibration';
import { ConfusionMatrix } from '../../../src/metrics/confusion';
import { readIndexMask } from '../../../src/raster/index-mask';
import { glnet, type RunOptions } from '../../support/command';
import { goldenImage } from '../../support/golden';
import { writeTinyModel } from '../../support/tiny-model';

const folder = mkdtempSync(path.join(tmpdir(), 'glnet-evaluate-'));
const at = (...names: string[]) => path.join(folder, ...names);
afterAll(() => rmSync(folder, { recursive: true }));

const classes = datasetClasses.deepglobe;
const scenes = [
  { id: '11', width: 150, height: 90 },
  { id: '12', width: 70, height: 64 },
];

/** Stripes of every class. */
function truthOf(width: number, height: number): Uint8Array {
  return Uint8Array.from({ length: width * height }, (_, i) => Math.floor((i % width) / 9) % classes.length);
}

async function writeScene(data: string, id: string, width: number, height: number): Promise<void> {
  const pixels = goldenImage(width, height, Number(id));
  await sharp(pixels, { raw: { width, height, channels: 3 } })
    .jpeg()
    .toFile(at(data, `${id}_sat.jpg`));
  const colours = Uint8Array.from([...truthOf(width, height)].flatMap((label) => [...classes[label]!.color]));
  await sharp(colours, { raw: { width, height, channels: 3 } })
    .png()
    .toFile(at(data, `${id}_mask.png`));
}

function writeSplits(data: string, splits: object): void {
  writeFileSync(at(data, 'splits.json'), JSON.stringify(splits));
}

beforeAll(async () => {
  await writeTinyModel(at('model.safetensors'), { classes });
  for (const data of ['data', 'bad']) mkdirSync(at(data));
  for (const { id, width, height } of scenes) await writeScene('data', id, width, height);
  await writeScene('data', '10', 64, 64);
  writeSplits('data', { train: ['10'], val: [], test: ['11', '12'] });
});

function evaluate(data: string, args: string[] = [], options: RunOptions = {}) {
  return glnet(['evaluate', '-w', at('model.safetensors'), '-d', data, ...args], { cwd: folder, ...options });
}

test('table, JSON, picture and masks of every mode and output, as the library has them', async () => {
  const results = ['--json', 'out/report.json', '--picture', 'out/report.png', '-o', 'out/masks'];
  const { code, stdout, stderr } = await evaluate('data', ['--mode', 'all', ...results]);
  expect({ code, stderr: stderr.replace(/^\[\d\/6\] .*\n/gm, '') }).toEqual({ code: 0, stderr: '' });
  const report = JSON.parse(readFileSync(at('out/report.json'), 'utf8'));
  expect(report).toMatchObject({
    weights: at('model.safetensors'),
    dataset: 'DeepGlobe land cover',
    split: 'test',
    classes: classes.map(({ name }) => name),
    excluded: [0],
    failed: [],
  });

  const lines = stdout.split('\n');
  expect(lines[0]).toMatch(/^model\.safetensors on DeepGlobe land cover, split test: 2 images$/);
  expect(lines[1]).toBe('Splits: splits.json in the folder');
  expect(lines[3]).toMatch(
    /^ {2}mode +output +mIoU +unknown\* +urban .* accuracy +boundary F +ECE +time +memory$/,
  );
  const rows = lines.slice(4, 11).map((line) => line.trim().split(/ {2,}/));
  expect(lines[11]).toBe('  * not in the means');

  await using model = await GLNet.load(at('model.safetensors'));
  const seen = new Set<string>();
  for (const { mode, outputs, seconds, poolPeakBytes, patches } of report.modes) {
    expect([seconds > 0, poolPeakBytes > 0, patches > 0]).toEqual([true, true, mode !== 'global']);
    for (const [output, figures] of Object.entries<Record<string, unknown>>(outputs)) {
      const confusion = new ConfusionMatrix(classes.length);
      const boundary = new BoundaryScore(classes.length);
      const calibration = new Calibration(classes.length);
      for (const { id, width, height } of scenes) {
        const { labels, confidence } = await model.segment(at('data', `${id}_sat.jpg`), {
          mode,
          output: output as never,
        });
        const truth = truthOf(width, height);
        confusion.add(labels, truth);
        boundary.add(labels, truth, width);
        calibration.add(labels, confidence, truth);
        const mask = await readIndexMask(at('out/masks', mode, output, `${id}.png`));
        expect(Buffer.compare(mask.labels, labels)).toBe(0);
      }
      expect(figures).toEqual({
        mIoU: confusion.meanIou([0]),
        IoU: confusion.iou(),
        precision: confusion.precision(),
        recall: confusion.recall(),
        F1: confusion.f1(),
        pixelAccuracy: confusion.pixelAccuracy(),
        boundaryF: boundary.meanFScore([0]),
        boundaryFByClass: boundary.fScore(),
        ECE: calibration.expectedError(),
        confusion: confusion.toJSON(),
        reliability: calibration.reliability(),
      });
      const row = rows.shift()!;
      const shown = [confusion.meanIou([0]), ...confusion.iou(), confusion.pixelAccuracy()];
      expect(row.slice(0, 3 + classes.length + 1)).toEqual([mode, output, ...shown.map((x) => x.toFixed(4))]);
      seen.add(`${mode} ${output}`);
    }
  }
  expect([...seen]).toEqual([
    'global global',
    ...['global-to-local', 'bidirectional'].flatMap((mode) =>
      ['ensemble', 'local', 'global'].map((output) => `${mode} ${output}`),
    ),
  ]);
  expect(report.images.map(({ id, width, height }: never) => ({ id, width, height }))).toEqual(scenes);
  const { mIoU } = report.images[0].modes[2];
  expect(Object.keys(mIoU)).toEqual(['ensemble', 'local', 'global']);
  expect(await sharp(at('out/report.png')).metadata()).toMatchObject({ format: 'png' });
});

test('--compare-precision tells how many labels float32 would have had otherwise', async () => {
  const args = [
    '--mode',
    'global-to-local',
    '--outputs',
    'ensemble',
    '--compare-precision',
    '--json',
    'narrow.json',
  ];
  const { code, stdout } = await evaluate('data', args);
  expect(code).toBe(0);
  const { precision, differences } = JSON.parse(readFileSync(at('narrow.json'), 'utf8'));
  expect(precision).toBe('bfloat16');

  const [equal, narrow, exact] = [{ same: 0, pixels: 0 }, new ConfusionMatrix(7), new ConfusionMatrix(7)];
  for (const { id, width, height } of scenes) {
    const masks: Uint8Array[] = [];
    for (const chosen of ['bfloat16', 'float32'] as const) {
      await using model = await GLNet.load(at('model.safetensors'), { precision: chosen });
      const { labels } = await model.segment(at('data', `${id}_sat.jpg`), { mode: 'global-to-local' });
      masks.push(labels);
      (chosen === 'float32' ? exact : narrow).add(labels, truthOf(width, height));
    }
    equal.same += masks[0]!.filter((label, i) => label === masks[1]![i]).length;
    equal.pixels += width * height;
  }
  expect(differences).toEqual([
    {
      mode: 'global-to-local',
      output: 'ensemble',
      equal: equal.same / equal.pixels,
      mIoU: narrow.meanIou([0]),
      float32: { mIoU: exact.meanIou([0]) },
    },
  ]);
  expect(differences[0].equal).toBeGreaterThan(0.9);
  expect(stdout).toMatch(
    /\nbfloat16 against float32\n\n +mode +output +labels equal +mIoU +in float32 +difference\n/,
  );

  const refused = await evaluate('data', ['--compare-precision', '--precision', 'float32']);
  expect(refused.code).toBe(2);
  expect(refused.stderr).toContain('--compare-precision compares with float32');
});

test('options choose the split, the mode, the outputs and what is excluded', async () => {
  const { code, stdout } = await evaluate('data', [
    ...['--split', 'train', '--mode', 'global-to-local', '--outputs', 'local', '--exclude', '1,3'],
    ...['--patch', '100', '--global-size', '32', '--flip-rotate', '--json', 'chosen.json'],
  ]);
  expect(code).toBe(0);
  expect(stdout).toMatch(/split train: 1 image\n/);
  expect(stdout).toMatch(/ unknown +urban\* +agriculture +rangeland\* /);
  const { modes, excluded, images } = JSON.parse(readFileSync(at('chosen.json'), 'utf8'));
  expect([excluded, images.map(({ id }: { id: string }) => id)]).toEqual([[1, 3], ['10']]);
  expect(modes).toHaveLength(1);
  expect(Object.keys(modes[0].outputs)).toEqual(['local']);
  await using model = await GLNet.load(at('model.safetensors'));
  const { labels } = await model.segment(at('data/10_sat.jpg'), {
    mode: 'global-to-local',
    output: 'local',
    patch: 100,
    globalSize: 32,
    flipRotate: true,
  });
  const matrix = new ConfusionMatrix(classes.length);
  matrix.add(labels, truthOf(64, 64));
  expect(modes[0].outputs.local.confusion).toEqual(matrix.toJSON());
  expect(modes[0].outputs.local.mIoU).toBe(matrix.meanIou([1, 3]));
});

test('a bad image is reported, the rest goes on, and the exit code is 1', async () => {
  await writeScene('bad', '1', 70, 64);
  await writeScene('bad', '2', 70, 64);
  await writeScene('bad', '3', 70, 64);
  writeFileSync(at('bad/2_sat.jpg'), readFileSync(at('bad/2_sat.jpg')).subarray(0, 300));
  await sharp(at('data/12_mask.png')).rotate(90).toFile(at('bad/3_mask.png'));
  writeSplits('bad', { train: [], val: ['1', '2', '3', '4'], test: [] });
  const { code, stdout, stderr } = await evaluate('bad', ['--split', 'val', '--json', 'bad.json']);
  expect(code).toBe(1);
  expect(stderr).toMatch(/^glnet: 4: is listed in val .* but is not in the data set/m);
  expect(stderr).toMatch(/^glnet: bad\/2_sat\.jpg: can't be decoded as jpeg/m);
  expect(stderr).toMatch(
    /^glnet: bad\/3_mask\.png: the labels are 64x70; expected 70x64, the size of bad\/3_sat\.jpg/m,
  );
  expect(stderr).toMatch(/\nglnet: 2 images of 3 failed and count in nothing above\n$/);
  expect(stdout).toMatch(/split val: 1 image\n/);
  const { images, failed } = JSON.parse(readFileSync(at('bad.json'), 'utf8'));
  expect(images.map(({ id }: { id: string }) => id)).toEqual(['1']);
  expect(failed).toEqual([
    { id: '2', error: { code: 'ERR_FILE', message: expect.stringMatching(/2_sat/) } },
    { id: '3', error: { code: 'ERR_IMAGE', message: expect.stringMatching(/3_mask/) } },
  ]);
});

test.each<[string, string[], RegExp]>([
  ['a class that there is not', ['--exclude', '7'], /exclude names class 7; the data set has 7: 0 to 6/],
  [
    'an output that the mode lacks',
    ['--mode', 'global', '--outputs', 'local,ensemble'],
    /outputs is local,ensemble; mode global has global/,
  ],
  [
    'a split without images',
    ['--split', 'val'],
    /data: its split val has no labelled images, of train 1, val 0, test 2/,
  ],
  ['a patch', ['--patch', '62'], /patch is 62; expected a multiple of 4/],
])('what no image could be evaluated with is wrong usage: %s', async (_, args, message) => {
  const { code, stdout, stderr } = await evaluate('data', [...args, '--json', 'usage.json']);
  expect(stderr).toMatch(message);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(existsSync(at('usage.json'))).toBe(false);
});

test('a model of other classes is refused', async () => {
  await writeTinyModel(at('three.safetensors'));
  const { code, stderr } = await glnet(['evaluate', '-w', 'three.safetensors', '-d', 'data'], {
    cwd: folder,
  });
  expect(code).toBe(2);
  expect(stderr).toMatch(
    /three\.safetensors: the model has other classes than the data set DeepGlobe land cover: 3 \(red, green, blue\), expected 7/,
  );
});

test('Ctrl-C stops it, and no report is written', async () => {
  mkdirSync(at('large'));
  await writeScene('large', '1', 1200, 1000);
  writeSplits('large', { test: ['1'] });
  let told = false;
  const { code, stdout, stderr } = await evaluate('large', ['--json', 'stopped/report.json'], {
    onStderr: (child, text) => {
      if (told || !/\[1\/1\] 1: /.test(text)) return;
      told = true;
      child.kill('SIGINT');
    },
  });
  expect({ code, stdout }).toEqual({ code: 130, stdout: '' });
  expect(stderr).toMatch(/glnet: stopping at the next patch batch/);
  expect(stderr).toMatch(/glnet: stopped after 0 of 1 predictions; no report was written\n$/);
  expect(readdirSync(at('stopped'))).toEqual([]);
});

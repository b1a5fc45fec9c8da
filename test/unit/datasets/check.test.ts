/** Everything that can be wrong with a data set is named; and its figures. */
import { readdirSync, readFileSync, truncateSync } from 'node:fs';
import path from 'node:path';
import sharp from 'sharp';
import { assertDataset, checkDataset } from '../../../src/datasets/check';
import { openDataset } from '../../../src/datasets/open';
import { datasetStats } from '../../../src/datasets/stats';
import { glnet } from '../../support/command';
import { newFolder, photo, put, putFolder, putGray, putJson, putRgb, threeClasses } from './files';

async function problemsOf(folder: string): Promise<[string, string | undefined, string][]> {
  const { problems } = await checkDataset(await openDataset(folder));
  return problems.map(({ kind, id, message }) => [kind, id, message]);
}

test('a sound data set', async () => {
  const folder = newFolder();
  await putFolder(folder);
  const progress: [number, number][] = [];
  const report = await checkDataset(await openDataset(folder), {
    onProgress: (done, total) => progress.push([done, total]),
  });
  expect(report).toEqual({ samples: 6, problems: [] });
  expect(progress).toEqual([1, 2, 3, 4, 5, 6].map((done) => [done, 6]));
  await expect(assertDataset(await openDataset(folder))).resolves.toBeUndefined();
});

test('what is wrong in a file, each by its name', async () => {
  const folder = newFolder();
  await putFolder(folder);
  await putGray(folder, 'masks/a.png', { width: 20, height: 11 }, () => 0);
  await putGray(folder, 'masks/b.png', { width: 20, height: 10 }, (x) => (x < 2 ? 7 : 255));
  truncateSync(path.join(folder, 'images/c.png'), 200);
  truncateSync(path.join(folder, 'masks/d.png'), 30);
  put(folder, 'images/e.png', 'not an image');
  put(folder, 'masks/f.png', '');
  expect(await problemsOf(folder)).toEqual([
    [
      'size',
      'a',
      expect.stringMatching(/masks.a\.png: is 20x11 pixels, but its image .*images.a\.png is 20x10/),
    ],
    ['labels', 'b', expect.stringMatching(/masks.b\.png: has values that are no class: 7 \(20 pixels\)/)],
    ['unreadable', 'c', expect.stringMatching(/images.c\.png: can't be decoded as png: .*damaged/)],
    ['unreadable', 'd', expect.stringMatching(/masks.d\.png: .*cut short/)],
    ['unreadable', 'e', expect.stringMatching(/images.e\.png: not an image/)],
    ['unreadable', 'f', expect.stringMatching(/masks.f\.png: is empty/)],
  ]);
  await expect(assertDataset(await openDataset(folder))).rejects.toMatchObject({
    code: 'ERR_FILE',
    message: expect.stringMatching(/this data set is wrong:\n {2}.*a\.png: is 20x11[\s\S]*f\.png: is empty/),
  });
});

test('a JPEG and a TIFF that end too early', async () => {
  const folder = newFolder();
  const size = { width: 600, height: 700 };
  for (const id of ['austin1', 'austin6', 'austin7']) {
    await putRgb(folder, `images/${id}.tif`, size, photo);
    await putGray(folder, `gt/${id}.tif`, size, () => 255);
  }
  const tiff = path.join(folder, 'images/austin6.tif');
  // The data are in front of the directory: damage some in the middle.
  const bytes = readFileSync(tiff);
  bytes.fill(0xff, bytes.length / 2, bytes.length / 2 + 2000);
  put(folder, 'images/austin6.tif', bytes);
  expect(await problemsOf(folder)).toEqual([
    ['unreadable', 'austin6', expect.stringMatching(/austin6\.tif: the strip at row \d+ can't be decoded/)],
  ]);

  const jpegs = newFolder();
  for (const id of ['1', '2']) {
    await putRgb(jpegs, `ISIC_${id}.jpg`, size, photo);
    await putGray(jpegs, `ISIC_${id}_segmentation.png`, size, (x) => (x < 300 ? 0 : 255));
  }
  const jpeg = path.join(jpegs, 'ISIC_2.jpg');
  truncateSync(jpeg, readFileSync(jpeg).length / 2);
  expect(await problemsOf(jpegs)).toEqual([
    ['unreadable', 'ISIC_2', expect.stringMatching(/ISIC_2\.jpg: can't be decoded as jpeg: .*damaged/)],
  ]);
});

test('unknown colours, summed over the file', async () => {
  const folder = newFolder();
  const size = { width: 8, height: 1100 };
  for (const id of ['1', '2']) {
    await putRgb(folder, `${id}_sat.jpg`, size, photo);
    // Of red nothing is known; the threshold makes it of others, too.
    await putRgb(folder, `${id}_mask.png`, size, (x) =>
      id === '2' && x < 2 ? [200, 100, x] : [0, 255, 255],
    );
  }
  expect(await problemsOf(folder)).toEqual([
    [
      'labels',
      '2',
      expect.stringMatching(/2_mask\.png: has colours that are no class: #FF0000 \(2200 pixels\)/),
    ],
  ]);
});

test('problems of the names are among them', async () => {
  const folder = newFolder();
  await putFolder(folder, { split: { train: ['a', 'b'], val: ['b'], test: ['c'] } }, ['a', 'b', 'c']);
  await putRgb(folder, 'images/lonely.png', { width: 3, height: 3 }, photo);
  expect((await problemsOf(folder)).map(([kind, id]) => [kind, id])).toEqual([
    ['missing-mask', 'lonely'],
    ['split-overlap', 'b'],
  ]);
});

test('mosaics: every part is looked into, and they must fit', async () => {
  const folder = newFolder();
  putJson(folder, 'dataset.json', {
    ...threeClasses,
    images: '{id}_{part}.png',
    masks: '{id}_{part}_mask.png',
    mosaic: { rows: 1, columns: 2 },
    split: { train: ['a'], test: ['b'] },
  });
  for (const [name, height] of [
    ['a_1', 5],
    ['a_2', 5],
    ['b_1', 5],
    ['b_2', 6],
  ] as const) {
    await putRgb(folder, `${name}.png`, { width: 4, height }, photo);
    await putGray(folder, `${name}_mask.png`, { width: name === 'a_2' ? 3 : 4, height }, () =>
      name === 'a_1' ? 9 : 0,
    );
  }
  expect(await problemsOf(folder)).toEqual([
    ['labels', 'a', expect.stringMatching(/a_1_mask\.png: has values that are no class: 9/)],
    ['size', 'a', expect.stringMatching(/a_2_mask\.png: is 3x5 pixels, but its image/)],
    ['size', 'b', expect.stringMatching(/b_2\.png: is 4x6 pixels; expected 4x5/)],
  ]);
});

test('regions must lie inside, and not overlap between splits', async () => {
  const folder = newFolder();
  await putFolder(
    folder,
    {
      regions: {
        a: {
          left: { width: 12 },
          right: { left: 11 },
          middle: { left: 5, width: 3 },
          out: { left: 15, width: 6 },
        },
      },
      split: { train: ['a/left', 'a/middle'], test: ['a/right', 'a/out'] },
    },
    ['a'],
  );
  expect(await problemsOf(folder)).toEqual([
    [
      'split-overlap',
      'a/right',
      expect.stringMatching(/a\/right: is in test and shares 1x10 pixels with a\/left, .* in train/),
    ],
    [
      'size',
      'a/out',
      expect.stringMatching(/a\/out: the region 6x10 at \(15, 0\) .* not inside .*a\.png, which is 20x10/),
    ],
  ]);
});

test('an aborted check ends', async () => {
  const folder = newFolder();
  await putFolder(folder);
  const abort = new AbortController();
  const checking = checkDataset(await openDataset(folder), {
    signal: abort.signal,
    parallel: 1,
    onProgress: () => abort.abort(),
  });
  await expect(checking).rejects.toMatchObject({ code: 'ERR_ABORTED' });
});

describe('figures', () => {
  const folder = newFolder();
  beforeAll(async () => {
    await putFolder(folder, {}, ['a', 'b']);
    // 30x40: a quarter of ice, a quarter of water, half of it ignored.
    await putRgb(folder, 'images/c.png', { width: 30, height: 40 }, photo);
    await putGray(folder, 'masks/c.png', { width: 30, height: 40 }, (_, y) =>
      y < 10 ? 2 : y < 20 ? 0 : 255,
    );
  });

  test('sizes, classes, foreground, ignored', async () => {
    const stats = await datasetStats(await openDataset(folder));
    expect(stats).toEqual({
      name: path.basename(folder),
      images: 3,
      labelled: 3,
      splits: { train: 1, val: 1, test: 1 },
      width: { min: 20, median: 20, max: 30 },
      height: { min: 10, median: 10, max: 40 },
      pixels: [200, 200, 1200],
      classes: [
        { name: 'water', color: [0, 0, 255], pixels: 500, share: 0.5, images: 3 },
        { name: 'land', color: [0, 128, 0], pixels: 200, share: 0.2, images: 2 },
        { name: 'ice', color: [255, 255, 255], pixels: 300, share: 0.3, images: 1 },
      ],
      ignored: { pixels: 600, share: 0.375 },
      foreground: { share: 0.5, byImage: { min: 0.5, median: 0.5, max: 0.5 } },
    });
  });

  test('glnet data stats prints and draws them', async () => {
    const { code, stdout } = await glnet(['data', 'stats', '.', '--out', 'stats.png'], { cwd: folder });
    expect(code).toBe(0);
    expect(stdout).toMatch(
      /images +3, 3 of them labelled[\s\S]*height +10 px, 10 px, 40 px[\s\S]*ignored +37\.5 %[\s\S]*class 1 land +20\.0 % +in 2 images/,
    );
    const { data, info } = await sharp(path.join(folder, 'stats.png'))
      .raw()
      .toBuffer({ resolveWithObject: true });
    // The bars have the classes' colours, and land's bar is 0.4 times as long as water's.
    const longest = (colour: number[]) => {
      let most = 0;
      for (let y = 0; y < info.height; y++) {
        let run = 0;
        for (let x = 0; x < info.width; x++) {
          const at = (y * info.width + x) * info.channels;
          run = colour.every((value, c) => data[at + c] === value) ? run + 1 : 0;
          most = Math.max(most, run);
        }
      }
      return most;
    };
    const [water, land] = [longest([0, 0, 255]), longest([0, 128, 0])];
    expect(water).toBeGreaterThan(100);
    expect(Math.abs(land - 0.4 * water)).toBeLessThan(4);
  });

  test('--json', async () => {
    const { code, stdout } = await glnet(['data', 'stats', '.', '--json'], { cwd: folder });
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ images: 3, ignored: { share: 0.375 } });
  });
});

describe('glnet data check', () => {
  test('a sound data set is exit code 0', async () => {
    const folder = newFolder();
    await putFolder(folder);
    const before = readdirSync(folder, { recursive: true });
    const { code, stdout } = await glnet(['data', 'check', folder]);
    expect(code).toBe(0);
    expect(stdout).toMatch(
      /all is well[\s\S]*images +6\n[\s\S]*water, land, ice\n[\s\S]*4 train, 1 val, 1 test \(drawn/,
    );
    expect(readdirSync(folder, { recursive: true })).toEqual(before);
  });

  test('a problem is a line and exit code 1, also in JSON', async () => {
    const folder = newFolder();
    await putFolder(folder);
    await putGray(folder, 'masks/b.png', { width: 2, height: 2 }, () => 0);
    const plain = await glnet(['data', 'check', folder, '--format', 'folder']);
    expect(plain.code).toBe(1);
    expect(plain.stderr).toMatch(
      /^glnet: .*b\.png: is 2x2 pixels, but its image .* is 20x10; expected one size$/m,
    );
    expect(plain.stdout).toMatch(/: 1 problem,/);
    const json = await glnet(['data', 'check', folder, '--json']);
    expect(json.code).toBe(1);
    expect(JSON.parse(json.stdout)).toMatchObject({
      root: folder,
      samples: 6,
      problems: [{ kind: 'size', id: 'b' }],
    });
  });

  test.each<[string, string[], number, RegExp]>([
    ['no folder', ['data', 'check'], 2, /missing required argument 'folder'/],
    [
      'an unknown format',
      ['data', 'check', '.', '--format', 'coco'],
      2,
      /Allowed choices are auto, deepglobe/,
    ],
    ['an unknown command', ['data', 'chekc'], 2, /unknown command 'chekc'/],
    ['a folder that is not there', ['data', 'check', 'nope'], 1, /nope: no such folder/],
  ])('%s', async (_, args, expected, message) => {
    const { code, stderr, stdout } = await glnet(args, { cwd: newFolder() });
    expect({ code, stdout }).toEqual({ code: expected, stdout: '' });
    expect(stderr).toMatch(message);
  });

  test('help', async () => {
    const { code, stdout } = await glnet(['data', 'check', '--help']);
    expect(code).toBe(0);
    expect(stdout).toMatch(
      /--format <layout>[\s\S]*Layouts[\s\S]*Examples:\n {2}glnet data check deepglobe\//,
    );
  });
});

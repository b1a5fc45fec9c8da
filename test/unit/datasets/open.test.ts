/** From the names of files to samples and splits. */
import path from 'node:path';
import { type Dataset, filesOf, samplesOf, splitNames } from '../../../src/datasets/dataset';
import { openDataset } from '../../../src/datasets/open';
import { Template } from '../../../src/datasets/template';
import { newFolder, photo, put, putFolder, putGray, putJson, putRgb, threeClasses } from './files';

const small = { width: 4, height: 3 };
const idsOf = ({ samples }: Dataset) => samples.map(({ id }) => id);

/** Files without content: opening looks at names alone. */
function touch(folder: string, ...names: string[]): void {
  for (const name of names) put(folder, name, '');
}

describe('templates', () => {
  test.each([
    ['images/{id}.png', 'images/a b.png', { id: 'a b' }],
    ['images/{id}.png', 'IMAGES/a.PNG', { id: 'a' }],
    ['images/{id}.png', 'images/sub/a.png', undefined],
    ['**/{id}_sat.jpg', 'a_sat.jpg', { id: 'a' }],
    ['**/{id}_sat.jpg', 'x/y/a_sat.jpg', { id: 'a' }],
    ['{id}.{tif,tiff}', 'a.tiff', { id: 'a' }],
    ['{id}.{tif,tiff}', 'a.tif.png', undefined],
    ['t{id}_p{part}.jpg', 't12_p3.jpg', { id: '12', part: 3 }],
    ['t{id}_p{part}.jpg', 't12_px.jpg', undefined],
    ['{group}/{id}-*.png', 'p1/a-left.png', { id: 'p1/a', group: 'p1' }],
    ['{id}/{id}.png', 'a/a.png', { id: 'a' }],
    ['{id}/{id}.png', 'a/b.png', undefined],
    ['(a+b).{id}', '(a+b).c', { id: 'c' }],
  ])('%s, %s', (template, file, expected) => {
    expect(new Template(template).match(file)).toEqual(expected);
  });
});

describe('layouts of the owners', () => {
  test('DeepGlobe, at any depth; folders without masks are unlabelled', async () => {
    const folder = newFolder();
    for (const id of ['119', '855', '3484', '6399'])
      touch(folder, `train/${id}_sat.jpg`, `train/${id}_mask.png`);
    touch(folder, 'valid/7_sat.jpg', 'valid/8_sat.jpg');
    const dataset = await openDataset(folder);
    expect(dataset).toMatchObject({ name: 'DeepGlobe land cover', excluded: [0], problems: [] });
    expect(dataset.classes.map(({ name }) => name)).toEqual([
      ...['unknown', 'urban', 'agriculture', 'rangeland', 'forest', 'water', 'barren'],
    ]);
    expect(idsOf(dataset)).toEqual(['7', '8', '119', '855', '3484', '6399']);
    expect(dataset.samples[2]).toMatchObject({
      image: path.join(folder, 'train/119_sat.jpg'),
      mask: path.join(folder, 'train/119_mask.png'),
    });
    expect(dataset.samples[0]!.mask).toBeUndefined();
    expect(dataset.notes).toEqual([
      expect.stringMatching(/valid: 2 images without masks, taken as unlabelled/),
    ]);
    expect(dataset.splitSource).toMatch(/drawn at random.*seed 0.*published lists/);
    // Every labelled image is in one split, and no other.
    const split = splitNames.flatMap((name) => dataset.splits[name]);
    expect(split.sort()).toEqual(['119', '3484', '6399', '855']);
    expect(dataset.splits.val.length).toBeGreaterThan(0);
    expect(dataset.splits.test.length).toBeGreaterThan(0);
  });

  test('Inria: tiles 1 to 5 of each city validate', async () => {
    const folder = newFolder();
    for (const id of ['austin1', 'austin5', 'austin6', 'austin10', 'austin15', 'tyrol-w2']) {
      touch(folder, `train/images/${id}.tif`, `train/gt/${id}.tif`);
    }
    touch(folder, 'test/images/bellingham1.tif');
    const { splits, splitSource, problems, classes } = await openDataset(folder);
    expect(splits).toEqual({
      train: ['austin6', 'austin10', 'austin15'],
      val: ['austin1', 'austin5', 'tyrol-w2'],
      test: [],
    });
    expect(splitSource).toMatch(/tiles 1 to 5/);
    expect(problems).toEqual([]);
    expect(classes).toHaveLength(2);
  });

  test('ISIC: split by its folders, else by fractions', async () => {
    const folder = newFolder();
    for (const [part, id] of [
      ['Training', '1'],
      ['Validation', '2'],
      ['Test_v2', '3'],
    ]) {
      touch(
        folder,
        `ISIC-2017_${part}_Data/ISIC_${id}.jpg`,
        `ISIC-2017_${part}_Data/ISIC_${id}_superpixels.png`,
      );
      touch(folder, `ISIC-2017_${part}_Part1_GroundTruth/ISIC_${id}_segmentation.png`);
    }
    const dataset = await openDataset(folder);
    expect(dataset.splits).toEqual({ train: ['ISIC_1'], val: ['ISIC_2'], test: ['ISIC_3'] });

    const flat = newFolder();
    for (let i = 0; i < 20; i++) touch(flat, `ISIC_${i}.jpg`, `ISIC_${i}_segmentation.png`);
    const { splits } = await openDataset(flat, { format: 'isic' });
    expect(splitNames.map((name) => splits[name].length)).toEqual([16, 2, 2]);
  });

  test.each([
    ['nothing known', ['a.jpg', 'b.txt'], /no known layout.*dataset\.json/],
    ['two layouts', ['a_sat.jpg', 'ISIC_1.jpg'], /could be deepglobe or isic; name one/],
  ])('refuses %s', async (_, names, message) => {
    const folder = newFolder();
    touch(folder, ...names);
    await expect(openDataset(folder)).rejects.toMatchObject({
      code: 'ERR_FILE',
      message: expect.stringMatching(message),
    });
  });

  test('refuses what is no folder, no format, and a folder without images', async () => {
    const folder = newFolder();
    const refusal = (message: RegExp, code = 'ERR_FILE') => ({
      code,
      message: expect.stringMatching(message),
    });
    await expect(openDataset(path.join(folder, 'nope'))).rejects.toMatchObject(
      refusal(/nope: no such folder/),
    );
    await expect(openDataset(folder, { format: 'coco' as never })).rejects.toMatchObject(
      refusal(/format is "coco".*auto, deepglobe/, 'ERR_INVALID_ARGUMENT'),
    );
    await expect(openDataset(folder, { format: 'deepglobe' })).rejects.toMatchObject(
      refusal(/no images; expected files named .*_sat\.jpg/),
    );
    await expect(openDataset(folder, { format: 'folder' })).rejects.toMatchObject(
      refusal(/has no dataset\.json/),
    );
  });
});

describe('pairs', () => {
  test('what is missing or there twice is named', async () => {
    const folder = newFolder();
    touch(
      folder,
      '1_sat.jpg',
      '1_mask.png',
      '2_sat.jpg',
      '3_mask.png',
      '4_sat.jpg',
      '4_mask.png',
      'sub/4_sat.jpg',
    );
    const { problems, samples } = await openDataset(folder);
    expect(problems.map(({ kind, id }) => [kind, id])).toEqual([
      ['missing-mask', '2'],
      ['duplicate-id', '4'],
      ['missing-image', '3'],
    ]);
    expect(problems[0]!.message).toMatch(/2_sat\.jpg: has no mask; expected \*\*\/2_mask\.png/);
    expect(problems[1]!.message).toMatch(/4_sat\.jpg and of .*sub.4_sat\.jpg/);
    expect(problems[2]!.message).toMatch(/3_mask\.png: this mask has no image/);
    expect(samples).toHaveLength(3);
  });

  test('a mask whose name fits the images’ template as well is no image', async () => {
    const folder = newFolder();
    putJson(folder, 'dataset.json', { ...threeClasses, images: '{id}.png', masks: '{id}_labels.png' });
    touch(folder, 'a.png', 'a_labels.png', 'b.png', 'b_labels.png');
    const dataset = await openDataset(folder);
    expect(idsOf(dataset)).toEqual(['a', 'b']);
    expect(dataset.problems).toEqual([]);
  });
});

describe('splits', () => {
  test('lists of the description, and what is wrong with them', async () => {
    const folder = newFolder();
    await putFolder(folder, { split: { train: ['a', 'b', 'b', 'x'], val: ['b', 'c'], test: [] } });
    const { splits, problems } = await openDataset(folder);
    expect(splits).toEqual({ train: ['a', 'b'], val: ['b', 'c'], test: [] });
    expect(problems.map(({ kind, message }) => [kind, message])).toEqual([
      ['split-overlap', expect.stringMatching(/^b: is listed twice in train/)],
      ['unknown-id', expect.stringMatching(/^x: is listed in train .* not in the data set/)],
      ['split-overlap', expect.stringMatching(/^b: is listed in train and in val/)],
      ['empty-split', expect.stringMatching(/the list of test is empty/)],
    ]);
  });

  test('nothing to train on, nothing to measure', async () => {
    const folder = newFolder();
    await putFolder(folder, { split: { test: ['a'] } });
    expect((await openDataset(folder)).problems).toEqual([
      { kind: 'empty-split', message: expect.stringMatching(/train has no image/) },
    ]);
    putJson(folder, 'splits.json', { train: ['a'] });
    expect((await openDataset(folder)).problems).toEqual([
      { kind: 'empty-split', message: expect.stringMatching(/val and test have no image/) },
    ]);
  });

  test('lists in the folder win: splits.json, then text files of ids or of names', async () => {
    const folder = newFolder();
    await putFolder(folder, { split: { train: ['a'], val: ['b'] } });
    put(folder, 'train.txt', '# training\nc\r\nimages/d.png\n\n');
    put(folder, 'crossvali.txt', 'e.png  # by its file\n');
    const dataset = await openDataset(folder);
    expect(dataset).toMatchObject({ splits: { train: ['c', 'd'], val: ['e'], test: [] }, problems: [] });
    expect(dataset.splitSource).toMatch(/train\.txt, crossvali\.txt in the folder/);
    expect(samplesOf(dataset, 'train').map(({ id }) => id)).toEqual(['c', 'd']);

    putJson(folder, 'splits.json', { train: ['f'], test: ['a'] });
    expect((await openDataset(folder)).splits).toEqual({ train: ['f'], val: [], test: ['a'] });
    putJson(folder, 'splits.json', { training: ['f'] });
    await expect(openDataset(folder)).rejects.toMatchObject({
      code: 'ERR_FILE',
      message: expect.stringMatching(/splits\.json: expected \{"train"/),
    });
  });

  test('fractions depend on the seed alone, and keep groups together', async () => {
    const folder = newFolder();
    const describe = (seed: number) => ({
      ...threeClasses,
      images: '{group}/{id}.jpg',
      masks: '{group}/{id}.png',
      split: { fractions: { train: 0.5, val: 0.25, test: 0.25 }, seed },
    });
    for (let patient = 0; patient < 12; patient++) {
      for (const eye of ['left', 'right']) touch(folder, `p${patient}/${eye}.jpg`, `p${patient}/${eye}.png`);
    }
    const split = async (seed: number) => {
      putJson(folder, 'dataset.json', describe(seed));
      const { splits, problems } = await openDataset(folder);
      expect(problems).toEqual([]);
      return splits;
    };
    const splits = await split(3);
    expect(splitNames.map((name) => splits[name].length)).toEqual([12, 6, 6]);
    for (const name of splitNames) {
      for (const id of splits[name]) expect(splits[name]).toContain(id.replace(/left|right/, 'left'));
    }
    expect(await split(3)).toEqual(splits);
    expect(await split(4)).not.toEqual(splits);
  });

  test('a group in two splits is named', async () => {
    const folder = newFolder();
    putJson(folder, 'dataset.json', {
      ...threeClasses,
      images: '{group}/{id}.jpg',
      masks: '{group}/{id}.png',
      split: { train: ['p/a'], test: ['p/b'] },
    });
    touch(folder, 'p/a.jpg', 'p/a.png', 'p/b.jpg', 'p/b.png');
    expect((await openDataset(folder)).problems).toEqual([
      {
        kind: 'split-overlap',
        id: 'p/b',
        message: expect.stringMatching(/p\/b: is in test, but p\/a of the same group p is in train/),
      },
    ]);
  });
});

describe('mosaics', () => {
  const mosaic = {
    ...threeClasses,
    images: 't{id}_p{part}.jpg',
    masks: 't{id}_p{part}_mask.png',
    mosaic: { rows: 1, columns: 2 },
    split: { train: ['1'], test: ['2'] },
  };

  test('parts in their order, whatever the order of their names', async () => {
    const folder = newFolder();
    putJson(folder, 'dataset.json', { ...mosaic, mosaic: { rows: 4, columns: 3 } });
    for (const tile of [1, 2]) {
      for (let part = 1; part <= 12; part++)
        touch(folder, `t${tile}_p${part}.jpg`, `t${tile}_p${part}_mask.png`);
    }
    const { samples, problems } = await openDataset(folder);
    expect(problems).toEqual([]);
    expect(samples).toHaveLength(2);
    expect(samples[0]!.image).toMatchObject({ columns: 3 });
    expect(filesOf(samples[0]!.image).map((file) => path.basename(file))).toEqual(
      Array.from({ length: 12 }, (_, i) => `t1_p${i + 1}.jpg`),
    );
  });

  test('what is missing, too many or there twice is named', async () => {
    const folder = newFolder();
    putJson(folder, 'dataset.json', { ...mosaic, images: ['t{id}_p{part}.jpg', 't{id}_p{part}.png'] });
    touch(folder, 't1_p1.jpg', 't1_p2.jpg', 't1_p3.jpg', 't1_p1_mask.png', 't1_p2_mask.png');
    touch(folder, 't2_p1.jpg', 't2_p2.jpg', 't2_p2.png', 't2_p1_mask.png');
    const { problems } = await openDataset(folder);
    expect(problems.map(({ kind, message }) => [kind, message])).toEqual([
      ['size', expect.stringMatching(/t1_p3\.jpg: is part 3 of 1; expected 1 to 2/)],
      ['duplicate-id', expect.stringMatching(/2: its part 2 is .*t2_p2\.jpg and .*t2_p2\.png/)],
      ['missing-mask', expect.stringMatching(/2: part 2 of its masks is missing/)],
      ['unknown-id', expect.stringMatching(/1: is listed in train/)],
      ['unknown-id', expect.stringMatching(/2: is listed in test/)],
      ['empty-split', expect.stringMatching(/train/)],
      ['empty-split', expect.stringMatching(/val and test/)],
    ]);
  });
});

test('regions are samples of their own; without a size they go to the edge', async () => {
  const folder = newFolder();
  await putRgb(folder, 'images/earth.png', { width: 40, height: 20 }, photo);
  await putGray(folder, 'masks/earth.png', { width: 40, height: 20 }, () => 0);
  putJson(folder, 'dataset.json', {
    ...threeClasses,
    regions: { earth: { west: { width: 25 }, east: { left: 25, top: 2 } }, mars: { north: {} } },
    split: { train: ['earth/west'], test: ['earth/east'] },
  });
  const { samples, splits, problems } = await openDataset(folder);
  expect(samples.map(({ id, region }) => [id, region])).toEqual([
    ['earth/west', { left: 0, top: 0, width: 25, height: 20 }],
    ['earth/east', { left: 25, top: 2, width: 15, height: 18 }],
  ]);
  expect(splits).toEqual({ train: ['earth/west'], val: [], test: ['earth/east'] });
  expect(problems).toEqual([
    { kind: 'unknown-id', id: 'mars', message: expect.stringMatching(/mars: has regions/) },
  ]);
});

describe('dataset.json', () => {
  test('colours, ignored values, excluded classes; kept elsewhere', async () => {
    const [folder, elsewhere] = [newFolder(), newFolder()];
    await putRgb(folder, 'images/a.png', small, photo);
    await putGray(folder, 'masks/a.png', small, () => 0);
    putJson(elsewhere, 'mine.json', {
      ...threeClasses,
      name: 'Mine',
      source: 'somebody',
      labels: 'auto',
      ignored: [7, '9b9b9b'],
      exclude: ['ice'],
      split: { train: ['a'], val: ['a'] },
    });
    const dataset = await openDataset(folder, { description: path.join(elsewhere, 'mine.json') });
    expect(dataset).toMatchObject({ name: 'Mine', root: folder, excluded: [2] });
    expect(dataset.classes[0]).toEqual({ name: 'water', color: [0, 0, 255] });
    expect(dataset.samples[0]!.coding).toEqual({
      kind: 'auto',
      classes: 3,
      ignoredValues: [7],
      colours: [
        [[0, 0, 255], 0],
        [[0, 128, 0], 1],
        [[255, 255, 255], 2],
        [[155, 155, 155], 255],
      ],
      threshold: undefined,
    });
  });

  const { classes } = threeClasses;
  test.each<[string, object, RegExp]>([
    ['a field that is none', { maskz: 1 }, /maskz is no field, expected one of name, source, classes/],
    ['no classes', { classes: undefined }, /classes is undefined, expected a list of 2 to 255/],
    ['one class', { classes: classes.slice(1, 2) }, /classes is \[.*, expected a list of 2 to 255/],
    [
      'a class without a name',
      { classes: [{ color: '#000000' }, ...classes] },
      /classes\[0\]\.name is undefined/,
    ],
    [
      'a colour that is none',
      { classes: [...classes, { name: 'x', color: 'red' }] },
      /classes\[3\]\.color is "red"/,
    ],
    [
      'a colour of a mask that is none',
      { classes: [...classes, { name: 'x', color: '#000000', maskColors: ['red'] }] },
      /classes\[3\]\.maskColors is "red"/,
    ],
    [
      'a name twice',
      { classes: [...classes, classes[0]] },
      /classes\[3\]\.name is "water", expected a name of its own/,
    ],
    [
      'a misspelt field of a class',
      { classes: [...classes, { name: 'x', colour: 1 }] },
      /classes\[3\]\.colour is no field/,
    ],
    ['an ignored value out of range', { ignored: [256] }, /ignored is 256, expected an index from 0 to 255/],
    ['an unknown coding', { labels: 'grey' }, /labels is "grey", expected one of index, rgb, auto/],
    ['a threshold out of range', { threshold: 0 }, /threshold is 0, expected an integer from 1 to 255/],
    ['a colour twice', { labels: 'rgb', ignored: ['#FFFFFF'] }, /\[255,255,255\] is both ice and ignored/],
    [
      'colours below a threshold',
      { labels: 'rgb', threshold: 99 },
      /a colour is \[0,128,0\], expected channels of 0 or 255/,
    ],
    [
      'an excluded class that is none',
      { exclude: ['fire'] },
      /exclude is "fire", expected one of water, land, ice/,
    ],
    ['a template without an id', { images: 'images/*.png' }, /images is "images\/\*\.png": it has no \{id\}/],
    ['a place that is none', { masks: '{id}_{name}.png' }, /\{name\} is no place/],
    ['a path outside', { masks: '../{id}.png' }, /expected a path inside/],
    ['no masks', { masks: undefined }, /masks is undefined, expected a path such as/],
    [
      'a mosaic without parts',
      { mosaic: { rows: 2, columns: 2 } },
      /images is "images\/\{id\}\.png", expected a \{part\}/,
    ],
    ['parts without a mosaic', { images: '{id}_{part}.png' }, /expected no \{part\}/],
    [
      'a mosaic of no rows',
      { mosaic: { rows: 0 } },
      /mosaic\.rows is 0, .*[\s\S]*mosaic\.columns is undefined/,
    ],
    [
      'a region that is none',
      { regions: { a: { b: { left: -1, width: 0 } } } },
      /regions\.a\.b\.left is -1[\s\S]*regions\.a\.b\.width is 0/,
    ],
    [
      'fractions that don’t sum to 1',
      { split: { fractions: { train: 0.5 } } },
      /split\.fractions is .*sum to 1/,
    ],
    ['a seed that is none', { split: { fractions: { train: 1 }, seed: 'x' } }, /split\.seed is "x"/],
    ['a list that is none', { split: { train: [1] } }, /split\.train is \[1\], expected a list of ids/],
    ['a split that is none', { split: { dev: [] } }, /split\.dev is no field/],
  ])('refuses %s', async (_, change, message) => {
    const folder = newFolder();
    await putFolder(folder, change, []);
    await expect(openDataset(folder)).rejects.toMatchObject({
      code: 'ERR_FILE',
      message: expect.stringMatching(message),
    });
  });

  test.each([
    ['no JSON', '{"classes": [', /dataset\.json: can't be read as JSON/],
    ['no object', '[]', /the file is \[\], expected an object/],
  ])('refuses %s', async (_, content, message) => {
    const folder = newFolder();
    put(folder, 'dataset.json', content);
    await expect(openDataset(folder)).rejects.toMatchObject({
      code: 'ERR_FILE',
      message: expect.stringMatching(message),
    });
  });

  test('names a list that can’t be read', async () => {
    const folder = newFolder();
    await putFolder(folder, { split: { train: 'train-ids.txt' } }, ['a']);
    await expect(openDataset(folder)).rejects.toMatchObject({
      code: 'ERR_FILE',
      message: expect.stringMatching(/train-ids\.txt: this list of a split can't be read \(ENOENT\)/),
    });
  });
});

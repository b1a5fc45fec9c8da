/** From masks to class indices, and several files as one image. */
import path from 'node:path';
import sharp from 'sharp';
import type { LabelCoding, Mosaic, Sample } from '../../../src/datasets/dataset';
import { openImage, openLabels, readLabels, type UnknownLabels } from '../../../src/datasets/labels';
import { Random } from '../../../src/nn/random';
import { COLOUR_TYPE } from '../../../src/raster/png';
import { writeIndexPng } from '../../../src/raster/write';
import { rawPng } from '../raster/images';
import { newFolder, photo, put, putGray, putRgb } from './files';

const folder = newFolder();
const at = (name: string) => path.join(folder, name);
const size = { width: 7, height: 5 };
const count = size.width * size.height;

const red = [255, 0, 0] as const;
const green = [0, 255, 0] as const;
const white = [255, 255, 255] as const;
const black = [0, 0, 0] as const;

const coding: LabelCoding = {
  kind: 'rgb',
  classes: 2,
  ignoredValues: [255],
  colours: [
    [red, 0],
    [green, 1],
    [white, 1],
    [black, 255],
  ],
};

function sample(mask: string | Mosaic, more: Partial<LabelCoding> = {}, rest: Partial<Sample> = {}): Sample {
  return { id: 'a', image: at('image.png'), mask, coding: { ...coding, ...more }, ...rest };
}

describe('colours', () => {
  const palette = [red, green, white, black];
  const colourOf = (x: number, y: number) => palette[(x * 3 + y) % 4]!;
  const expected = Array.from(
    { length: count },
    (_, i) => [0, 1, 1, 255][((i % 7) * 3 + Math.floor(i / 7)) % 4]!,
  );

  test.each(['mask.png', 'mask.tif'])('a class has several, and so has what is ignored: %s', async (name) => {
    await putRgb(folder, name, size, colourOf);
    expect(Array.from(await readLabels(sample(at(name))))).toEqual(expected);
    const window = { left: 2, top: 1, width: 4, height: 3 };
    const inWindow = expected.filter((_, i) => i % 7 >= 2 && i % 7 < 6 && i >= 7 && i < 28);
    expect(Array.from(await readLabels(sample(at(name)), window))).toEqual(inWindow);
  });

  test('a palette PNG is read by its colours, not by its indices', async () => {
    // Index 0 is green here, which is class 1.
    const indices = Uint8Array.from({ length: count }, (_, i) => i % 2);
    await writeIndexPng(at('palette.png'), size, indices, [green, red]);
    for (const kind of ['rgb', 'auto'] as const) {
      const labels = await readLabels(sample(at('palette.png'), { kind }));
      expect(Array.from(labels)).toEqual(Array.from(indices, (index) => 1 - index));
    }
  });

  test('unknown colours are an error that names them, the most frequent first', async () => {
    await putRgb(folder, 'odd.png', size, (x, y) => (y === 0 ? [1, 2, 3] : x === 6 ? [255, 0, 1] : red));
    await expect(readLabels(sample(at('odd.png')))).rejects.toMatchObject({
      code: 'ERR_IMAGE',
      message: expect.stringMatching(
        /odd\.png: has colours that are no class: #010203 \(7 pixels\), #FF0001 \(4 pixels\);/,
      ),
    });
    const seen: [string, UnknownLabels][] = [];
    const onUnknown = (file: string, unknown: UnknownLabels) => void seen.push([file, unknown]);
    const labels = await readLabels(sample(at('odd.png')), undefined, { onUnknown });
    expect(seen).toEqual([
      [
        at('odd.png'),
        new Map([
          ['#010203', 7],
          ['#FF0001', 4],
        ]),
      ],
    ]);
    expect(Array.from(labels)).toEqual(
      Array.from({ length: count }, (_, i) => (i < 7 || i % 7 === 6 ? 255 : 0)),
    );
  });

  test('runs of any length, beginning and ending anywhere', async () => {
    const wide = { width: 101, height: 37 };
    const random = new Random(1);
    const odd = [255, 0, 9] as const;
    const indices: number[] = [];
    while (indices.length < wide.width * wide.height) {
      const run = new Array<number>(1 + random.integer(40)).fill(random.integer(5));
      // Neighbours that differ in one channel only.
      indices.push(...run, ...(random.integer(2) ? [4] : []));
    }
    const indexAt = (x: number, y: number) => indices[y * wide.width + x]!;
    await putRgb(folder, 'runs.png', wide, (x, y) => [...palette, odd][indexAt(x, y)]!);
    const all = indices.slice(0, wide.width * wide.height);
    let unknown: UnknownLabels | undefined;
    const labels = await readLabels(sample(at('runs.png')), undefined, {
      onUnknown: (_, found) => {
        unknown = found;
      },
    });
    expect(Array.from(labels)).toEqual(all.map((index) => [0, 1, 1, 255, 255][index]));
    expect(unknown).toEqual(new Map([['#FF0009', all.filter((index) => index === 4).length]]));
  });

  test('gray of few bits, and of unknown levels', async () => {
    const bits = { width: 8, height: 2 };
    put(
      folder,
      'bits.png',
      rawPng(bits, 1, COLOUR_TYPE.gray, [Buffer.from([0b10110000]), Buffer.from([0b00001111])]),
    );
    const labels = await readLabels(sample(at('bits.png')));
    const expected = [...'1011000000001111'].map((bit) => (bit === '1' ? 1 : 255));
    expect(Array.from(labels)).toEqual(expected);
    await putGray(folder, 'levels.png', size, (x) => (x === 0 ? 254 : 255));
    await expect(readLabels(sample(at('levels.png')))).rejects.toMatchObject({
      message: expect.stringMatching(/levels\.png: has colours that are no class: #FEFEFE \(5 pixels\)/),
    });
    // Two levels that the threshold makes one colour.
    await putGray(folder, 'levels.png', size, (x) => (x < 2 ? 254 + x : 0));
    const onlyBlack = { threshold: 128, colours: [[black, 0]] as const };
    await expect(readLabels(sample(at('levels.png'), onlyBlack))).rejects.toMatchObject({
      message: expect.stringMatching(/#FFFFFF \(10 pixels\);/),
    });
  });

  test('with a threshold, channels count as 0 or 255', async () => {
    await putRgb(folder, 'soft.png', size, (x) => (x < 3 ? [128, 127, 5] : [100, 200, 0]));
    const labels = await readLabels(sample(at('soft.png'), { threshold: 128 }));
    expect(Array.from(labels)).toEqual(Array.from({ length: count }, (_, i) => (i % 7 < 3 ? 0 : 1)));
    const stricter = await readLabels(sample(at('soft.png'), { threshold: 129 }));
    expect(Array.from(stricter)).toEqual(Array.from({ length: count }, (_, i) => (i % 7 < 3 ? 255 : 1)));
  });

  test('0 and 255 in gray are colours as well', async () => {
    await putGray(folder, 'gray.png', size, (x) => (x < 3 ? 0 : 255));
    const labels = await readLabels(sample(at('gray.png')));
    expect(Array.from(labels)).toEqual(Array.from({ length: count }, (_, i) => (i % 7 < 3 ? 255 : 1)));
  });
});

describe('indices', () => {
  test.each<[string, LabelCoding['kind']]>([
    ['index.png', 'index'],
    ['index.png', 'auto'],
    ['index.tif', 'index'],
    ['index.tif', 'auto'],
  ])('%s as %s: classes, and values that are ignored', async (name, kind) => {
    await putGray(folder, name, size, (x) => [0, 1, 9, 255, 1, 0, 9][x]!);
    const labels = await readLabels(sample(at(name), { kind, ignoredValues: [9, 255] }));
    expect(Array.from(labels.subarray(0, 7))).toEqual([0, 1, 255, 255, 1, 0, 255]);
    const window = { left: 1, top: 2, width: 2, height: 2 };
    expect(Array.from(await readLabels(sample(at(name), { kind, ignoredValues: [9, 255] }), window))).toEqual(
      [1, 255, 1, 255],
    );
  });

  test('a palette PNG, whatever its colours', async () => {
    const indices = Uint8Array.from({ length: count }, (_, i) => i % 2);
    await writeIndexPng(at('palette-index.png'), size, indices, [green, green]);
    expect(await readLabels(sample(at('palette-index.png'), { kind: 'index' }))).toEqual(indices);
  });

  test('values out of range are an error that names them', async () => {
    await putGray(folder, 'range.png', size, (x, y) => (y === 0 ? 2 : x === 0 ? 255 : 1));
    await expect(readLabels(sample(at('range.png'), { kind: 'index' }))).rejects.toMatchObject({
      code: 'ERR_IMAGE',
      message: expect.stringMatching(/range\.png: has values that are no class: 2 \(7 pixels\);/),
    });
  });

  test('a colour TIFF is refused as a mask of indices', async () => {
    await putRgb(folder, 'colour.tif', size, photo);
    await expect(readLabels(sample(at('colour.tif'), { kind: 'index' }))).rejects.toMatchObject({
      code: 'ERR_IMAGE',
      message: expect.stringMatching(/colour\.tif: has 3 bands; expected a gray image/),
    });
  });
});

test('a sample without a mask, and a mask that is not there', async () => {
  await expect(readLabels({ ...sample(''), mask: undefined })).rejects.toMatchObject({
    code: 'ERR_INVALID_ARGUMENT',
  });
  await expect(readLabels(sample(at('nope.png')))).rejects.toMatchObject({ code: 'ERR_FILE' });
});

describe('mosaics and regions', () => {
  const columns = [5, 3, 4];
  const rows = [6, 2];
  const whole = { width: 12, height: 8 };
  const mask = (x: number, y: number) => ((x * y) % 3 === 0 ? red : green);
  const parts = (name: string) => rows.flatMap((_, r) => columns.map((_, c) => at(`${name}${r}${c}.png`)));

  beforeAll(async () => {
    await putRgb(folder, 'whole.png', whole, photo);
    await putRgb(folder, 'whole-mask.png', whole, mask);
    let top = 0;
    for (const [r, height] of rows.entries()) {
      let left = 0;
      for (const [c, width] of columns.entries()) {
        const [x0, y0] = [left, top];
        await putRgb(folder, `part${r}${c}.png`, { width, height }, (x, y) => photo(x + x0, y + y0));
        await putRgb(folder, `mask${r}${c}.png`, { width, height }, (x, y) => mask(x + x0, y + y0));
        left += width;
      }
      top += height;
    }
  });

  test.each([
    [{ left: 0, top: 0, width: 12, height: 8 }],
    [{ left: 4, top: 5, width: 5, height: 2 }],
    [{ left: 5, top: 0, width: 3, height: 6 }],
    [{ left: 11, top: 7, width: 1, height: 1 }],
  ])('parts read as one, and as the region of one: %j', async (window) => {
    const one = sample(at('whole-mask.png'), {}, { image: at('whole.png') });
    const many = sample(
      { columns: 3, parts: parts('mask') },
      {},
      { image: { columns: 3, parts: parts('part') } },
    );
    const [image, mosaic] = [await openImage(one), await openImage(many)];
    expect(mosaic).toMatchObject({ width: 12, height: 8, bands: 3, bits: 8, format: 'mosaic' });
    const pixels = await image.readWindow(window);
    const labels = await readLabels(one, window);
    expect(await mosaic.readWindow(window)).toEqual(pixels);
    expect(await readLabels(many, window)).toEqual(labels);
    await mosaic.close();
    await expect(mosaic.readWindow(window)).rejects.toMatchObject({ code: 'ERR_DISPOSED' });

    const region = await openImage({ ...many, region: window });
    expect(region).toMatchObject({ width: window.width, height: window.height });
    const all = { left: 0, top: 0, width: window.width, height: window.height };
    expect(await region.readWindow(all)).toEqual(pixels);
    expect(await readLabels({ ...many, region: window })).toEqual(labels);
    const wide = { ...all, width: window.width + 1 };
    expect(() => region.readWindow(wide)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }));
    await region.close();
    await image.close();
  });

  test('parts that don’t fit, and regions outside, are named', async () => {
    const wrong = parts('part');
    [wrong[4], wrong[5]] = [wrong[5]!, wrong[4]!];
    await expect(openImage(sample('', {}, { image: { columns: 3, parts: wrong } }))).rejects.toMatchObject({
      code: 'ERR_IMAGE',
      message: expect.stringMatching(/part12\.png: is 4x2 pixels; expected 3x2, .* in row 2, column 2/),
    });
    wrong[3] = at('none.png');
    await expect(openImage(sample('', {}, { image: { columns: 3, parts: wrong } }))).rejects.toMatchObject({
      code: 'ERR_FILE',
      message: expect.stringMatching(/none\.png: no such file/),
    });
    const region = { left: 10, top: 0, width: 3, height: 1 };
    await expect(openLabels(sample(at('whole-mask.png'), {}, { region }))).rejects.toMatchObject({
      code: 'ERR_IMAGE',
      message: expect.stringMatching(/whole-mask\.png: the region 3x1 at \(10, 0\) is empty or not inside/),
    });
  });
});

test('a mask that is cut short is an error', async () => {
  const whole = await sharp({ create: { ...size, channels: 3, background: '#F00' } })
    .png()
    .toBuffer();
  put(folder, 'cut.png', whole.subarray(0, whole.length - 20));
  for (const kind of ['rgb', 'index', 'auto'] as const) {
    await expect(readLabels(sample(at('cut.png'), { kind }))).rejects.toMatchObject({ code: 'ERR_FILE' });
  }
});

import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { readIndexMask } from '../../../src/raster/index-mask';
import { COLOUR_TYPE, type Colour, crc32, pngChunk } from '../../../src/raster/png';
import { openRaster } from '../../../src/raster/raster';
import { writeGrayPng, writeIndexPng, writeOverlay } from '../../../src/raster/write';
import { image, pattern, rawPng, temporaryFolder } from './images';

const folder = temporaryFolder();
const at = (name: string) => join(folder, name);
const PALETTE: Colour[] = [
  [0, 0, 0],
  [255, 0, 0],
  [0, 255, 0],
  [255, 0, 0],
];

async function* bands(data: Uint8Array, width: number, ...rows: number[]): AsyncGenerator<Uint8Array> {
  let first = 0;
  for (const count of rows) {
    yield data.subarray(first * width, (first + count) * width);
    first += count;
  }
}

/** Colours of the file's pixels, as another reader sees them. */
function decode(path: string): Promise<{ data: Buffer; info: sharp.OutputInfo }> {
  return sharp(path).removeAlpha().raw().toBuffer({ resolveWithObject: true });
}

test('crc32 is the one of PNG', () => {
  expect(crc32(Buffer.from('IEND'))).toBe(0xae426082);
  expect(crc32(Buffer.from('123456789'))).toBe(0xcbf43926);
});

describe('writeIndexPng', () => {
  test('stores class indices, also where colours repeat or are missing', async () => {
    const labels = Uint8Array.from({ length: 37 * 23 }, (_, i) => (i % 5 === 4 ? 255 : i % 5));
    await writeIndexPng(at('mask.png'), { width: 37, height: 23 }, labels, PALETTE);
    expect(await readIndexMask(at('mask.png'))).toEqual({ width: 37, height: 23, labels: expect.anything() });
    expect(Buffer.from((await readIndexMask(at('mask.png'))).labels).equals(Buffer.from(labels))).toBe(true);

    const { isPalette, width, height } = await sharp(at('mask.png')).metadata();
    expect({ isPalette, width, height }).toEqual({ isPalette: true, width: 37, height: 23 });
    const { data } = await decode(at('mask.png'));
    expect(Array.from(data)).toEqual(
      Array.from(labels).flatMap((label) => [...(PALETTE[label] ?? [0, 0, 0])]),
    );
  });

  test('bands of rows give the same file as all rows at once', async () => {
    const [width, height] = [2000, 1500];
    const labels = pattern(width, height, 1).map((v) => v >> 6);
    await writeIndexPng(at('whole.png'), { width, height }, labels, PALETTE);
    await writeIndexPng(at('bands.png'), { width, height }, bands(labels, width, 1, 700, 0, 799), PALETTE);
    const same = Buffer.from((await readIndexMask(at('bands.png'))).labels).equals(Buffer.from(labels));
    expect(same).toBe(true);
    expect(readFileSync(at('bands.png')).equals(readFileSync(at('whole.png')))).toBe(true);
  });

  test('one pixel, and 256 classes', async () => {
    await writeIndexPng(at('one.png'), { width: 1, height: 1 }, Uint8Array.of(3), PALETTE);
    expect((await readIndexMask(at('one.png'))).labels).toEqual(Buffer.from([3]));
    const gray = Array.from({ length: 256 }, (_, i): Colour => [i, i, i]);
    const all = Uint8Array.from({ length: 256 }, (_, i) => 255 - i);
    await writeIndexPng(at('all.png'), { width: 16, height: 16 }, all, gray);
    expect((await readIndexMask(at('all.png'))).labels).toEqual(Buffer.from(all));
  });

  test('rows that do not fit are refused, and nothing is left', async () => {
    const before = readdirSync(folder);
    const size = { width: 10, height: 10 };
    for (const rows of [
      new Uint8Array(99),
      new Uint8Array(110),
      bands(new Uint8Array(90), 10, 4, 5),
      bands(new Uint8Array(110), 10, 4, 7),
    ]) {
      const write = writeIndexPng(at('wrong.png'), size, rows, PALETTE);
      await expect(write).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    }
    for (const palette of [[], [[0, 0]], [[0, 0, 256]], new Array(257).fill([0, 0, 0])] as Colour[][]) {
      const write = writeIndexPng(at('wrong.png'), size, new Uint8Array(100), palette);
      await expect(write).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    }
    const empty = writeIndexPng(at('wrong.png'), { width: 0, height: 3 }, new Uint8Array(0), PALETTE);
    await expect(empty).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    expect(readdirSync(folder)).toEqual(before);
  });

  test('an error or abort in the middle leaves the older file', async () => {
    writeFileSync(at('kept.png'), 'older');
    const before = readdirSync(folder);
    const size = { width: 1000, height: 1000 };
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield pattern(1000, 500, 1);
      throw new RangeError('from the rows');
    }
    await expect(writeIndexPng(at('kept.png'), size, failing(), PALETTE)).rejects.toThrow('from the rows');

    const controller = new AbortController();
    async function* aborting(): AsyncGenerator<Uint8Array> {
      yield pattern(1000, 500, 1);
      controller.abort();
      yield pattern(1000, 500, 1);
    }
    const { signal } = controller;
    for (const rows of [aborting(), pattern(1000, 1000, 1)]) {
      const write = writeIndexPng(at('kept.png'), size, rows, PALETTE, { signal });
      await expect(write).rejects.toMatchObject({ name: 'AbortError', code: 'ERR_ABORTED' });
    }
    expect(readdirSync(folder)).toEqual(before);
    expect(readFileSync(at('kept.png'), 'utf8')).toBe('older');
  });

  test('a folder that is not there', async () => {
    const path = join(folder, 'none', 'mask.png');
    const write = writeIndexPng(path, { width: 1, height: 1 }, Uint8Array.of(0), PALETTE);
    await expect(write).rejects.toMatchObject({ code: 'ERR_FILE', message: expect.stringContaining(path) });
  });
});

test('writeGrayPng stores values', async () => {
  const values = pattern(61, 47, 1);
  await writeGrayPng(at('gray.png'), { width: 61, height: 47 }, bands(values, 61, 40, 7));
  const { data, info } = await sharp(at('gray.png'))
    .toColourspace('b-w')
    .raw()
    .toBuffer({ resolveWithObject: true });
  expect(info).toMatchObject({ width: 61, height: 47, channels: 1 });
  expect(data.equals(Buffer.from(values))).toBe(true);
});

describe('readIndexMask', () => {
  test.each([1, 2, 4])('%i-bit palette and gray', async (bits) => {
    const indices = Array.from({ length: 24 }, (_, i) => (i * 7) % 2 ** bits);
    const row = Buffer.alloc(3 * bits);
    for (const [i, v] of indices.entries()) row[(i * bits) >> 3]! |= v << (8 - bits - ((i * bits) & 7));
    const plte = pngChunk('PLTE', Buffer.alloc(3 * 2 ** bits, 200));
    for (const png of [
      rawPng(
        { width: 24, height: 1 },
        bits,
        COLOUR_TYPE.palette,
        [row],
        [plte, pngChunk('tRNS', Buffer.from([0]))],
      ),
      rawPng(
        { width: 24, height: 1 },
        bits,
        COLOUR_TYPE.gray,
        [row],
        [pngChunk('gAMA', Buffer.from([0, 0, 100, 0]))],
      ),
    ]) {
      writeFileSync(at('bits.png'), png);
      expect(Array.from((await readIndexMask(at('bits.png'))).labels)).toEqual(indices);
    }
  });

  test('interlaced and filtered files', async () => {
    const labels = pattern(70, 50, 1);
    const raw = { width: 70, height: 50, channels: 1 } as const;
    for (const options of [{ progressive: true }, { adaptiveFiltering: true }]) {
      await sharp(labels, { raw }).toColourspace('b-w').png(options).toFile(at('filtered.png'));
      expect(Buffer.from((await readIndexMask(at('filtered.png'))).labels).equals(Buffer.from(labels))).toBe(
        true,
      );
    }
  });

  test('refuses what is no index mask', async () => {
    const refused = async (data: Uint8Array, code: string, says: string) => {
      writeFileSync(at('refused.png'), data);
      const read = readIndexMask(at('refused.png'));
      await expect(read).rejects.toMatchObject({ code, message: expect.stringContaining(says) });
    };
    await refused(await image(9, 9, 3).png().toBuffer(), 'ERR_IMAGE', 'kind rgb');
    await refused(await image(9, 9, 2).png().toBuffer(), 'ERR_IMAGE', 'kind grayAlpha');
    await refused(
      rawPng({ width: 1, height: 1 }, 16, COLOUR_TYPE.gray, [Buffer.alloc(2)]),
      'ERR_IMAGE',
      '16 bits',
    );
    await refused(await image(9, 9, 3).jpeg().toBuffer(), 'ERR_FILE', 'not a PNG');
    const mask = await image(300, 300, 1).png().toBuffer();
    await refused(mask.subarray(0, mask.length / 2), 'ERR_FILE', 'cut short');
    await refused(mask.subarray(0, 8), 'ERR_FILE', 'cut short');
    const short = rawPng({ width: 100, height: 100 }, 8, COLOUR_TYPE.gray, [new Uint8Array(100)]);
    await refused(short, 'ERR_IMAGE', 'damaged');
    await expect(readIndexMask(at('missing.png'))).rejects.toMatchObject({ code: 'ERR_FILE' });
    writeFileSync(at('refused.png'), mask);
    const limited = readIndexMask(at('refused.png'), { maxPixels: 89999 });
    await expect(limited).rejects.toMatchObject({
      code: 'ERR_IMAGE',
      message: expect.stringContaining('300x300'),
    });
  });
});

describe('writeOverlay', () => {
  const palette: Colour[] = [
    [255, 0, 0],
    [0, 0, 255],
  ];

  test('blends classes over the image; indices without a colour show it', async () => {
    const pixels = { data: pattern(30, 20, 3), width: 30, height: 20, channels: 3 };
    const labels = Uint8Array.from({ length: 600 }, (_, i) => [0, 1, 255][i % 3]!);
    const raster = await openRaster(pixels);
    await writeOverlay(at('overlay.png'), raster, labels, palette, { opacity: 0.25 });
    const expected = Array.from(pixels.data, (v, i) => {
      const colour = palette[labels[Math.floor(i / 3)]!];
      return colour ? Math.round(v * 0.75 + colour[i % 3]! * 0.25) : v;
    });
    const { data, info } = await decode(at('overlay.png'));
    expect(info).toMatchObject({ width: 30, height: 20 });
    expect(Array.from(data)).toEqual(expected);
  });

  test('shrinks to maxSide: areas are averaged, labels picked', async () => {
    const width = 400;
    const height = 200;
    // Columns of black and white: 4 to 1 they average to 128 (127.5 rounded).
    const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => (Math.floor(i / 3) % 2 ? 255 : 0));
    const labels = Uint8Array.from({ length: width * height }, (_, i) => (i % width < 200 ? 0 : 255));
    const raster = await openRaster({ data, width, height, channels: 3 });
    await writeOverlay(at('small.png'), raster, bands(labels, width, 60, 140), palette, { maxSide: 100 });
    const { data: small, info } = await decode(at('small.png'));
    expect(info).toMatchObject({ width: 100, height: 50 });
    for (let i = 0; i < 100 * 50; i++) {
      const pixel = Array.from(small.subarray(3 * i, 3 * i + 3));
      if (pixel.join() !== (i % 100 < 50 ? '192,64,64' : '128,128,128'))
        throw new Error(`pixel ${i}: ${pixel}`);
    }
  });

  test('JPEG and WebP by the name, others refused', async () => {
    const raster = await openRaster({ data: pattern(30, 20, 3), width: 30, height: 20, channels: 3 });
    const labels = new Uint8Array(600);
    for (const [name, format] of [
      ['o.jpg', 'jpeg'],
      ['o.JPEG', 'jpeg'],
      ['o.webp', 'webp'],
    ] as const) {
      await writeOverlay(at(name), raster, labels, palette);
      expect((await sharp(at(name)).metadata()).format).toBe(format);
    }
    const invalid = { code: 'ERR_INVALID_ARGUMENT' };
    await expect(writeOverlay(at('o.bmp'), raster, labels, palette)).rejects.toMatchObject(invalid);
    await expect(writeOverlay(at('x.png'), raster, labels, palette, { opacity: 2 })).rejects.toMatchObject(
      invalid,
    );
    await expect(writeOverlay(at('x.png'), raster, labels, palette, { maxSide: 0 })).rejects.toMatchObject(
      invalid,
    );
    await expect(writeOverlay(at('x.png'), raster, new Uint8Array(599), palette)).rejects.toMatchObject(
      invalid,
    );
    const aborted = writeOverlay(at('x.png'), raster, labels, palette, { signal: AbortSignal.abort() });
    await expect(aborted).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    expect(existsSync(at('x.png'))).toBe(false);
  });
});

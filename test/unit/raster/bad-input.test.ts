import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { COLOUR_TYPE } from '../../../src/raster/png';
import { openRaster, type RasterOptions, type RasterSource } from '../../../src/raster/raster';
import { image, pattern, rawPng, temporaryFolder } from './images';

const folder = temporaryFolder();
const [W, H] = [160, 120];

function save(name: string, data: Uint8Array | string): string {
  const path = join(folder, name);
  writeFileSync(path, data);
  return path;
}

/** Opens and reads everything: damage may only show then. */
async function readAll(source: RasterSource, options?: RasterOptions): Promise<Uint8Array> {
  const raster = await openRaster(source, options);
  try {
    return await raster.readWindow({ left: 0, top: 0, width: raster.width, height: raster.height });
  } finally {
    await raster.close();
  }
}

async function expectRefused(
  source: RasterSource,
  code: string,
  says: (string | RegExp)[],
  options?: RasterOptions,
): Promise<void> {
  const error = await readAll(source, options).then(
    () => new Error('was read'),
    (error: Error) => error,
  );
  expect(error).toMatchObject({ name: 'GlnetError', code });
  for (const words of says) expect(error.message).toMatch(words);
  if (typeof source === 'string') expect(error.message).toContain(source);
}

async function geotiff(data: unknown, metadata: object): Promise<Uint8Array> {
  const { writeArrayBuffer } = await import('geotiff');
  return new Uint8Array(writeArrayBuffer(data as never, metadata as never));
}

describe('files that are not there or no images', () => {
  test('missing', () => expectRefused(join(folder, 'missing.png'), 'ERR_FILE', ['no such file']));

  test('a folder', async () => {
    mkdirSync(join(folder, 'folder.png'));
    await expectRefused(join(folder, 'folder.png'), 'ERR_FILE', ['is a folder']);
  });

  test('empty', async () => {
    await expectRefused(save('empty.png', ''), 'ERR_FILE', ['is empty']);
    await expectRefused(Buffer.alloc(0), 'ERR_FILE', ['is empty']);
  });

  test('text under the name of an image', () =>
    expectRefused(save('text.png', 'Hello, world: no image here'), 'ERR_FILE', [
      '"Hello, w"',
      'expected JPEG',
    ]));

  test('a format that is not read', () =>
    expectRefused(save('drawing.svg', '<svg xmlns="http://www.w3.org/2000/svg"/>'), 'ERR_FILE', [
      'expected JPEG',
    ]));
});

describe('files cut short', () => {
  const make: [string, () => Promise<Buffer>][] = [
    ['jpeg', () => image(W, H, 3).jpeg().toBuffer()],
    ['progressive jpeg', () => image(W, H, 3).jpeg({ progressive: true }).toBuffer()],
    ['png', () => image(W, H, 3).png().toBuffer()],
    ['webp', () => image(W, H, 3).webp().toBuffer()],
    ['gif', () => image(W, H, 3).gif().toBuffer()],
    ['tiff, directory last', () => image(W, H, 3).tiff({ compression: 'lzw' }).toBuffer()],
  ];
  test.each(make)('%s', async (name, encode) => {
    const whole = await encode();
    for (const share of [0.02, 0.5, 0.95]) {
      const path = save('cut', whole.subarray(0, Math.ceil(whole.length * share)));
      await expectRefused(path, 'ERR_FILE', [
        /cut short|too early/,
        name.split(/[ ,]/).at(-1) === 'last' ? 'TIFF' : '',
      ]);
    }
  });

  test('TIFF, directory first', async () => {
    const data = pattern(W, H, 3);
    const whole = await geotiff(data, { width: W, height: H, SamplesPerPixel: 3, BitsPerSample: [8, 8, 8] });
    await readAll(whole);
    await expectRefused(save('cut.tif', whole.subarray(0, whole.length - 1)), 'ERR_FILE', [
      'cut short: strip 0 of 1',
      `the file at ${whole.length - 1}`,
    ]);
    await expectRefused(whole.subarray(0, 100), 'ERR_FILE', ['directory']);
  });
});

describe('damaged files', () => {
  test('PNG and LZW tiles with overwritten data', async () => {
    const png = await image(W, H, 3).png().toBuffer();
    png.fill(0x55, png.length / 2, png.length / 2 + 40);
    await expectRefused(save('damaged.png', png), 'ERR_FILE', ['damaged']);

    const tiff = await image(W, H, 3)
      .tiff({ compression: 'lzw', tile: true, tileWidth: 64, tileHeight: 64 })
      .toBuffer();
    tiff.fill(0xff, 2000, 2200);
    await expectRefused(save('damaged.tif', tiff), 'ERR_IMAGE', [/tile at \(\d+, 0\)/, 'damaged']);
  });

  test('JPEG with bytes missing inside', async () => {
    const jpeg = await image(W, H, 3).jpeg().toBuffer();
    const middle = jpeg.length >> 1;
    const holed = Buffer.concat([jpeg.subarray(0, middle), Buffer.from([0xff, 0xd9])]);
    await expectRefused(save('holed.jpg', holed), 'ERR_FILE', ['jpeg', /cut short|damaged/]);
  });
});

describe('images that are too large', () => {
  test('a PNG that claims 100000x100000 pixels is refused by default', async () => {
    const bomb = rawPng({ width: 100000, height: 100000 }, 8, COLOUR_TYPE.gray, [new Uint8Array(1000)]);
    await expectRefused(save('bomb.png', bomb), 'ERR_IMAGE', [
      '100000x100000',
      '10000000000',
      'raise maxPixels',
    ]);
  });

  test('maxPixels counts pixels, for every kind of source', async () => {
    const sources: RasterSource[] = [
      await image(W, H, 3).jpeg().toBuffer(),
      await image(W, H, 3).tiff({ tile: true }).toBuffer(),
      { data: pattern(W, H, 3), width: W, height: H, channels: 3 },
    ];
    for (const source of sources) {
      await expectRefused(source, 'ERR_IMAGE', [`limit is ${W * H - 1}`], { maxPixels: W * H - 1 });
      expect(await readAll(source, { maxPixels: W * H })).toHaveLength(W * H * 3);
    }
  });
});

describe('images of the wrong kind', () => {
  test('floating-point and signed samples', async () => {
    const data = Float32Array.from(pattern(W, H, 1));
    const float = await geotiff(data, { width: W, height: H, BitsPerSample: [32], SampleFormat: [3] });
    await expectRefused(save('float.tif', float), 'ERR_IMAGE', [
      '32-bit floating-point',
      'expected 8- or 16-bit',
      'gdal_translate',
    ]);
    const signed = await geotiff(Int16Array.from(data), {
      width: W,
      height: H,
      BitsPerSample: [16],
      SampleFormat: [2],
    });
    await expectRefused(signed, 'ERR_IMAGE', ['16-bit signed']);
  });

  test('a compression that nothing here decodes', async () => {
    const tiff = await image(W, H, 3)
      .tiff({ compression: 'lzw', tile: true, tileWidth: 64, tileHeight: 64 })
      .toBuffer();
    const compression = tiff.indexOf(Buffer.from([3, 1, 3, 0, 1, 0, 0, 0, 5, 0]));
    tiff.writeUInt16LE(34925, compression + 8);
    await expectRefused(save('lzma.tif', tiff), 'ERR_IMAGE', ['compression 34925']);
  });

  test('a TIFF without pixels', async () => {
    const tiff = await image(W, H, 3).tiff({ compression: 'lzw' }).toBuffer();
    const entry = tiff.indexOf(Buffer.from([0, 1, 3, 0, 1, 0, 0, 0, W, 0]));
    expect(entry).toBeGreaterThan(0);
    tiff.writeUInt16LE(0, entry + 8);
    await expectRefused(save('zero.tif', tiff), 'ERR_IMAGE', [`0x${H}`]);
  });

  test('bands that the image lacks', async () => {
    for (const source of [
      await image(W, H, 3).png().toBuffer(),
      await image(W, H, 1).png().toBuffer(),
      await image(W, H, 3).tiff({ tile: true }).toBuffer(),
      { data: pattern(W, H, 3), width: W, height: H, channels: 3 },
    ]) {
      await expectRefused(source, 'ERR_IMAGE', ['band 4 was asked for', /has [13];/], { bands: [1, 4, 1] });
    }
  });

  test('decoded pixels that do not fit their size', async () => {
    const data = new Uint8Array(12);
    await expectRefused({ data, width: 3, height: 2, channels: 3 }, 'ERR_INVALID_ARGUMENT', [
      '18 bytes',
      'has 12',
    ]);
    await expectRefused({ data, width: 0, height: 2, channels: 3 }, 'ERR_INVALID_ARGUMENT', ['0x2']);
    const floats = new Float32Array(12) as unknown as Uint8Array;
    await expectRefused({ data: floats, width: 2, height: 2, channels: 3 }, 'ERR_INVALID_ARGUMENT', [
      'Uint8Array',
    ]);
  });
});

test('options out of range', async () => {
  const png = await sharp(pattern(4, 4, 3), { raw: { width: 4, height: 4, channels: 3 } })
    .png()
    .toBuffer();
  for (const options of [
    { bands: [0, 1, 2] },
    { bands: [1, 2] },
    { bands: [1, 2, 2.5] },
    { stretch: [5, 5] },
    { stretch: [0, Number.POSITIVE_INFINITY] },
    { maxPixels: 0 },
    { maxPixels: Number.NaN },
  ]) {
    await expectRefused(png, 'ERR_INVALID_ARGUMENT', ['expected'], options as unknown as RasterOptions);
  }
});

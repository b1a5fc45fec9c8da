import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import sharp, { type TiffOptions } from 'sharp';
import { openRaster } from '../../../src/raster/raster';
import { cut, image, pattern, pattern16, pick, temporaryFolder } from './images';

const folder = temporaryFolder();
const [W, H] = [171, 133];

const WINDOWS = [
  { left: 0, top: 0, width: W, height: H },
  { left: 50, top: 40, width: 90, height: 70 },
  { left: 15, top: 15, width: 2, height: 2 },
  { left: W - 1, top: H - 1, width: 1, height: 1 },
  { left: 0, top: H - 3, width: W, height: 3 },
];

/** A TIFF by geotiff.js: big-endian, uncompressed, one strip, georeferenced. */
async function geotiff(
  data: Uint8Array | Uint16Array,
  bands: number,
  more: object = {},
): Promise<Uint8Array> {
  const { writeArrayBuffer } = await import('geotiff');
  const bits = 8 * data.BYTES_PER_ELEMENT;
  const metadata = {
    width: W,
    height: H,
    SamplesPerPixel: bands,
    BitsPerSample: new Array(bands).fill(bits),
    SampleFormat: new Array(bands).fill(1),
    ...more,
  };
  return new Uint8Array(writeArrayBuffer(data, metadata as never));
}

async function expectPixels(file: Uint8Array | string, rgb: ArrayLike<number>, options = {}): Promise<void> {
  const raster = await openRaster(file, options);
  expect(raster).toMatchObject({ width: W, height: H, format: 'tiff' });
  for (const window of WINDOWS) {
    expect(Buffer.from(await raster.readWindow(window)).equals(Buffer.from(cut(rgb, W, window)))).toBe(true);
  }
  await raster.close();
}

/** How many bytes a raster reads of its file, by the reads of its file handle. */
async function countBytes(work: () => Promise<void>): Promise<number> {
  const probe = await open(__filename, 'r');
  const prototype = Object.getPrototypeOf(probe) as FileHandle;
  await probe.close();
  const read = jest.spyOn(prototype, 'read');
  try {
    await work();
    const results = await Promise.all(
      read.mock.results.map(({ value }) => value as Promise<{ bytesRead: number }>),
    );
    return results.reduce((sum, { bytesRead }) => sum + bytesRead, 0);
  } finally {
    read.mockRestore();
  }
}

describe('TIFF in windows', () => {
  const kinds: [string, TiffOptions][] = [];
  for (const compression of ['none', 'lzw', 'deflate', 'packbits'] as const) {
    for (const predictor of compression === 'lzw' || compression === 'deflate'
      ? (['none', 'horizontal'] as const)
      : (['none'] as const)) {
      kinds.push([`${compression}, strips, predictor ${predictor}`, { compression, predictor }]);
      kinds.push([
        `${compression}, tiles, predictor ${predictor}`,
        { compression, predictor, tile: true, tileWidth: 64, tileHeight: 48 },
      ]);
    }
  }

  test.each(kinds)('%s', async (_, options) => {
    for (const channels of [1, 3, 4] as const) {
      const file = await image(W, H, channels).tiff(options).toBuffer();
      const bands = channels === 1 ? [0, 0, 0] : [0, 1, 2];
      await expectPixels(file, pick(pattern(W, H, channels), channels, bands));

      const deep = await sharp(pattern16(W, H, channels), { raw: { width: W, height: H, channels } })
        .toColourspace(channels === 1 ? 'grey16' : 'rgb16')
        .tiff(options)
        .toBuffer();
      const upper = pattern16(W, H, channels).map((v) => v >> 8);
      await expectPixels(deep, pick(upper, channels, bands));
    }
  });

  test('a pyramid and BigTIFF give the full image', async () => {
    const tiff = await image(W, H, 3)
      .tiff({
        compression: 'deflate',
        tile: true,
        tileWidth: 32,
        tileHeight: 32,
        pyramid: true,
        bigtiff: true,
      })
      .toBuffer();
    await expectPixels(tiff, pattern(W, H, 3));
  });

  test('JPEG tiles are decoded as libtiff does', async () => {
    const tiff = await image(W, H, 3)
      .blur(3)
      .tiff({ compression: 'jpeg', quality: 90, tile: true, tileWidth: 64, tileHeight: 64 })
      .toBuffer();
    await expectPixels(tiff, await sharp(tiff).raw().toBuffer());
  });

  test('big-endian, many bands, 8 and 16 bits', async () => {
    await expectPixels(await geotiff(pattern(W, H, 3), 3), pattern(W, H, 3));
    const six = pattern16(W, H, 6);
    const chosen = pick(six, 6, [4, 2, 0]);
    const file = await geotiff(six, 6);
    await expectPixels(
      file,
      chosen.map((v) => v >> 8),
      { bands: [5, 3, 1] },
    );
    const stretched = chosen.map((v) => Math.min(255, Math.max(0, Math.round(((v - 5000) * 255) / 20000))));
    await expectPixels(file, stretched, { bands: [5, 3, 1], stretch: [5000, 25000] });
  });

  test('bands that say nothing of colour must be chosen', async () => {
    const file = await geotiff(pattern(W, H, 5), 5, { PhotometricInterpretation: 1 });
    await expect(openRaster(file)).rejects.toMatchObject({
      code: 'ERR_IMAGE',
      message: expect.stringContaining('5 bands'),
    });
    await expectPixels(file, pick(pattern(W, H, 5), 5, [0, 1, 4]), { bands: [1, 2, 5] });
  });

  test('WhiteIsZero is inverted', async () => {
    const file = await geotiff(pattern(W, H, 1), 1);
    const photometric = Buffer.from(file.buffer).indexOf(Buffer.from([1, 6, 0, 3, 0, 0, 0, 1, 0, 1]));
    file[photometric + 9] = 0;
    await expectPixels(
      file,
      pick(
        pattern(W, H, 1).map((v) => 255 - v),
        1,
        [0, 0, 0],
      ),
    );
  });

  test('1-bit TIFF is decoded whole', async () => {
    const bits = pattern(W, H, 1).map((v) => (v > 127 ? 255 : 0));
    const file = await sharp(bits, { raw: { width: W, height: H, channels: 1 } })
      .toColourspace('b-w')
      .tiff({ bitdepth: 1, compression: 'ccittfax4' })
      .toBuffer();
    await expectPixels(file, pick(bits, 1, [0, 0, 0]));
  });

  describe('kinds that nothing here writes, by Python’s tifffile', () => {
    const [width, height] = [40, 36];
    const read = async (name: string, options = {}) => {
      const raster = await openRaster(join(__dirname, '../../fixtures/tiff', name), options);
      const rgb = await raster.readWindow({ left: 0, top: 0, width, height });
      await raster.close();
      return Array.from(rgb);
    };

    test('Zstandard tiles with a predictor', async () => {
      expect(await read('zstd-tiles.tif')).toEqual(Array.from(pattern(width, height, 3)));
    });

    test('16-bit planes with a predictor, big-endian', async () => {
      const upper = pattern16(width, height, 6).map((v) => v >> 8);
      const rgb = await read('planar-16-big-endian.tif', { bands: [6, 2, 2] });
      expect(rgb).toEqual(pick(upper, 6, [5, 1, 1]));
    });

    test('a palette', async () => {
      const indices = Array.from(pattern(width, height, 1));
      expect(await read('palette.tif')).toEqual(indices.flatMap((i) => [i, 255 - i, (i * 3) & 255]));
    });

    test('tiles left out, every second one, are black', async () => {
      const pixels = pattern(width, height, 3);
      const expected = pixels.map((v, i) => {
        const pixel = Math.floor(i / 3);
        const tile = Math.floor(pixel / width / 16) * 3 + Math.floor((pixel % width) / 16);
        return tile % 2 ? 0 : v;
      });
      expect(await read('sparse.tif')).toEqual(Array.from(expected));
    });
  });

  test('tells where it lies', async () => {
    const place = {
      ModelPixelScale: [0.5, 0.25, 0],
      ModelTiepoint: [0, 0, 0, 300000, 5000000, 0],
      ProjectedCSTypeGeoKey: 32633,
      GTModelTypeGeoKey: 1,
    };
    const area = await openRaster(await geotiff(pattern(W, H, 3), 3, { ...place, GTRasterTypeGeoKey: 1 }));
    expect(area.geo).toEqual({ transform: [300000, 0.5, 0, 5000000, 0, -0.25], epsg: 32633 });
    const point = await openRaster(await geotiff(pattern(W, H, 3), 3, { ...place, GTRasterTypeGeoKey: 2 }));
    expect(point.geo?.transform).toEqual([299999.75, 0.5, 0, 5000000.125, 0, -0.25]);
  });

  test('reads the blocks under a window and no more', async () => {
    const [width, height] = [1024, 1024];
    const pixels = pattern(width, height, 3);
    const tile = 3 * 128 * 128;
    const kinds: [TiffOptions, number][] = [
      [{ compression: 'none', tile: true, tileWidth: 128, tileHeight: 128 }, 4 * tile],
      // LZW may make the pattern longer.
      [{ compression: 'lzw', tile: true, tileWidth: 128, tileHeight: 128 }, 1.5 * 4 * tile],
      // Two blocks of joined strips, of up to 1 MiB each, of the image's 3 MiB.
      [{ compression: 'none' }, 2 * 2 ** 20],
    ];
    for (const [options, most] of kinds) {
      const path = join(folder, 'large.tif');
      await sharp(pixels, { raw: { width, height, channels: 3 } })
        .tiff(options)
        .toFile(path);
      const raster = await openRaster(path);
      const window = { left: 500, top: 500, width: 100, height: 20 };
      let rgb: Uint8Array | undefined;
      const bytes = await countBytes(async () => {
        rgb = await raster.readWindow(window);
      });
      expect(Array.from(rgb!)).toEqual(cut(pixels, width, window));
      expect(bytes).toBeGreaterThan(0);
      expect(bytes).toBeLessThanOrEqual(most);
      const again = await countBytes(async () => {
        await raster.readWindow({ ...window, left: 510 });
      });
      expect(again).toBe(0);
      await raster.close();
    }
  });

  test('windows read at the same time agree', async () => {
    const tiff = await image(W, H, 3)
      .tiff({ compression: 'lzw', tile: true, tileWidth: 32, tileHeight: 32 })
      .toBuffer();
    const raster = await openRaster(tiff);
    const windows = Array.from({ length: 40 }, (_, i) => ({
      left: i * 3,
      top: i,
      width: 50,
      height: 80,
    }));
    const read = await Promise.all(windows.map((window) => raster.readWindow(window)));
    for (const [i, window] of windows.entries())
      expect(Array.from(read[i]!)).toEqual(cut(pattern(W, H, 3), W, window));
    await raster.close();
  });
});

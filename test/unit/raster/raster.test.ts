import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { deflateSync } from 'node:zlib';
import sharp from 'sharp';
import { COLOUR_TYPE, pngChunk } from '../../../src/raster/png';
import { openRaster, type Raster, type RasterOptions, type RasterSource } from '../../../src/raster/raster';
import { cut, image, pattern, pattern16, pick, png16, rawPng, temporaryFolder } from './images';

const folder = temporaryFolder();
const [W, H] = [37, 23];

function save(name: string, data: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, data);
  return path;
}

async function readAll(
  source: RasterSource,
  options?: RasterOptions,
): Promise<{ raster: Raster; rgb: number[] }> {
  const raster = await openRaster(source, options);
  const rgb = await raster.readWindow({ left: 0, top: 0, width: raster.width, height: raster.height });
  await raster.close();
  return { raster, rgb: Array.from(rgb) };
}

const rgbOf = (channels: 1 | 2 | 3 | 4) =>
  pick(pattern(W, H, channels), channels, channels < 3 ? [0, 0, 0] : [0, 1, 2]);

describe('images decoded whole', () => {
  test('RGB of every lossless format, as stored', async () => {
    const files: [string, string, Buffer][] = [
      ['a.png', 'png', await image(W, H, 3).png().toBuffer()],
      ['interlaced.png', 'png', await image(W, H, 3).png({ progressive: true }).toBuffer()],
      ['a.webp', 'webp', await image(W, H, 3).webp({ lossless: true }).toBuffer()],
      ['a.tif', 'tiff', await image(W, H, 3).tiff({ compression: 'none' }).toBuffer()],
    ];
    for (const [name, format, data] of files) {
      const { raster, rgb } = await readAll(save(name, data));
      expect(raster).toMatchObject({ width: W, height: H, format, bands: 3, bits: 8 });
      expect(raster.path).toBe(join(folder, name));
      expect(raster.geo).toBeUndefined();
      expect(rgb).toEqual(rgbOf(3));
    }
  });

  test('a file’s name does not matter, its content does', async () => {
    const { raster } = await readAll(save('really-png.jpg', await image(W, H, 3).png().toBuffer()));
    expect(raster.format).toBe('png');
  });

  test('gray becomes RGB, alpha is dropped without blending', async () => {
    for (const channels of [1, 2, 4] as const) {
      const { raster, rgb } = await readAll(await image(W, H, channels).png().toBuffer());
      expect(raster.bands).toBe(channels);
      expect(rgb).toEqual(rgbOf(channels));
    }
    const webp = await image(W, H, 4).webp({ lossless: true, exact: true }).toBuffer();
    expect((await readAll(webp)).rgb).toEqual(rgbOf(4));
  });

  test('palette PNG and GIF become their colours', async () => {
    const palette = Buffer.from([10, 20, 30, 200, 100, 50, 0, 255, 0]);
    const png = rawPng(
      { width: 4, height: 1 },
      8,
      COLOUR_TYPE.palette,
      [Buffer.from([2, 0, 1, 2])],
      [pngChunk('PLTE', palette), pngChunk('tRNS', Buffer.from([255, 0]))],
    );
    const colours = [0, 255, 0, 10, 20, 30, 200, 100, 50, 0, 255, 0];
    expect((await readAll(png)).rgb).toEqual(colours);
    expect((await readAll(await sharp(png).gif().toBuffer())).raster).toMatchObject({
      format: 'gif',
      width: 4,
    });
  });

  test('gray PNG of 1 bit spans 0 to 255', async () => {
    const png = rawPng({ width: 5, height: 1 }, 1, COLOUR_TYPE.gray, [Buffer.from([0b10110000])]);
    expect((await readAll(png)).rgb).toEqual(pick(Uint8Array.of(255, 0, 255, 255, 0), 1, [0, 0, 0]));
  });

  test('16 bits keep the upper byte, or are stretched', async () => {
    for (const channels of [1, 3, 4] as const) {
      const png = await png16(W, H, channels);
      const stored = pick(pattern16(W, H, channels), channels, channels === 1 ? [0, 0, 0] : [0, 1, 2]);
      const { raster, rgb } = await readAll(png);
      expect(raster.bits).toBe(16);
      expect(rgb).toEqual(stored.map((v) => v >> 8));
      const [min, max] = [10000, 40000];
      const stretched = stored.map((v) =>
        Math.min(255, Math.max(0, Math.round(((v - min) * 255) / (max - min)))),
      );
      expect((await readAll(png, { stretch: [min, max] })).rgb).toEqual(stretched);
    }
  });

  test('8 bits can be stretched too', async () => {
    const png = await image(W, H, 3).png().toBuffer();
    const expected = rgbOf(3).map((v) => Math.min(255, Math.max(0, Math.round(((v - 50) * 255) / 100))));
    expect((await readAll(png, { stretch: [50, 150] })).rgb).toEqual(expected);
  });

  test('bands can be chosen, alpha among them', async () => {
    const rgba = await image(W, H, 4).png().toBuffer();
    expect((await readAll(rgba, { bands: [3, 2, 1] })).rgb).toEqual(pick(pattern(W, H, 4), 4, [2, 1, 0]));
    expect((await readAll(rgba, { bands: [4, 1, 4] })).rgb).toEqual(pick(pattern(W, H, 4), 4, [3, 0, 3]));
    const grayAlpha = await image(W, H, 2).png().toBuffer();
    expect((await readAll(grayAlpha, { bands: [1, 2, 1] })).rgb).toEqual(
      pick(pattern(W, H, 2), 2, [0, 1, 0]),
    );
  });

  test('an ICC profile is not applied', async () => {
    const withProfile = await image(8, 8, 3).withIccProfile('p3').png().toBuffer();
    const { icc } = await sharp(withProfile).metadata();
    const rows = Array.from({ length: H }, (_, y) => pattern(W, H, 3).subarray(y * W * 3, (y + 1) * W * 3));
    const png = rawPng({ width: W, height: H }, 8, COLOUR_TYPE.rgb, rows, [
      pngChunk('iCCP', Buffer.concat([Buffer.from('p3\0\0', 'latin1'), deflateSync(icc!)])),
    ]);
    const applied = await sharp(png).raw().toBuffer();
    expect(Array.from(applied)).not.toEqual(rgbOf(3));
    expect((await readAll(png)).rgb).toEqual(rgbOf(3));
  });

  test.each([1, 2, 3, 4, 5, 6, 7, 8])('EXIF orientation %i', async (orientation) => {
    for (const format of ['png', 'tiff'] as const) {
      const file = await image(W, H, 3).withMetadata({ orientation }).toFormat(format).toBuffer();
      expect((await sharp(file).metadata()).orientation).toBe(orientation);
      const { data, info } = await sharp(file).autoOrient().raw().toBuffer({ resolveWithObject: true });
      const raster = await openRaster(file);
      expect(raster).toMatchObject({ width: info.width, height: info.height });
      for (const window of [
        { left: 0, top: 0, width: info.width, height: info.height },
        { left: 3, top: 5, width: 11, height: 7 },
        { left: info.width - 1, top: info.height - 1, width: 1, height: 1 },
      ]) {
        expect(Array.from(await raster.readWindow(window))).toEqual(cut(data, info.width, window));
      }
      await raster.close();
    }
  });

  test('JPEG: RGB, gray and CMYK', async () => {
    const smooth = sharp({
      create: { width: 64, height: 48, channels: 3, background: { r: 150, g: 110, b: 80 } },
    });
    for (const jpeg of [
      await smooth.jpeg().toBuffer(),
      await smooth.toColourspace('cmyk').jpeg().toBuffer(),
    ]) {
      const { raster, rgb } = await readAll(jpeg);
      expect(raster).toMatchObject({ width: 64, height: 48, format: 'jpeg', bands: 3, bits: 8 });
      // Conversion from CMYK is by a profile, and not exact.
      for (const [c, value] of [150, 110, 80].entries()) expect(Math.abs(rgb[c]! - value)).toBeLessThan(20);
    }
    const gray = await readAll(await image(W, H, 1).jpeg().toBuffer());
    expect(gray.raster.bands).toBe(1);
    expect(gray.rgb).toEqual(gray.rgb.map((_, i, all) => all[i - (i % 3)]));
  });

  test('images of one pixel and of one row or column', async () => {
    for (const [width, height] of [
      [1, 1],
      [1, 19],
      [19, 1],
    ] as const) {
      const png = await image(width, height, 3).png().toBuffer();
      expect((await readAll(png)).rgb).toEqual(Array.from(pattern(width, height, 3)));
      const tiff = await image(width, height, 3).tiff({ compression: 'lzw' }).toBuffer();
      expect((await readAll(tiff)).rgb).toEqual(Array.from(pattern(width, height, 3)));
    }
  });

  test('decoded pixels are taken as they are', async () => {
    for (const channels of [1, 2, 3, 4] as const) {
      const pixels = { data: pattern(W, H, channels), width: W, height: H, channels };
      const { raster, rgb } = await readAll(pixels);
      expect(raster).toMatchObject({ path: '(pixels)', format: 'raw', bands: channels });
      expect(rgb).toEqual(rgbOf(channels));
    }
    const five = { data: pattern(W, H, 5), width: W, height: H, channels: 5 };
    expect((await readAll(five, { bands: [5, 4, 1] })).rgb).toEqual(pick(five.data, 5, [4, 3, 0]));
  });

  test('a view into a larger buffer is read within its bounds', async () => {
    const png = await image(W, H, 3).png().toBuffer();
    const padded = new Uint8Array(png.length + 20).fill(7);
    padded.set(png, 11);
    expect((await readAll(padded.subarray(11, 11 + png.length))).rgb).toEqual(rgbOf(3));
  });

  test('a file that changed is read anew', async () => {
    const path = save('changing.png', await image(W, H, 3).png().toBuffer());
    await readAll(path);
    writeFileSync(
      path,
      await image(W, H + 1, 3)
        .png()
        .toBuffer(),
    );
    expect((await readAll(path)).raster.height).toBe(H + 1);
  });

  test('the source file is not held open', async () => {
    const raster = await openRaster(save('open.png', await image(W, H, 3).png().toBuffer()));
    writeFileSync(raster.path, 'gone');
    expect(await raster.readWindow({ left: 1, top: 1, width: 2, height: 1 })).toHaveLength(6);
    expect(readFileSync(raster.path, 'utf8')).toBe('gone');
    await raster.close();
  });
});

describe('windows', () => {
  test('outside of the image or empty are refused', async () => {
    for (const file of [
      await image(W, H, 3).png().toBuffer(),
      await image(W, H, 3).tiff({ tile: true }).toBuffer(),
    ]) {
      const raster = await openRaster(file);
      for (const window of [
        { left: -1, top: 0, width: 5, height: 5 },
        { left: 0, top: 0, width: W + 1, height: 1 },
        { left: 0, top: H, width: 1, height: 1 },
        { left: 0, top: 0, width: 0, height: 5 },
        { left: 0.5, top: 0, width: 5, height: 5 },
        { left: 0, top: 0, width: Number.NaN, height: 5 },
      ]) {
        await expect(raster.readWindow(window)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
      }
      await raster.close();
    }
  });

  test('after close() reading is refused, closing again is fine', async () => {
    for (const file of [
      await image(W, H, 3).png().toBuffer(),
      await image(W, H, 3).tiff({ tile: true }).toBuffer(),
    ]) {
      const raster = await openRaster(save('closed', file));
      await raster.close();
      await raster.close();
      const read = raster.readWindow({ left: 0, top: 0, width: 1, height: 1 });
      await expect(read).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    }
  });
});

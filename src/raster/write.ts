/** Writing of results: masks of class indices, gray maps, and previews of a mask over its image. */
import { extname } from 'node:path';
import { AbortError, GlnetError } from '../errors';
import { type Colour, type Rows, replaceFile, rowBands, type Size, writePng } from './png';
import type { Raster } from './raster';

export interface WriteOptions {
  readonly signal?: AbortSignal | undefined;
}

export interface OverlayOptions extends WriteOptions {
  /** Weight of the mask's colours, 0 to 1. Default: 0.5. */
  readonly opacity?: number | undefined;
  /** Longest side of the preview, in pixels; larger images are shrunk. Default: 2048. */
  readonly maxSide?: number | undefined;
}

/** Source pixels that an overlay holds at a time. */
const BAND_PIXELS = 4 * 2 ** 20;

/**
 * Writes a mask as an 8-bit palette PNG whose pixel values are the class indices. Memory stays bounded when `labels`
 * comes in bands. The file appears when it is complete; on errors nothing is left of it.
 *
 * @param labels height * width class indices, row by row.
 * @param palette Colour of each class, 1 to 256; further indices (such as 255, ignored) are black.
 * @throws {GlnetError} ERR_INVALID_ARGUMENT if size, labels and palette don't fit, ERR_FILE if the file can't be
 *   written, ERR_ABORTED.
 */
export async function writeIndexPng(
  path: string,
  size: Size,
  labels: Rows,
  palette: readonly Colour[],
  { signal }: WriteOptions = {},
): Promise<void> {
  checkPalette(palette);
  const plte = new Uint8Array(256 * 3);
  plte.set(palette.flat());
  await writePng(path, size, labels, plte, signal);
}

/**
 * Writes an 8-bit gray PNG, such as a map of confidence. Memory and errors as for {@link writeIndexPng}.
 *
 * @param values height * width values from 0 (black) to 255 (white), row by row.
 */
export async function writeGrayPng(
  path: string,
  size: Size,
  values: Rows,
  { signal }: WriteOptions = {},
): Promise<void> {
  await writePng(path, size, values, undefined, signal);
}

/**
 * Writes a preview: the classes' colours over the image, shrunk to `maxSide` (the image by area averaging, the labels
 * by nearest neighbour). Reads the image in bands of rows.
 *
 * @param path Ends in .png, .jpg, .jpeg or .webp.
 * @param labels Class indices of the image's size, row by row; where an index has no colour, the image shows through.
 * @throws {GlnetError} ERR_INVALID_ARGUMENT if arguments are out of range or don't fit, ERR_FILE if the file can't be
 *   written, ERR_ABORTED, and what {@link Raster.readWindow} throws.
 */
export async function writeOverlay(
  path: string,
  image: Raster,
  labels: Rows,
  palette: readonly Colour[],
  { opacity = 0.5, maxSide = 2048, signal }: OverlayOptions = {},
): Promise<void> {
  checkPalette(palette);
  const format = { '.png': 'png', '.jpg': 'jpeg', '.jpeg': 'jpeg', '.webp': 'webp' }[
    extname(path).toLowerCase()
  ];
  if (!format) {
    throw new GlnetError('ERR_INVALID_ARGUMENT', `${path}: expected a name in .png, .jpg, .jpeg or .webp`);
  }
  if (!(opacity >= 0 && opacity <= 1)) {
    throw new GlnetError('ERR_INVALID_ARGUMENT', `opacity is ${opacity}; expected a number from 0 to 1`);
  }
  if (!(Number.isInteger(maxSide) && maxSide >= 1)) {
    throw new GlnetError('ERR_INVALID_ARGUMENT', `maxSide is ${maxSide}; expected a whole number of pixels`);
  }
  const scale = Math.min(1, maxSide / Math.max(image.width, image.height));
  const size = {
    width: Math.max(1, Math.round(image.width * scale)),
    height: Math.max(1, Math.round(image.height * scale)),
  };
  const shrunk = await shrinkLabels(path, image, labels, size);
  const preview = await shrinkImage(image, size, signal);
  for (let i = 0; i < shrunk.length; i++) {
    const colour = palette[shrunk[i]!];
    if (!colour) continue;
    for (let c = 0; c < 3; c++) {
      preview[3 * i + c] = Math.round(preview[3 * i + c]! * (1 - opacity) + colour[c]! * opacity);
    }
  }
  const { default: sharp } = await import('sharp');
  const encoded = await sharp(preview, { raw: { ...size, channels: 3 } })
    .toFormat(format as 'png' | 'jpeg' | 'webp', format === 'png' ? {} : { quality: 90 })
    .toBuffer();
  await replaceFile(path, signal, (file) => file.writeFile(encoded, { signal }));
}

function checkPalette(palette: readonly Colour[]): void {
  const isByte = (value: number) => Number.isInteger(value) && value >= 0 && value <= 255;
  const wrong = palette.findIndex((colour) => colour.length !== 3 || !colour.every(isByte));
  if (wrong >= 0 || palette.length < 1 || palette.length > 256) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      wrong >= 0
        ? `palette[${wrong}] is [${palette[wrong]}]; expected [red, green, blue] from 0 to 255`
        : `palette has ${palette.length} colours; expected 1 to 256`,
    );
  }
}

/** Takes the label at the middle of each target pixel. */
async function shrinkLabels(path: string, from: Size, labels: Rows, to: Size): Promise<Uint8Array> {
  const shrunk = new Uint8Array(to.width * to.height);
  const middle = (i: number, source: number, target: number) => Math.floor(((i + 0.5) * source) / target);
  let firstRow = 0;
  let y = 0;
  for await (const band of rowBands(labels)) {
    const rows = band.length / from.width;
    for (; y < to.height; y++) {
      const row = middle(y, from.height, to.height) - firstRow;
      if (row >= rows) break;
      for (let x = 0; x < to.width; x++) {
        shrunk[y * to.width + x] = band[row * from.width + middle(x, from.width, to.width)]!;
      }
    }
    firstRow += rows;
  }
  if (firstRow !== from.height) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `${path}: got labels for ${firstRow} rows of ${from.width}; the image has ${from.height}`,
    );
  }
  return shrunk;
}

/** Averages the pixels under each target pixel. */
async function shrinkImage(image: Raster, to: Size, signal: AbortSignal | undefined): Promise<Uint8Array> {
  const shrunk = new Uint8Array(to.width * to.height * 3);
  const startY = (y: number) => Math.floor((y * image.height) / to.height);
  const startX = (x: number) => Math.floor((x * image.width) / to.width);
  const rowsAtATime = Math.max(1, Math.floor(BAND_PIXELS / (image.width * (image.height / to.height))));
  for (let first = 0; first < to.height; first += rowsAtATime) {
    if (signal?.aborted) throw new AbortError();
    const last = Math.min(first + rowsAtATime, to.height);
    const top = startY(first);
    const band = await image.readWindow({ left: 0, top, width: image.width, height: startY(last) - top });
    for (let y = first; y < last; y++) {
      for (let x = 0; x < to.width; x++) {
        const sum = [0, 0, 0];
        for (let fromY = startY(y); fromY < startY(y + 1); fromY++) {
          for (let fromX = startX(x); fromX < startX(x + 1); fromX++) {
            const at = 3 * ((fromY - top) * image.width + fromX);
            for (let c = 0; c < 3; c++) sum[c]! += band[at + c]!;
          }
        }
        const count = (startY(y + 1) - startY(y)) * (startX(x + 1) - startX(x));
        for (let c = 0; c < 3; c++) shrunk[3 * (y * to.width + x) + c] = Math.round(sum[c]! / count);
      }
    }
  }
  return shrunk;
}

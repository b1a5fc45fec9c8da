/** One way to read pixels, whatever the file: windows of interleaved 8-bit RGB. */
import { type FileHandle, open } from 'node:fs/promises';
import { GlnetError } from '../errors';
import { readAt } from '../read-at';
import { openTiff } from './geotiff-raster';
import { openDecoded, openPixels } from './sharp-raster';

/** A rectangle of pixels, inside the image. */
export interface Window {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** Where a raster lies on the ground. */
export interface GeoReference {
  /**
   * Ground coordinates of the upper left corner of pixel (column, row), as GDAL orders them:
   * x = t[0] + column * t[1] + row * t[2], y = t[3] + column * t[4] + row * t[5].
   */
  readonly transform: readonly [number, number, number, number, number, number];
  /** EPSG code of the projected or geographic reference system, where the file names one. */
  readonly epsg?: number | undefined;
}

/** An open image, upright (its EXIF orientation applied), read in windows. Close it after use. */
export interface Raster {
  /** The file, or a word in parentheses for pixels from memory. */
  readonly path: string;
  /** Size in pixels. */
  readonly width: number;
  readonly height: number;
  /** 'jpeg', 'png', 'webp', 'gif', 'tiff' or 'raw'. */
  readonly format: string;
  /** Channels stored, alpha among them; 1-based band numbers select from these. */
  readonly bands: number;
  /** Bits of a stored sample. */
  readonly bits: 8 | 16;
  /** Only of georeferenced TIFF. */
  readonly geo?: GeoReference | undefined;
  /**
   * Reads a window.
   *
   * @returns width * height * 3 bytes: RGB interleaved, row by row; of pixels in memory they may be these themselves, and
   *   must not be changed. No colour profile is applied, alpha is left out.
   * @throws {GlnetError} ERR_INVALID_ARGUMENT if the window is empty or not inside the image, ERR_FILE or
   *   ERR_IMAGE if the file's data are cut short or corrupt, ERR_DISPOSED after {@link close}.
   */
  readWindow(window: Window): Promise<Uint8Array>;
  /** Frees the pixels and closes the file. May be called more than once. */
  close(): Promise<void>;
}

/** Decoded pixels: 8-bit, interleaved, row by row, width * height * channels bytes. They are not copied. */
export interface Pixels {
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
  /** 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha; more with `bands`. */
  readonly channels: number;
}

/** A path, an encoded image in memory (a Buffer is one), or decoded pixels. */
export type RasterSource = string | Uint8Array | Pixels;

export interface RasterOptions {
  /**
   * Bands (1-based) to take as red, green and blue. Default: the first three, or the first repeated where there
   * are fewer than three (gray, gray and alpha). Needed for TIFF of more than four bands that isn't marked as RGB.
   */
  readonly bands?: readonly [number, number, number] | undefined;
  /**
   * Sample values [min, max] that become 0 and 255, linearly in between. Default: 8-bit samples stay as they are,
   * of 16-bit samples the upper byte is taken (v >> 8).
   */
  readonly stretch?: readonly [number, number] | undefined;
  /**
   * Most pixels (width * height) an image may have. Default: 2^31 for TIFF read in windows, 10^9 for images that
   * must be decoded whole.
   */
  readonly maxPixels?: number | undefined;
}

/** Bytes of an encoded image, on disk or in memory. */
export interface ByteSource {
  readonly path: string;
  readonly size: number;
  /** What sharp takes as its input. */
  readonly input: string | Uint8Array;
  /** Reads bytes; fewer than asked for only at the end. */
  read(offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/**
 * Opens an image: JPEG, PNG, WebP, GIF (its first frame) or TIFF, of 8 or 16 bits. A TIFF (GeoTIFF, cloud-optimised
 * GeoTIFF, BigTIFF; its first image) is read in windows; everything else is decoded once, here, and kept.
 *
 * @throws {GlnetError} ERR_FILE if the source is missing, a folder, empty, cut short or no image; ERR_IMAGE if it can't
 *   be decoded, is larger than `maxPixels`, has samples other than 8- or 16-bit unsigned integers, or lacks a band
 *   that was asked for; ERR_INVALID_ARGUMENT for options out of range.
 */
export async function openRaster(source: RasterSource, options: RasterOptions = {}): Promise<Raster> {
  checkOptions(options);
  if (typeof source !== 'string' && !ArrayBuffer.isView(source)) return openPixels(source, options);
  const bytes = typeof source === 'string' ? await openFile(source) : memorySource(source);
  try {
    const format = await sniff(bytes);
    if (format === 'tiff') return await openTiff(bytes, options);
    const raster = await openDecoded(bytes, format, options);
    await bytes.close();
    return raster;
  } catch (error) {
    await bytes.close();
    throw error;
  }
}

function checkOptions({ bands, stretch, maxPixels }: RasterOptions): void {
  if (bands && (bands.length !== 3 || !bands.every((band) => Number.isInteger(band) && band >= 1))) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `bands is [${bands}]; expected three band numbers for red, green and blue, counted from 1`,
    );
  }
  if (stretch && !(stretch.length === 2 && stretch.every(Number.isFinite) && stretch[0] < stretch[1])) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `stretch is [${stretch}]; expected [min, max] of sample values with min < max`,
    );
  }
  if (maxPixels !== undefined && !(maxPixels >= 1)) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `maxPixels is ${maxPixels}; expected a count of pixels, at least 1`,
    );
  }
}

/** Offsets of the red, green and blue bands among `count` stored ones. */
export function selectBands(path: string, count: number, { bands }: RasterOptions): [number, number, number] {
  if (!bands) return count < 3 ? [0, 0, 0] : [0, 1, 2];
  const missing = bands.find((band) => band > count);
  if (missing !== undefined) {
    throw new GlnetError(
      'ERR_IMAGE',
      `${path}: band ${missing} was asked for, but the image has ${count}; choose bands from 1 to ${count}`,
    );
  }
  return [bands[0] - 1, bands[1] - 1, bands[2] - 1];
}

/** Refuses images without pixels and decompression bombs. */
export function checkSize(path: string, width: number, height: number, limit: number): void {
  if (!(width >= 1 && height >= 1)) {
    throw new GlnetError(
      'ERR_IMAGE',
      `${path}: the image is ${width}x${height} pixels; expected at least 1x1. The file is damaged: get it anew`,
    );
  }
  if (width * height > limit) {
    throw new GlnetError(
      'ERR_IMAGE',
      `${path}: the image is ${width}x${height}, ${width * height} pixels, and the limit is ${limit}; if you trust the file, raise maxPixels`,
    );
  }
}

export function checkWindow(raster: Raster, { left, top, width, height }: Window): void {
  const inside =
    [left, top, width, height].every(Number.isInteger) &&
    left >= 0 &&
    top >= 0 &&
    width >= 1 &&
    height >= 1 &&
    left + width <= raster.width &&
    top + height <= raster.height;
  if (!inside) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `${raster.path}: window ${width}x${height} at (${left}, ${top}) is empty or not inside the image of ${raster.width}x${raster.height}`,
    );
  }
}

/** Opens a file for reading, with errors that say what is there instead. */
export async function openFile(path: string): Promise<ByteSource> {
  let handle: FileHandle;
  try {
    handle = await open(path, 'r');
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    const what = code === 'ENOENT' ? 'no such file; check the path' : `can't be opened (${code})`;
    throw new GlnetError('ERR_FILE', `${path}: ${what}`, { cause });
  }
  const stat = await handle.stat();
  const problem = stat.isDirectory()
    ? 'is a folder; expected an image file'
    : !stat.isFile()
      ? 'is not a regular file; expected an image file'
      : stat.size === 0
        ? 'is empty (0 bytes); expected an image file'
        : undefined;
  if (problem) {
    await handle.close();
    throw new GlnetError('ERR_FILE', `${path}: ${problem}`);
  }
  let closed: Promise<void> | undefined;
  return {
    path,
    size: stat.size,
    input: path,
    async read(offset, length) {
      const bytes = new Uint8Array(Math.max(0, Math.min(length, stat.size - offset)));
      return bytes.subarray(0, await readAt(handle, bytes, offset));
    },
    close() {
      closed ??= handle.close();
      return closed;
    },
  };
}

function memorySource(data: Uint8Array): ByteSource {
  const path = '(buffer)';
  if (data.length === 0) throw new GlnetError('ERR_FILE', `${path}: is empty (0 bytes); expected an image`);
  return {
    path,
    size: data.length,
    input: data,
    async read(offset, length) {
      return new Uint8Array(data.subarray(offset, offset + length));
    },
    async close() {},
  };
}

/** First bytes of each format, in Latin-1; a dot stands for any byte. */
const SIGNATURES: readonly (readonly [format: string, start: string])[] = [
  ['jpeg', '\xff\xd8\xff'],
  ['png', '\x89PNG\r\n\x1a\n'],
  ['webp', 'RIFF....WEBP'],
  ['gif', 'GIF87a'],
  ['gif', 'GIF89a'],
  ['tiff', 'II*\0'],
  ['tiff', 'II+\0'],
  ['tiff', 'MM\0*'],
  ['tiff', 'MM\0+'],
];

/** The format by the first bytes: a file's name may say anything. */
async function sniff(bytes: ByteSource): Promise<string> {
  const head = Buffer.from(await bytes.read(0, 16)).toString('latin1');
  const found = SIGNATURES.find(([, start]) => [...start].every((c, i) => c === '.' || c === head[i]));
  if (found) return found[0];
  const shown = JSON.stringify(head.slice(0, 8));
  throw new GlnetError(
    'ERR_FILE',
    `${bytes.path}: not an image that can be read: it starts with ${shown}; expected JPEG, PNG, WebP, GIF or TIFF`,
  );
}

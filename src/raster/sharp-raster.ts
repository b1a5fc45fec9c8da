/**
 * Images that decode from top to bottom only (JPEG, PNG, WebP, GIF, and TIFF of kinds that can't be read in windows):
 * decoded once by sharp into one buffer, as stored; windows are cut from it, turned upright on the way.
 */
import { constants } from 'node:buffer';
import type { Metadata, SharpOptions } from 'sharp';
import { GlnetError } from '../errors';
import {
  type ByteSource,
  checkSize,
  checkWindow,
  type Pixels,
  type Raster,
  type RasterOptions,
  selectBands,
  type Window,
} from './raster';
import { isPackedRgb, type RgbChannels, type SampleArray, sampleLut, type Walk, writeRgb } from './samples';

const DEFAULT_MAX_PIXELS = 1e9;

/** `failOn`: anything odd is an error, since half an image must not pass for a whole one. Size is checked here. */
const SHARP_OPTIONS: SharpOptions = {
  failOn: 'warning',
  ignoreIcc: true,
  limitInputPixels: false,
  limitInputChannels: 0,
};

interface Stored {
  readonly path: string;
  readonly format: string;
  /** Size as stored. */
  readonly width: number;
  readonly height: number;
  readonly bands: number;
  readonly bits: 8 | 16;
  /** EXIF orientation, 1 to 8. */
  readonly orientation: number;
  readonly channels: RgbChannels;
}

class BufferRaster implements Raster {
  readonly path: string;
  readonly width: number;
  readonly height: number;
  readonly format: string;
  readonly bands: number;
  readonly bits: 8 | 16;
  #stored: Stored | undefined;

  constructor(stored: Stored) {
    const sideways = stored.orientation >= 5;
    this.path = stored.path;
    this.width = sideways ? stored.height : stored.width;
    this.height = sideways ? stored.width : stored.height;
    this.format = stored.format;
    this.bands = stored.bands;
    this.bits = stored.bits;
    this.#stored = stored;
  }

  async readWindow(window: Window): Promise<Uint8Array> {
    const stored = this.#stored;
    if (!stored) throw new GlnetError('ERR_DISPOSED', `${this.path}: read after close()`);
    checkWindow(this, window);
    const { width, height } = window;
    const walk = uprightWalk(stored, window);
    const rowsFollow = walk.stepX === 1 && walk.stepY === width;
    if (rowsFollow && isPackedRgb(stored.channels)) {
      const data = stored.channels[0].data as Uint8Array;
      return data.subarray(3 * walk.start, 3 * (walk.start + width * height));
    }
    const rgb = new Uint8Array(width * height * 3);
    writeRgb(rgb, 0, width, stored.channels, walk);
    return rgb;
  }

  async close(): Promise<void> {
    this.#stored = undefined;
  }
}

/** Walks the stored pixels of a window of the upright image. */
function uprightWalk({ width, height, orientation }: Stored, window: Window): Walk {
  // Orientations 5 to 8 store rows as columns; `back` says which stored axis runs against the upright one.
  const sideways = orientation >= 5;
  const backX = [2, 3, 7, 8].includes(orientation);
  const backY = [3, 4, 6, 7].includes(orientation);
  const storedX = backX ? -1 : 1;
  const storedY = backY ? -width : width;
  const origin = (backX ? width - 1 : 0) + (backY ? (height - 1) * width : 0);
  const stepX = sideways ? storedY : storedX;
  const stepY = sideways ? storedX : storedY;
  return {
    start: origin + window.left * stepX + window.top * stepY,
    stepX,
    stepY,
    width: window.width,
    height: window.height,
  };
}

/**
 * Decodes an image whole. CMYK and Lab become sRGB.
 *
 * @throws {GlnetError} see {@link openRaster}.
 */
export async function openDecoded(
  { path, input }: ByteSource,
  format: string,
  options: RasterOptions,
): Promise<Raster> {
  // Its libraries take 12 MB, which pixels do without.
  const { default: sharp } = await import('sharp');
  const metadata = await sharp(input, SHARP_OPTIONS).metadata().catch(refuse(path, format));
  const { width, height, depth, space, channels, hasAlpha } = metadata;
  checkSize(path, width, height, options.maxPixels ?? DEFAULT_MAX_PIXELS);
  if (depth !== 'uchar' && depth !== 'ushort') {
    throw new GlnetError(
      'ERR_IMAGE',
      `${path}: samples are of type ${depth}; expected 8- or 16-bit unsigned integers. Convert the image first`,
    );
  }
  const bits = depth === 'uchar' ? 8 : 16;
  const gray = space === 'b-w' || space === 'grey16';
  const bands = gray ? channels : 3 + (hasAlpha ? 1 : 0);
  const selected = selectBands(path, bands, options);
  const colours = gray ? 1 : 3;
  const alphaWanted = selected.some((band) => band >= colours);
  // Gray stays one channel in the buffer, except that sharp can't keep its alpha then: it comes fourth in RGBA.
  const grayOut = gray && !alphaWanted;
  const outChannels = grayOut ? 1 : 3 + (alphaWanted ? 1 : 0);
  checkBuffer(path, metadata, outChannels * (bits / 8));

  let pipeline = sharp(input, SHARP_OPTIONS);
  if (!alphaWanted) pipeline = pipeline.removeAlpha();
  pipeline = pipeline.toColourspace(bits === 16 ? (grayOut ? 'grey16' : 'rgb16') : grayOut ? 'b-w' : 'srgb');
  const { data, info } = await pipeline
    .raw({ depth })
    .toBuffer({ resolveWithObject: true })
    .catch(refuse(path, format));
  if (info.channels !== outChannels) {
    throw new GlnetError(
      'ERR_IMAGE',
      `${path}: decoded to ${info.channels} channels (${space}), expected ${outChannels}; convert the image to gray or RGB first`,
    );
  }
  const samples = bits === 8 ? data : new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2);
  const lut = sampleLut(bits, options.stretch);
  return new BufferRaster({
    path,
    format,
    width,
    height,
    bands,
    bits,
    orientation: metadata.orientation ?? 1,
    channels: channelsOf(samples, outChannels, gray ? selected.map((b) => (b ? 3 : 0)) : selected, lut),
  });
}

/** Takes decoded pixels as they are. */
export async function openPixels(pixels: Pixels, options: RasterOptions): Promise<Raster> {
  const path = '(pixels)';
  const { data, width, height, channels } = pixels;
  const whole = [width, height, channels].every((n) => Number.isInteger(n) && n >= 1);
  if (!whole || !(ArrayBuffer.isView(data) && data.BYTES_PER_ELEMENT === 1)) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `pixels are ${width}x${height} of ${channels} channels; expected whole numbers of at least 1 and data as a Uint8Array`,
    );
  }
  checkSize(path, width, height, options.maxPixels ?? DEFAULT_MAX_PIXELS);
  if (data.length !== width * height * channels) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `pixels of ${width}x${height} with ${channels} channels take ${width * height * channels} bytes, but data has ${data.length}`,
    );
  }
  const lut = sampleLut(8, options.stretch);
  const selected = selectBands(path, channels, options);
  return new BufferRaster({
    path,
    format: 'raw',
    width,
    height,
    bands: channels,
    bits: 8,
    orientation: 1,
    channels: channelsOf(data, channels, selected, lut),
  });
}

function channelsOf(
  data: SampleArray,
  step: number,
  offsets: readonly number[],
  lut: Uint8Array | undefined,
): RgbChannels {
  const channel = (c: number) => ({ data, first: offsets[c]!, step, lut });
  return [channel(0), channel(1), channel(2)];
}

function checkBuffer(path: string, { width, height }: Metadata, bytesPerPixel: number): void {
  const bytes = width * height * bytesPerPixel;
  if (bytes > constants.MAX_LENGTH) {
    throw new GlnetError(
      'ERR_IMAGE',
      `${path}: ${width}x${height} pixels take ${bytes} bytes when decoded whole, more than one buffer can hold (${constants.MAX_LENGTH}); convert the image to a tiled TIFF, which is read in windows`,
    );
  }
}

/** Turns what sharp says into an error of ours. */
function refuse(path: string, format: string): (cause: Error) => never {
  return (cause) => {
    const said = cause.message.split('\n')[0]!.trim().replace(/:$/, '');
    const cut = /premature end|end of (file|gif)|not enough data|read error|unable to parse/i.test(
      cause.message,
    );
    throw new GlnetError(
      cut ? 'ERR_FILE' : 'ERR_IMAGE',
      `${path}: can't be decoded as ${format}: ${said}. The file is ${cut ? 'cut short or damaged' : 'damaged or of an unusual kind'}: get it anew, or save it again with an image editor`,
      { cause },
    );
  };
}

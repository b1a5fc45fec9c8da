/** PNG at the level of its chunks: 8-bit gray or palette files written in bands of rows, and chunks read. */
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { createDeflate } from 'node:zlib';
import { AbortError, GlnetError } from '../errors';

/** Red, green and blue, 0 to 255. */
export type Colour = readonly [r: number, g: number, b: number];

export interface Size {
  readonly width: number;
  readonly height: number;
}

/** All rows of a one-channel image at once, or bands of any number of whole rows, from top to bottom. */
export type Rows = Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/** The IHDR chunk's colour type. */
export const COLOUR_TYPE = { gray: 0, rgb: 2, palette: 3, grayAlpha: 4, rgba: 6 } as const;

export const PNG_SIGNATURE = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1');
/** Bytes that are filtered and compressed at a time. */
const BAND_BYTES = 2 ** 20;
/** Bytes of compressed data to a chunk. */
const IDAT_BYTES = 2 ** 16;

const CRC_TABLE = Int32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

/** CRC-32 as PNG uses it. (`zlib.crc32` is younger than the oldest Node that is supported.) */
export function crc32(bytes: Uint8Array): number {
  let c = -1;
  for (const byte of bytes) c = CRC_TABLE[(c ^ byte) & 0xff]! ^ (c >>> 8);
  return ~c >>> 0;
}

/** A chunk with its length and checksum. */
export function pngChunk(type: string, data: Uint8Array): Buffer {
  const chunk = Buffer.alloc(data.length + 12);
  chunk.writeUInt32BE(data.length, 0);
  chunk.write(type, 4, 'latin1');
  chunk.set(data, 8);
  chunk.writeUInt32BE(crc32(chunk.subarray(4, 8 + data.length)), 8 + data.length);
  return chunk;
}

/** The IHDR chunk; `interlace` is 1 for Adam7. */
export function headerChunk(
  { width, height }: Size,
  bitDepth: number,
  colourType: number,
  interlace = 0,
): Buffer {
  const data = Buffer.alloc(13);
  data.writeUInt32BE(width, 0);
  data.writeUInt32BE(height, 4);
  data[8] = bitDepth;
  data[9] = colourType;
  data[12] = interlace;
  return pngChunk('IHDR', data);
}

/**
 * Writes an 8-bit PNG of one channel with bounded memory; it is gray, or has the palette that is given, as PLTE data.
 *
 * @throws {GlnetError} ERR_INVALID_ARGUMENT if size and rows don't fit, ERR_FILE if the file can't be written, ERR_ABORTED.
 */
export async function writePng(
  path: string,
  size: Size,
  rows: Rows,
  plte: Uint8Array | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { width, height } = size;
  if (![width, height].every((n) => Number.isInteger(n) && n >= 1 && n < 2 ** 31)) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `${path}: size is ${width}x${height}; expected whole numbers from 1 to ${2 ** 31 - 1}`,
    );
  }
  await replaceFile(path, signal, async (file) => {
    await file.writeFile(PNG_SIGNATURE);
    await file.writeFile(headerChunk(size, 8, plte ? COLOUR_TYPE.palette : COLOUR_TYPE.gray));
    if (plte) await file.writeFile(pngChunk('PLTE', plte));
    const writeData = async (compressed: AsyncIterable<Uint8Array>) => {
      for await (const data of compressed) await file.writeFile(pngChunk('IDAT', data));
    };
    const deflate = createDeflate({ chunkSize: IDAT_BYTES });
    await pipeline(filteredRows(path, size, rows), deflate, writeData, { signal });
    await file.writeFile(pngChunk('IEND', Buffer.alloc(0)));
  });
}

/** Puts the filter type (0, none: best for labels) before each row, and checks that the rows fill the image. */
async function* filteredRows(path: string, { width, height }: Size, rows: Rows): AsyncGenerator<Buffer> {
  const rowsAtATime = Math.max(1, Math.floor(BAND_BYTES / width));
  let written = 0;
  for await (const band of rowBands(rows)) {
    const count = band.length / width;
    if (!Number.isInteger(count) || written + count > height) {
      throw new GlnetError(
        'ERR_INVALID_ARGUMENT',
        `${path}: got ${band.length} values after ${written} of ${height} rows; expected whole rows of ${width} values, ${height} in all`,
      );
    }
    written += count;
    for (let first = 0; first < count; first += rowsAtATime) {
      const some = Math.min(rowsAtATime, count - first);
      const filtered = Buffer.alloc(some * (width + 1));
      for (let row = 0; row < some; row++) {
        const from = (first + row) * width;
        filtered.set(band.subarray(from, from + width), row * (width + 1) + 1);
      }
      yield filtered;
    }
  }
  if (written < height) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `${path}: got ${written} rows of ${width} values; expected ${height}`,
    );
  }
}

export function rowBands(rows: Rows): Iterable<Uint8Array> | AsyncIterable<Uint8Array> {
  return ArrayBuffer.isView(rows) ? [rows] : rows;
}

/**
 * Writes a file beside its place and moves it there when it is complete; if that fails, nothing is left and an
 * older file stays as it was.
 *
 * @throws {GlnetError} ERR_FILE if the file can't be written, ERR_ABORTED; other errors of `write` as they are.
 */
export async function replaceFile(
  path: string,
  signal: AbortSignal | undefined,
  write: (file: FileHandle) => Promise<void>,
): Promise<void> {
  if (signal?.aborted) throw new AbortError();
  const partial = `${path}.${process.pid}-${Math.random().toString(36).slice(2)}.partial`;
  try {
    const file = await open(partial, 'wx');
    try {
      await write(file);
    } finally {
      await file.close();
    }
    await rename(partial, path);
  } catch (cause) {
    await rm(partial, { force: true });
    const { code, syscall } = cause as NodeJS.ErrnoException;
    if (code === 'ABORT_ERR') throw new AbortError(undefined, { cause });
    if (!syscall) throw cause;
    throw new GlnetError(
      'ERR_FILE',
      `${path}: can't be written (${code}); check that its folder exists, may be written to and has room`,
      { cause },
    );
  }
}

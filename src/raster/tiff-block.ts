/**
 * Decoding of one block (a tile, or neighbouring strips) of a TIFF, off the event loop: the compressed bytes are
 * wrapped as a small TIFF of their own and handed to sharp, whose libtiff knows the compressions.
 */
import type { SampleArray } from './samples';

export const COMPRESSION = {
  none: 1,
  lzw: 5,
  jpeg: 7,
  deflate: 8,
  packBits: 32773,
  oldDeflate: 32946,
  zstd: 50000,
  webp: 50001,
} as const;

/** How the blocks of a file are encoded. */
export interface BlockEncoding {
  readonly littleEndian: boolean;
  readonly compression: number;
  readonly photometric: number;
  readonly bits: 8 | 16;
  /** Samples of a pixel that lie together in a block. */
  readonly samples: number;
  /** Whether each sample was stored as the difference from its left neighbour. */
  readonly differences: boolean;
  readonly jpegTables?: Uint8Array | undefined;
  readonly ycbcrSubSampling?: ArrayLike<number> | undefined;
}

/**
 * Decodes a block.
 *
 * @param parts The block's encoded bytes, from top to bottom, `rowsPerPart` rows each (the last may have fewer).
 * @returns width * height * samples values, interleaved; pixels of JPEG as RGB.
 * @throws {Error} what the decoder says, if the data are corrupt or cut short.
 */
export async function decodeBlock(
  encoding: BlockEncoding,
  parts: readonly Uint8Array[],
  width: number,
  height: number,
  rowsPerPart: number,
): Promise<SampleArray> {
  const { compression, bits, samples, littleEndian } = encoding;
  const count = width * height * samples;
  let values: SampleArray;
  if (compression === COMPRESSION.jpeg || compression === COMPRESSION.webp) {
    const tiff = wrap(encoding, parts, width, height, rowsPerPart, samples);
    values = await decodeWith(tiff, 'srgb', 8);
  } else if (compression === COMPRESSION.none || compression === COMPRESSION.zstd) {
    const bytes = new Uint8Array(count * (bits / 8));
    let filled = 0;
    for (const part of parts) {
      const plain = compression === COMPRESSION.zstd ? await unzstd(part) : part;
      bytes.set(plain.subarray(0, bytes.length - filled), filled);
      filled += plain.length;
    }
    if (filled < bytes.length) throw new Error(`${filled} bytes where ${bytes.length} were expected`);
    if (bits === 16 && !littleEndian) Buffer.from(bytes.buffer).swap16();
    values = bits === 8 ? bytes : new Uint16Array(bytes.buffer);
  } else {
    // As one gray channel of width * samples: so no colour conversion touches the samples.
    const tiff = wrap({ ...encoding, photometric: 1 }, parts, width * samples, height, rowsPerPart, 1);
    values = await decodeWith(tiff, bits === 8 ? 'b-w' : 'grey16', bits);
  }
  if (values.length !== count) throw new Error(`${values.length} samples where ${count} were expected`);
  if (encoding.differences) sumRows(values, width * samples, samples);
  return values;
}

async function decodeWith(tiff: Buffer, space: string, bits: 8 | 16): Promise<SampleArray> {
  const { default: sharp } = await import('sharp');
  const data = await sharp(tiff, { failOn: 'warning', ignoreIcc: true, limitInputPixels: false })
    .toColourspace(space)
    .raw({ depth: bits === 8 ? 'uchar' : 'ushort' })
    .toBuffer();
  return bits === 8 ? data : new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2);
}

async function unzstd(bytes: Uint8Array): Promise<Uint8Array> {
  // sharp's libtiff lacks Zstandard; geotiff has it.
  const { getDecoder } = await import('geotiff');
  const decoder = await getDecoder(COMPRESSION.zstd, { predictor: 1 } as Parameters<typeof getDecoder>[1]);
  return new Uint8Array(await decoder.decodeBlock(bytes.slice().buffer));
}

/** Undoes horizontal differencing (TIFF's predictor 2), modulo the range of a sample. */
function sumRows(values: SampleArray, rowLength: number, step: number): void {
  for (let row = 0; row < values.length; row += rowLength) {
    for (let i = row + step; i < row + rowLength; i++) values[i] = values[i]! + values[i - step]!;
  }
}

const SHORT = 3;
const LONG = 4;
const UNDEFINED = 7;
const TYPE_BYTES: Record<number, number> = { [SHORT]: 2, [LONG]: 4, [UNDEFINED]: 1 };

/** A TIFF file of one image around encoded strips, without a predictor. */
function wrap(
  encoding: BlockEncoding,
  strips: readonly Uint8Array[],
  width: number,
  height: number,
  rowsPerStrip: number,
  samples: number,
): Buffer {
  const { littleEndian, bits, compression, photometric, jpegTables, ycbcrSubSampling } = encoding;
  const lengths = strips.map((strip) => strip.length);
  const offsets: number[] = [];
  const tags: [tag: number, type: number, values: ArrayLike<number>][] = [
    [256, LONG, [width]],
    [257, LONG, [height]],
    [258, SHORT, new Array<number>(samples).fill(bits)],
    [259, SHORT, [compression]],
    [262, SHORT, [photometric]],
    [273, LONG, offsets],
    [277, SHORT, [samples]],
    [278, LONG, [rowsPerStrip]],
    [279, LONG, lengths],
  ];
  if (samples === 4) tags.push([338, SHORT, [2]]);
  if (jpegTables) tags.push([347, UNDEFINED, jpegTables]);
  if (ycbcrSubSampling) tags.push([530, SHORT, ycbcrSubSampling]);

  const directory = 8;
  let end = directory + 2 + tags.length * 12 + 4;
  for (const strip of strips) {
    offsets.push(end);
    end += strip.length;
  }
  const outside = tags.map(([, type, values]) => {
    const bytes = TYPE_BYTES[type]! * values.length;
    end += end % 2;
    const at = end;
    if (bytes > 4) end += bytes;
    return bytes > 4 ? at : undefined;
  });

  const file = Buffer.alloc(end);
  const put = (value: number, at: number, type: number) => {
    if (type === UNDEFINED) file.writeUInt8(value, at);
    else if (type === SHORT) littleEndian ? file.writeUInt16LE(value, at) : file.writeUInt16BE(value, at);
    else littleEndian ? file.writeUInt32LE(value, at) : file.writeUInt32BE(value, at);
  };
  file.write(littleEndian ? 'II' : 'MM', 'latin1');
  put(42, 2, SHORT);
  put(directory, 4, LONG);
  put(tags.length, directory, SHORT);
  tags.forEach(([tag, type, values], i) => {
    const entry = directory + 2 + i * 12;
    put(tag, entry, SHORT);
    put(type, entry + 2, SHORT);
    put(values.length, entry + 4, LONG);
    const at = outside[i];
    if (at !== undefined) put(at, entry + 8, LONG);
    for (let j = 0; j < values.length; j++) put(values[j]!, (at ?? entry + 8) + j * TYPE_BYTES[type]!, type);
  });
  strips.forEach((strip, i) => {
    file.set(strip, offsets[i]!);
  });
  return file;
}

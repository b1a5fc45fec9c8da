/** Reading of masks of class indices. */
import { GlnetError } from '../errors';
import { COLOUR_TYPE, headerChunk, PNG_SIGNATURE, pngChunk } from './png';
import { checkSize, openFile } from './raster';

export interface IndexMask {
  readonly width: number;
  readonly height: number;
  /** height * width class indices, row by row. */
  readonly labels: Uint8Array;
}

export interface IndexMaskOptions {
  /** Most pixels (width * height) a mask may have. Default: 10^9. */
  readonly maxPixels?: number | undefined;
}

const DEFAULT_MAX_PIXELS = 1e9;

/**
 * Reads a PNG whose pixel values are class indices: palette or gray, of 1, 2, 4 or 8 bits. A palette's colours are
 * left alone, and so is an orientation.
 *
 * @throws {GlnetError} ERR_FILE if the file is missing, a folder, empty, cut short or no PNG; ERR_IMAGE if it can't be
 *   decoded, is larger than `maxPixels`, or has more than one channel or 16 bits.
 */
export async function readIndexMask(
  path: string,
  { maxPixels = DEFAULT_MAX_PIXELS }: IndexMaskOptions = {},
): Promise<IndexMask> {
  const source = await openFile(path);
  const bytes = await source.read(0, source.size).finally(() => source.close());
  const file = Buffer.from(bytes.buffer, 0, bytes.length);
  if (!file.subarray(0, 8).equals(PNG_SIGNATURE)) {
    throw new GlnetError('ERR_FILE', `${path}: not a PNG; expected a palette or gray PNG of class indices`);
  }
  const { header, data } = readChunks(path, file);
  const width = header.readUInt32BE(0);
  const height = header.readUInt32BE(4);
  const bits = header[8]!;
  const colourType = header[9]!;
  checkSize(path, width, height, maxPixels);
  if ((colourType !== COLOUR_TYPE.palette && colourType !== COLOUR_TYPE.gray) || bits > 8) {
    const kind = Object.entries(COLOUR_TYPE).find(([, type]) => type === colourType)?.[0] ?? 'unknown';
    throw new GlnetError(
      'ERR_IMAGE',
      `${path}: is a PNG of kind ${kind} with ${bits} bits; expected a palette or gray PNG of at most 8 bits, whose values are class indices`,
    );
  }
  // Palette and gray PNG store their samples alike, so the same data read as gray give the indices. Other chunks
  // (colours, transparency, gamma) are left out.
  const gray = Buffer.concat([
    PNG_SIGNATURE,
    headerChunk({ width, height }, bits, COLOUR_TYPE.gray, header[12]!),
    ...data,
    pngChunk('IEND', Buffer.alloc(0)),
  ]);
  const { default: sharp } = await import('sharp');
  const labels = await sharp(gray, { failOn: 'warning', limitInputPixels: false })
    .toColourspace('b-w')
    .raw()
    .toBuffer()
    .catch((cause: Error) => {
      throw new GlnetError(
        'ERR_IMAGE',
        `${path}: can't be decoded as png: ${cause.message.split('\n')[0]}. The file is damaged: get it anew`,
        { cause },
      );
    });
  // Gray of fewer bits was spread over 0 to 255.
  const spread = 255 / (2 ** bits - 1);
  if (spread > 1) for (let i = 0; i < labels.length; i++) labels[i] = labels[i]! / spread;
  return { width, height, labels };
}

/** The header's data, and the IDAT chunks whole. */
function readChunks(path: string, file: Buffer): { header: Buffer; data: Buffer[] } {
  let header: Buffer | undefined;
  const data: Buffer[] = [];
  let at = PNG_SIGNATURE.length;
  for (;;) {
    const end = at + 8 <= file.length ? at + 12 + file.readUInt32BE(at) : Number.POSITIVE_INFINITY;
    if (end > file.length) {
      throw new GlnetError(
        'ERR_FILE',
        `${path}: cut short: the file of ${file.length} bytes ends inside a chunk; get it anew`,
      );
    }
    const type = file.toString('latin1', at + 4, at + 8);
    if (type === 'IEND') break;
    if (type === 'IHDR') header = file.subarray(at + 8, end - 4);
    if (type === 'IDAT') data.push(file.subarray(at, end));
    at = end;
  }
  if (header?.length !== 13) {
    throw new GlnetError('ERR_FILE', `${path}: a PNG without a header; the file is damaged: get it anew`);
  }
  return { header, data };
}

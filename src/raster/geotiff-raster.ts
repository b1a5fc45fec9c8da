/**
 * TIFF read in windows: plain, GeoTIFF, cloud-optimised and BigTIFF, tiled or in strips. Only the tiles or strips
 * under a window are read; the last ones used are kept, since neighbouring windows overlap.
 */
import type { ImageFileDirectory } from 'geotiff';
import { GlnetError } from '../errors';
import {
  type ByteSource,
  checkSize,
  checkWindow,
  type GeoReference,
  type Raster,
  type RasterOptions,
  selectBands,
  type Window,
} from './raster';
import { type Channel, isPackedRgb, type RgbChannels, sampleLut, writeRgb } from './samples';
import { openDecoded } from './sharp-raster';
import { type BlockEncoding, COMPRESSION, decodeBlock } from './tiff-block';

const DEFAULT_MAX_PIXELS = 2 ** 31;
/** Decoded blocks kept, in bytes; more where one window needs more (strips of a very wide image). */
const CACHE_BYTES = 64 * 2 ** 20;
/** Strips are joined or, uncompressed, divided to blocks of about this many bytes. */
const STRIP_BLOCK_BYTES = 2 ** 20;
/** Larger compressed blocks are not worth reading in windows. */
const MAX_BLOCK_BYTES = 256 * 2 ** 20;
/** Blocks decoded at a time. */
const PARALLEL = 4;

/** Compressions that a predictor goes with. */
const PREDICTED: readonly number[] = [
  COMPRESSION.lzw,
  COMPRESSION.deflate,
  COMPRESSION.oldDeflate,
  COMPRESSION.zstd,
];

const PHOTOMETRIC = { whiteIsZero: 0, blackIsZero: 1, rgb: 2, palette: 3, ycbcr: 6 } as const;

/** A reason why a TIFF can't be read in windows, though sharp may be able to decode it whole. */
class Unsupported extends Error {}

/** Encoded bytes of a tile or strip, or of some rows of an uncompressed strip. */
interface Part {
  readonly offset: number;
  readonly length: number;
}

interface Layout {
  readonly width: number;
  readonly height: number;
  readonly bands: number;
  readonly encoding: BlockEncoding;
  /** Whether each band has blocks of its own. */
  readonly planar: boolean;
  /** 16-bit colours: all reds, then all greens, then all blues. */
  readonly colorMap: ArrayLike<number> | undefined;
  readonly blockWidth: number;
  /** Rows of a block; the last row of blocks of an image in strips has fewer. */
  readonly blockHeight: number;
  readonly rowsPerPart: number;
  readonly across: number;
  readonly tiled: boolean;
  parts(blockX: number, blockY: number, plane: number): Part[];
}

/**
 * Opens a TIFF; in windows if its kind allows it, else decoded whole.
 *
 * @param bytes The file; the raster that is returned closes it.
 * @throws {GlnetError} see {@link openRaster}.
 */
export async function openTiff(bytes: ByteSource, options: RasterOptions): Promise<Raster> {
  let reason: string;
  try {
    const directory = await readDirectory(bytes);
    const layout = readLayout(bytes, directory, options);
    return new TiffRaster(bytes, layout, options, readGeo(directory.ifd));
  } catch (error) {
    if (!(error instanceof Unsupported)) throw error;
    reason = error.message;
  }
  try {
    const raster = await openDecoded(bytes, 'tiff', options);
    await bytes.close();
    return raster;
  } catch (cause) {
    if (!(cause instanceof GlnetError)) throw cause;
    throw new GlnetError(cause.code, `${cause.message} (it can't be read in windows: ${reason})`, { cause });
  }
}

class TiffRaster implements Raster {
  readonly path: string;
  readonly width: number;
  readonly height: number;
  readonly format = 'tiff';
  readonly bands: number;
  readonly bits: 8 | 16;
  readonly geo: GeoReference | undefined;
  readonly #bytes: ByteSource;
  readonly #layout: Layout;
  /** Stored bands that become red, green and blue, and the tables they go through. */
  readonly #selected: readonly [number, number, number];
  readonly #luts: readonly (Uint8Array | undefined)[];
  /** Blocks as RGB by number, the last used at the end. */
  readonly #blocks = new Map<number, { rgb: Promise<Uint8Array>; bytes: number }>();
  #cached = 0;
  #capacity = CACHE_BYTES;
  #closed = false;

  constructor(bytes: ByteSource, layout: Layout, options: RasterOptions, geo: GeoReference | undefined) {
    this.path = bytes.path;
    this.width = layout.width;
    this.height = layout.height;
    this.bands = layout.bands;
    this.bits = layout.encoding.bits;
    this.geo = geo;
    this.#bytes = bytes;
    this.#layout = layout;
    this.#selected = selectBands(bytes.path, layout.bands, options);
    this.#luts = channelLuts(layout, options);
  }

  async readWindow(window: Window): Promise<Uint8Array> {
    this.#checkOpen();
    checkWindow(this, window);
    const { left, top, width, height } = window;
    const { blockWidth, blockHeight } = this.#layout;
    const firstX = Math.floor(left / blockWidth);
    const firstY = Math.floor(top / blockHeight);
    const countX = Math.floor((left + width - 1) / blockWidth) - firstX + 1;
    const countY = Math.floor((top + height - 1) / blockHeight) - firstY + 1;
    const bytes = countX * countY * blockWidth * blockHeight * 3;
    // Blocks that reach far beyond this window will be wanted by the next windows beside it.
    if (bytes > 2 * width * height * 3) this.#capacity = Math.max(this.#capacity, bytes);

    const target = new Uint8Array(width * height * 3);
    await inParallel(countX * countY, async (i) => {
      const blockX = firstX + (i % countX);
      const blockY = firstY + Math.floor(i / countX);
      const rgb = await this.#block(blockX, blockY);
      const fromX = Math.max(left, blockX * blockWidth);
      const fromY = Math.max(top, blockY * blockHeight);
      writeRgb(target, (fromY - top) * width + (fromX - left), width, packedRgb(rgb), {
        start: (fromY - blockY * blockHeight) * blockWidth + (fromX - blockX * blockWidth),
        stepX: 1,
        stepY: blockWidth,
        width: Math.min(left + width, (blockX + 1) * blockWidth) - fromX,
        height: Math.min(top + height, (blockY + 1) * blockHeight) - fromY,
      });
    });
    return target;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#blocks.clear();
    await this.#bytes.close();
  }

  #checkOpen(): void {
    if (this.#closed) throw new GlnetError('ERR_DISPOSED', `${this.path}: read after close()`);
  }

  #block(blockX: number, blockY: number): Promise<Uint8Array> {
    const { across, blockWidth } = this.#layout;
    const key = blockY * across + blockX;
    const known = this.#blocks.get(key);
    const entry = known ?? {
      rgb: this.#decode(blockX, blockY),
      bytes: blockWidth * this.#rows(blockY) * 3,
    };
    this.#blocks.delete(key);
    this.#blocks.set(key, entry);
    if (!known) {
      this.#cached += entry.bytes;
      entry.rgb.catch(() => this.#forget(key));
      for (const oldest of this.#blocks.keys()) {
        if (this.#cached <= this.#capacity || oldest === key) break;
        this.#forget(oldest);
      }
    }
    return entry.rgb;
  }

  #forget(key: number): void {
    const entry = this.#blocks.get(key);
    if (entry) this.#cached -= entry.bytes;
    this.#blocks.delete(key);
  }

  #rows(blockY: number): number {
    const { tiled, blockHeight, height } = this.#layout;
    return tiled ? blockHeight : Math.min(blockHeight, height - blockY * blockHeight);
  }

  async #decode(blockX: number, blockY: number): Promise<Uint8Array> {
    const { planar, encoding, blockWidth } = this.#layout;
    const rows = this.#rows(blockY);
    const planes = new Map<number, Channel['data']>();
    try {
      for (const plane of planar ? new Set(this.#selected) : [0]) {
        planes.set(plane, await this.#decodePlane(blockX, blockY, plane, rows));
      }
    } catch (cause) {
      this.#checkOpen();
      const { tiled, blockHeight } = this.#layout;
      const where = tiled
        ? `the tile at (${blockX * blockWidth}, ${blockY * blockHeight})`
        : `the strip at row ${blockY * blockHeight}`;
      throw new GlnetError(
        'ERR_IMAGE',
        `${this.path}: ${where} can't be decoded: ${(cause as Error).message.split('\n')[0]}. The file is damaged: get it anew`,
        { cause },
      );
    }
    const channel = (c: 0 | 1 | 2): Channel => {
      const band = this.#selected[c];
      return planar
        ? { data: planes.get(band)!, first: 0, step: 1, lut: this.#luts[c] }
        : { data: planes.get(0)!, first: band, step: encoding.samples, lut: this.#luts[c] };
    };
    const channels: RgbChannels = [channel(0), channel(1), channel(2)];
    if (isPackedRgb(channels)) return channels[0].data as Uint8Array;
    const rgb = new Uint8Array(blockWidth * rows * 3);
    writeRgb(rgb, 0, blockWidth, channels, {
      start: 0,
      stepX: 1,
      stepY: blockWidth,
      width: blockWidth,
      height: rows,
    });
    return rgb;
  }

  async #decodePlane(blockX: number, blockY: number, plane: number, rows: number): Promise<Channel['data']> {
    const { encoding, blockWidth, rowsPerPart, parts } = this.#layout;
    const wanted = parts(blockX, blockY, plane);
    if (wanted.every(({ length }) => length === 0)) {
      // A sparse file leaves out blocks without data.
      const values = blockWidth * rows * encoding.samples;
      return encoding.bits === 8 ? new Uint8Array(values) : new Uint16Array(values);
    }
    const encoded = await Promise.all(
      wanted.map(async ({ offset, length }) => {
        const part = await this.#bytes.read(offset, length);
        if (part.length < length) throw new Error(`the file ends ${length - part.length} bytes too early`);
        return part;
      }),
    );
    return decodeBlock(encoding, encoded, blockWidth, rows, rowsPerPart);
  }
}

function packedRgb(data: Uint8Array): RgbChannels {
  return [
    { data, first: 0, step: 3 },
    { data, first: 1, step: 3 },
    { data, first: 2, step: 3 },
  ];
}

async function inParallel(count: number, work: (i: number) => Promise<void>): Promise<void> {
  let next = 0;
  const run = async () => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: Math.min(PARALLEL, count) }, run));
}

/** Tables for red, green and blue: colour map, inverted gray, and stretch or upper byte. */
function channelLuts({ encoding, colorMap }: Layout, { stretch }: RasterOptions): (Uint8Array | undefined)[] {
  const lut = sampleLut(encoding.bits, stretch);
  if (colorMap) {
    const size = colorMap.length / 3;
    // Colours are 16-bit; some old writers put 8-bit ones.
    const shift = Math.max(...Array.from(colorMap)) > 255 ? 8 : 0;
    return [0, 1, 2].map((c) =>
      Uint8Array.from({ length: 256 }, (_, v) => {
        const colour = v < size ? colorMap[c * size + v]! >> shift : 0;
        return lut ? lut[colour]! : colour;
      }),
    );
  }
  if (encoding.photometric === PHOTOMETRIC.whiteIsZero) {
    const max = 2 ** encoding.bits - 1;
    const inverted = Uint8Array.from({ length: max + 1 }, (_, v) => (lut ? lut[max - v]! : max - v));
    return [inverted, inverted, inverted];
  }
  return [lut, lut, lut];
}

interface Directory {
  readonly ifd: ImageFileDirectory;
  readonly littleEndian: boolean;
}

/** Reads the first image's directory. */
async function readDirectory(bytes: ByteSource): Promise<Directory> {
  const { GeoTIFF } = await import('geotiff');
  const fetch = async ({ offset, length }: { offset: number; length: number }) =>
    (await bytes.read(offset, length)).buffer;
  const source = {
    fileSize: bytes.size,
    fetch: (slices: { offset: number; length: number }[]) => Promise.all(slices.map(fetch)),
    fetchSlice: async (slice: { offset: number; length: number }) => ({ ...slice, data: await fetch(slice) }),
    close: async () => {},
  };
  try {
    const tiff = await GeoTIFF.fromSource(source);
    // Arrays that geotiff defers are read as little-endian, whatever the file is.
    tiff.parser.eager = true;
    return { ifd: await tiff.requestIFD(0), littleEndian: tiff.littleEndian };
  } catch (cause) {
    throw new GlnetError(
      'ERR_FILE',
      `${bytes.path}: its TIFF directory can't be read (${(cause as Error).message}): the file of ${bytes.size} bytes is cut short or damaged; get it anew`,
      { cause },
    );
  }
}

/** A tag's value, from a directory that was read eagerly. */
function tag<T>(ifd: ImageFileDirectory, name: string): T | undefined {
  return ifd.hasTag(name as never) ? (ifd.getValue(name as never) as T) : undefined;
}

type Numbers = ArrayLike<number>;

/** Checks that the file can be read in windows, and finds where its blocks are. */
function readLayout(bytes: ByteSource, { ifd, littleEndian }: Directory, options: RasterOptions): Layout {
  const { path } = bytes;
  const width = tag<number>(ifd, 'ImageWidth') ?? 0;
  const height = tag<number>(ifd, 'ImageLength') ?? 0;
  checkSize(path, width, height, options.maxPixels ?? DEFAULT_MAX_PIXELS);

  const bands = tag<number>(ifd, 'SamplesPerPixel') ?? 1;
  const bitsPerSample = Array.from(tag<Numbers>(ifd, 'BitsPerSample') ?? [1]);
  const format = Array.from(tag<Numbers>(ifd, 'SampleFormat') ?? [1]).find((f) => f !== 1 && f !== 4);
  const bits = bitsPerSample[0];
  if (format !== undefined || bitsPerSample.some((b) => b > 16)) {
    const kind =
      format === 2
        ? 'signed integer'
        : format === 3
          ? 'floating-point'
          : format
            ? 'complex'
            : 'unsigned integer';
    throw new GlnetError(
      'ERR_IMAGE',
      `${path}: samples are ${bits}-bit ${kind}; expected 8- or 16-bit unsigned integers. Convert them, for instance: gdal_translate -ot Byte -scale`,
    );
  }
  if ((bits !== 8 && bits !== 16) || bitsPerSample.some((b) => b !== bits)) {
    throw new Unsupported(`samples of ${bitsPerSample.join(', ')} bits`);
  }
  const orientation = tag<number>(ifd, 'Orientation') ?? 1;
  if (orientation !== 1) throw new Unsupported(`orientation ${orientation}`);

  const compression = tag<number>(ifd, 'Compression') ?? COMPRESSION.none;
  const photometric = tag<number>(ifd, 'PhotometricInterpretation') ?? PHOTOMETRIC.blackIsZero;
  const predictor = tag<number>(ifd, 'Predictor') ?? 1;
  const planar = tag<number>(ifd, 'PlanarConfiguration') === 2 && bands > 1;
  const asPixels = compression === COMPRESSION.jpeg || compression === COMPRESSION.webp;
  if (!(Object.values(COMPRESSION) as number[]).includes(compression)) {
    throw new Unsupported(`compression ${compression}`);
  }
  if (asPixels) {
    const ok = bits === 8 && !planar && (bands === 3 || (bands === 4 && compression === COMPRESSION.webp));
    if (!ok || (photometric !== PHOTOMETRIC.rgb && photometric !== PHOTOMETRIC.ycbcr)) {
      throw new Unsupported(`compression ${compression} of ${bands} bands of ${bits} bits`);
    }
  } else if (photometric > PHOTOMETRIC.palette || (photometric === PHOTOMETRIC.palette && bits !== 8)) {
    throw new Unsupported(`photometric interpretation ${photometric} of ${bits} bits`);
  }
  if (predictor > 2) throw new Unsupported(`predictor ${predictor}`);
  if (!options.bands && bands > 4 && photometric !== PHOTOMETRIC.rgb) {
    throw new GlnetError(
      'ERR_IMAGE',
      `${path}: has ${bands} bands and doesn't say which are red, green and blue; choose them with bands, for instance [4, 3, 2]`,
    );
  }

  const samples = planar ? 1 : bands;
  const encoding: BlockEncoding = {
    littleEndian,
    compression,
    photometric,
    bits,
    samples,
    differences: predictor === 2 && PREDICTED.includes(compression),
    jpegTables: tag<Uint8Array>(ifd, 'JPEGTables'),
    ycbcrSubSampling: tag<Numbers>(ifd, 'YCbCrSubSampling'),
  };
  const blocks = readBlocks(bytes, ifd, encoding, width, height, planar ? bands : 1);
  const colorMap = photometric === PHOTOMETRIC.palette ? tag<Numbers>(ifd, 'ColorMap') : undefined;
  return { width, height, bands, encoding, planar, colorMap, ...blocks };
}

type BlockLayout = Pick<Layout, 'blockWidth' | 'blockHeight' | 'rowsPerPart' | 'across' | 'tiled' | 'parts'>;

function readBlocks(
  { path, size }: ByteSource,
  ifd: ImageFileDirectory,
  { bits, samples, compression }: BlockEncoding,
  width: number,
  height: number,
  planes: number,
): BlockLayout {
  const tiled = tag(ifd, 'TileOffsets') !== undefined;
  const kind = tiled ? 'Tile' : 'Strip';
  const offsets = tag<Numbers>(ifd, `${kind}Offsets`) ?? [];
  const lengths = tag<Numbers>(ifd, `${kind}ByteCounts`) ?? [];
  const partWidth = tiled ? (tag<number>(ifd, 'TileWidth') ?? 0) : width;
  const rowsPerStrip = Math.min(tag<number>(ifd, 'RowsPerStrip') ?? height, height);
  const partHeight = tiled ? (tag<number>(ifd, 'TileLength') ?? 0) : rowsPerStrip;
  const across = Math.ceil(width / partWidth);
  const down = Math.ceil(height / partHeight);
  const count = across * down * planes;
  if (!(partWidth >= 1 && partHeight >= 1) || offsets.length < count || lengths.length < count) {
    throw new GlnetError(
      'ERR_FILE',
      `${path}: its TIFF directory lists ${Math.min(offsets.length, lengths.length)} ${kind.toLowerCase()}s of ${partWidth}x${partHeight}, too few for ${width}x${height} pixels; the file is damaged: get it anew`,
    );
  }
  let sparse = false;
  for (let i = 0; i < count; i++) {
    sparse ||= lengths[i] === 0;
    if (lengths[i] !== 0 && offsets[i]! + lengths[i]! > size) {
      throw new GlnetError(
        'ERR_FILE',
        `${path}: cut short: ${kind.toLowerCase()} ${i} of ${count} ends at byte ${offsets[i]! + lengths[i]!}, the file at ${size}; get it anew`,
      );
    }
  }
  const rowBytes = partWidth * samples * (bits / 8);
  const target = Math.max(1, Math.floor(STRIP_BLOCK_BYTES / rowBytes));

  if (!tiled && compression === COMPRESSION.none && !sparse && target < partHeight) {
    // Rows of an uncompressed strip can be read alone. Blocks must not straddle strips.
    let blockHeight = target;
    while (down > 1 && partHeight % blockHeight !== 0) blockHeight--;
    const blocksPerStrip = Math.ceil(partHeight / blockHeight);
    return {
      tiled,
      across,
      blockWidth: partWidth,
      blockHeight,
      rowsPerPart: blockHeight,
      parts(_blockX, blockY, plane) {
        const strip = plane * down + Math.floor(blockY / blocksPerStrip);
        const skipped = (blockY % blocksPerStrip) * blockHeight * rowBytes;
        const rows = Math.min(blockHeight, height - blockY * blockHeight);
        const left = Math.max(0, lengths[strip]! - skipped);
        return [{ offset: offsets[strip]! + skipped, length: Math.min(rows * rowBytes, left) }];
      },
    };
  }

  if (rowBytes * partHeight > MAX_BLOCK_BYTES) {
    throw new Unsupported(`${kind.toLowerCase()}s of ${rowBytes * partHeight} bytes`);
  }
  // JPEG strips stay alone: each is a stream with a size of its own.
  const joined = tiled || sparse || compression === COMPRESSION.jpeg || compression === COMPRESSION.webp;
  const stripsPerBlock = joined ? 1 : Math.max(1, Math.min(down, Math.floor(target / partHeight)));
  return {
    tiled,
    across,
    blockWidth: partWidth,
    blockHeight: partHeight * stripsPerBlock,
    rowsPerPart: partHeight,
    parts(blockX, blockY, plane) {
      const first = blockY * stripsPerBlock;
      return Array.from({ length: Math.min(stripsPerBlock, down - first) }, (_, k) => {
        const index = (plane * down + first + k) * across + blockX;
        return { offset: offsets[index]!, length: lengths[index]! };
      });
    },
  };
}

/** Position on the ground, if the file gives it as scale and tie point or as a matrix. */
function readGeo(ifd: ImageFileDirectory): GeoReference | undefined {
  const scale = tag<Numbers>(ifd, 'ModelPixelScale');
  const tie = tag<Numbers>(ifd, 'ModelTiepoint');
  const matrix = tag<Numbers>(ifd, 'ModelTransformation');
  let t: [number, number, number, number, number, number];
  if (matrix && matrix.length >= 8) {
    t = [matrix[3]!, matrix[0]!, matrix[1]!, matrix[7]!, matrix[4]!, matrix[5]!];
  } else if (scale && scale.length >= 2 && tie && tie.length >= 6) {
    const [scaleX, scaleY] = [scale[0]!, scale[1]!];
    t = [tie[3]! - tie[0]! * scaleX, scaleX, 0, tie[4]! + tie[1]! * scaleY, 0, -scaleY];
  } else {
    return undefined;
  }
  // Keys come in fours: number, place of the value (0: here), count, value.
  const keys = tag<Numbers>(ifd, 'GeoKeyDirectory') ?? [];
  const key = (wanted: number): number | undefined => {
    for (let i = 4; i + 3 < keys.length; i += 4) {
      if (keys[i] === wanted && keys[i + 1] === 0) return keys[i + 3];
    }
    return undefined;
  };
  const [RASTER_TYPE, GEOGRAPHIC_TYPE, PROJECTED_TYPE, PIXEL_IS_POINT, USER_DEFINED] = [
    1025, 2048, 3072, 2, 32767,
  ];
  if (key(RASTER_TYPE) === PIXEL_IS_POINT) {
    t[0] -= (t[1] + t[2]) / 2;
    t[3] -= (t[4] + t[5]) / 2;
  }
  const epsg = key(PROJECTED_TYPE) ?? key(GEOGRAPHIC_TYPE);
  return { transform: t, epsg: epsg && epsg < USER_DEFINED ? epsg : undefined };
}

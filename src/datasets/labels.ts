/** From the pixels of a mask to class indices. */
import { extname } from 'node:path';
import { GlnetError } from '../errors';
import { readIndexMask } from '../raster/index-mask';
import { COLOUR_TYPE, PNG_SIGNATURE } from '../raster/png';
import { openFile, openRaster, type Raster, type Window } from '../raster/raster';
import { ignoredLabel, type LabelCoding, type Sample } from './dataset';
import { cropLabels, cropRaster, joinLabels, joinRasters, openAll, type Plane, wholeOf } from './plane';

/** Values or colours of a mask that are no label, with their numbers of pixels: `7` or `#FF00FF`. */
export type UnknownLabels = ReadonlyMap<string, number>;

export interface LabelOptions {
  /**
   * Called for each file that has values or colours without a label, which become 255 then. Default: that is an error.
   */
  readonly onUnknown?: ((file: string, unknown: UnknownLabels) => void) | undefined;
}

/**
 * Opens a sample's image: its region, or a mosaic's parts as one. Close it after use.
 *
 * @throws {GlnetError} what {@link openRaster} throws; ERR_IMAGE if the parts of a mosaic don't fit together, or the
 *   region is not inside the image.
 */
export async function openImage({ image, region }: Sample): Promise<Raster> {
  const whole =
    typeof image === 'string'
      ? await openRaster(image)
      : await joinRasters(await openAll(image.parts, (part) => openRaster(part)), image.columns);
  return region ? await cropRaster(whole, region) : whole;
}

/**
 * Opens the labels of a sample's image, to be read in windows of class indices, 1 byte a pixel; {@link ignoredLabel}
 * where a pixel doesn't count. Close it after use.
 *
 * @throws {GlnetError} ERR_INVALID_ARGUMENT if the sample has no mask; ERR_FILE or ERR_IMAGE if a file can't be read,
 *   here or when a window is read, which also throws ERR_IMAGE for labels that are unknown.
 */
export async function openLabels(sample: Sample, options: LabelOptions = {}): Promise<Plane> {
  const { id, mask, coding, region } = sample;
  if (mask === undefined) {
    throw new GlnetError('ERR_INVALID_ARGUMENT', `${id}: has no mask; expected a labelled sample`);
  }
  const open = (file: string) => openLabelFile(file, coding, options);
  const whole =
    typeof mask === 'string'
      ? await open(mask)
      : await joinLabels(await openAll(mask.parts, open), mask.columns);
  return region ? await cropLabels(whole, region) : whole;
}

/**
 * Reads the labels of a sample, or of a window of it.
 *
 * @returns height * width class indices, row by row, {@link ignoredLabel} (255) where a pixel doesn't count.
 * @throws {GlnetError} see {@link openLabels}; ERR_INVALID_ARGUMENT for a window that is not inside.
 */
export async function readLabels(
  sample: Sample,
  window?: Window,
  options: LabelOptions = {},
): Promise<Uint8Array> {
  const labels = await openLabels(sample, options);
  try {
    return await labels.readWindow(window ?? wholeOf(labels));
  } finally {
    await labels.close();
  }
}

/** Opens one file of labels. */
export async function openLabelFile(
  file: string,
  coding: LabelCoding,
  { onUnknown = refuse }: LabelOptions,
): Promise<Plane> {
  const checked = ({ labels, unknown }: Decoded): Uint8Array => {
    if (unknown.size > 0) onUnknown(file, unknown);
    return labels;
  };
  const { kind } = coding;
  const isTiff = /^\.tiff?$/i.test(extname(file));
  const grayBits = isTiff ? undefined : await grayPngBits(file);
  if (!isTiff && (kind === 'index' || grayBits !== undefined)) {
    return openStored(file, kind === 'rgb' ? grayDecoder(coding, grayBits!) : indexDecoder(coding), checked);
  }
  const raster = await openRaster(file);
  const { width, height, bands } = raster;
  if (kind === 'index' && bands > 2) {
    await raster.close();
    throw new GlnetError(
      'ERR_IMAGE',
      `${file}: has ${bands} bands; expected a gray image whose values are class indices. If its colours are ` +
        'the classes, describe the masks as rgb',
    );
  }
  const decodeIndices = indexDecoder(coding);
  const decode =
    kind === 'rgb' || bands > 2
      ? colourDecoder(coding)
      : // Gray is read as three equal channels.
        (rgb: Uint8Array) => decodeIndices(rgb, 3);
  return {
    path: file,
    width,
    height,
    readWindow: async (window) => checked(decode(await raster.readWindow(window))),
    close: () => raster.close(),
  };
}

/** Bits of a gray PNG without alpha; undefined for other files. */
async function grayPngBits(file: string): Promise<number | undefined> {
  const source = await openFile(file);
  const head = Buffer.from(await source.read(0, 26).finally(() => source.close()));
  // The header's data are width and height, 4 bytes each, bits, and the type of colour.
  const isGrayPng =
    head.length === 26 && head.subarray(0, 8).equals(PNG_SIGNATURE) && head[25] === COLOUR_TYPE.gray;
  return isGrayPng ? head[24] : undefined;
}

/** Decodes a PNG of one channel whole, and looks up its values as they are stored. */
async function openStored(
  file: string,
  decode: (values: Uint8Array, step: number) => Decoded,
  checked: (decoded: Decoded) => Uint8Array,
): Promise<Plane> {
  const { width, height, labels } = await readIndexMask(file);
  return {
    path: file,
    width,
    height,
    async readWindow({ left, top, width: columns, height: rows }) {
      if (columns === width) return checked(decode(labels.subarray(top * width, (top + rows) * width), 1));
      const values = new Uint8Array(columns * rows);
      for (let y = 0; y < rows; y++) {
        const from = (top + y) * width + left;
        values.set(labels.subarray(from, from + columns), y * columns);
      }
      return checked(decode(values, 1));
    },
    async close() {},
  };
}

interface Decoded {
  labels: Uint8Array;
  unknown: Map<string, number>;
}

/** Class indices of stored values, of which every `step`-th is taken. */
type ValueDecoder = (values: Uint8Array, step: number) => Decoded;

function indexDecoder({ classes, ignoredValues }: LabelCoding): ValueDecoder {
  return valueDecoder((value) => {
    if (ignoredValues.includes(value)) return ignoredLabel;
    return value < classes ? value : undefined;
  }, String);
}

/** Gray values of some bits, taken as the colours that they show. */
function grayDecoder(coding: LabelCoding, bits: number): ValueDecoder {
  const table = colourTable(coding);
  const colourOf = (value: number) => packGray(table.level[Math.round((value * 255) / (2 ** bits - 1))]!);
  return valueDecoder(
    (value) => table.labels.get(colourOf(value)),
    (value) => colourName(colourOf(value)),
  );
}

function valueDecoder(
  labelOf: (value: number) => number | undefined,
  nameOf: (value: number) => string,
): ValueDecoder {
  const known = Array.from({ length: 256 }, (_, value) => labelOf(value));
  const table = Uint8Array.from(known, (label) => label ?? ignoredLabel);
  return (values, step) => {
    const counts = new Uint32Array(256);
    const labels = new Uint8Array(values.length / step);
    for (let i = 0, at = 0; i < labels.length; i++, at += step) {
      const value = values[at]!;
      counts[value]! += 1;
      labels[i] = table[value]!;
    }
    const unknown = new Map<string, number>();
    counts.forEach((count, value) => {
      if (count === 0 || known[value] !== undefined) return;
      const name = nameOf(value);
      unknown.set(name, (unknown.get(name) ?? 0) + count);
    });
    return { labels, unknown };
  };
}

/** The label of each colour, packed, after its channels went through `level`. */
function colourTable({ colours, threshold }: LabelCoding): {
  level: Uint8Array;
  labels: Map<number, number>;
} {
  const level = Uint8Array.from({ length: 256 }, (_, value) =>
    threshold === undefined ? value : value >= threshold ? 255 : 0,
  );
  return { level, labels: new Map(colours.map(([[r, g, b], label]) => [(r << 16) | (g << 8) | b, label])) };
}

/** Class indices of interleaved RGB. Masks are made of runs of one colour, so that few are looked up. */
function colourDecoder(coding: LabelCoding): (rgb: Uint8Array) => Decoded {
  const { level, labels: table } = colourTable(coding);
  return (rgb) => {
    const labels = new Uint8Array(rgb.length / 3);
    const unknown = new Map<string, number>();
    const runEnd = runFinder(rgb);
    for (let start = 0, end = 0; start < labels.length; start = end) {
      end = runEnd(start);
      const at = 3 * start;
      const colour = (level[rgb[at]!]! << 16) | (level[rgb[at + 1]!]! << 8) | level[rgb[at + 2]!]!;
      const label = table.get(colour);
      labels.fill(label ?? ignoredLabel, start, end);
      if (label === undefined) {
        const name = colourName(colour);
        unknown.set(name, (unknown.get(name) ?? 0) + end - start);
      }
    }
    return { labels, unknown };
  };
}

/** Finds where the run of one colour ends that begins at a pixel; four pixels are compared at once, as three words. */
function runFinder(rgb: Uint8Array): (start: number) => number {
  const isAligned = rgb.byteOffset % 4 === 0;
  const words = new Uint32Array(rgb.buffer, isAligned ? rgb.byteOffset : 0, isAligned ? rgb.length >> 2 : 0);
  const block = new Uint8Array(12);
  const blockWords = new Uint32Array(block.buffer);
  return (start) => {
    let at = 3 * start;
    const [r, g, b] = [rgb[at]!, rgb[at + 1]!, rgb[at + 2]!];
    do at += 3;
    while (at % 12 !== 0 && rgb[at] === r && rgb[at + 1] === g && rgb[at + 2] === b);
    if (at % 12 === 0) {
      for (let i = 0; i < 12; i += 3) {
        block[i] = r;
        block[i + 1] = g;
        block[i + 2] = b;
      }
      const [first, second, third] = blockWords;
      let word = at / 4;
      while (words[word] === first && words[word + 1] === second && words[word + 2] === third) word += 3;
      at = 4 * word;
    }
    while (rgb[at] === r && rgb[at + 1] === g && rgb[at + 2] === b) at += 3;
    return at / 3;
  };
}

function packGray(value: number): number {
  return value * 0x010101;
}

function colourName(packed: number): string {
  return `#${packed.toString(16).padStart(6, '0').toUpperCase()}`;
}

/** `#FF00FF (1200 pixels), #123456 (1 pixel) and 3 more`: the most frequent first. */
export function describeUnknown(unknown: UnknownLabels, most = 5): string {
  const sorted = [...unknown].sort(([, a], [, b]) => b - a);
  const shown = sorted
    .slice(0, most)
    .map(([name, count]) => `${name} (${count} pixel${count === 1 ? '' : 's'})`);
  return shown.join(', ') + (sorted.length > most ? ` and ${sorted.length - most} more` : '');
}

function refuse(file: string, unknown: UnknownLabels): never {
  throw new GlnetError('ERR_IMAGE', unknownMessage(file, unknown));
}

/** Says that a mask has labels nobody described. */
export function unknownMessage(file: string, unknown: UnknownLabels): string {
  const kind = [...unknown.keys()][0]!.startsWith('#') ? 'colours' : 'values';
  return (
    `${file}: has ${kind} that are no class: ${describeUnknown(unknown)}; expected only those of the classes and ` +
    'the ignored ones. Correct the mask, or the description of the data set'
  );
}

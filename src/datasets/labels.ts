/** From the pixels of a mask to class indices. */
import { extname } from 'node:path';
import { GlnetError } from '../errors';
import { readIndexMask } from '../raster/index-mask';
import { openRaster, type Raster, type Window } from '../raster/raster';
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
  if (coding.kind === 'index') return openIndices(file, coding, onUnknown);
  const raster = await openRaster(file);
  if (coding.kind === 'auto' && raster.bands < 3) {
    await raster.close();
    return openIndices(file, coding, onUnknown);
  }
  const decode = colourDecoder(coding);
  return {
    path: file,
    width: raster.width,
    height: raster.height,
    async readWindow(window) {
      const { labels, unknown } = decode(await raster.readWindow(window));
      if (unknown.size > 0) onUnknown(file, unknown);
      return labels;
    },
    close: () => raster.close(),
  };
}

/** PNG of any bits is decoded whole as it is stored, gray TIFF in windows. */
async function openIndices(
  file: string,
  coding: LabelCoding,
  onUnknown: (file: string, unknown: UnknownLabels) => void,
): Promise<Plane> {
  const decode = indexDecoder(coding);
  const checked = (values: Uint8Array, step: number) => {
    const { labels, unknown } = decode(values, step);
    if (unknown.size > 0) onUnknown(file, unknown);
    return labels;
  };
  if (/^\.tiff?$/i.test(extname(file))) {
    const raster = await openRaster(file);
    if (raster.bands > 2) {
      const { bands } = raster;
      await raster.close();
      throw new GlnetError(
        'ERR_IMAGE',
        `${file}: has ${bands} bands; expected a gray image whose values are class indices. If its colours are ` +
          'the classes, describe the masks as rgb',
      );
    }
    const { width, height } = raster;
    return {
      path: file,
      width,
      height,
      readWindow: async (window) => checked(await raster.readWindow(window), 3),
      close: () => raster.close(),
    };
  }
  const { width, height, labels } = await readIndexMask(file);
  return {
    path: file,
    width,
    height,
    async readWindow({ left, top, width: columns, height: rows }) {
      const values = new Uint8Array(columns * rows);
      for (let y = 0; y < rows; y++) {
        const from = (top + y) * width + left;
        values.set(labels.subarray(from, from + columns), y * columns);
      }
      return checked(values, 1);
    },
    async close() {},
  };
}

interface Decoded {
  labels: Uint8Array;
  unknown: Map<string, number>;
}

/** Class indices of stored values, of which every `step`-th is taken. */
function indexDecoder({
  classes,
  ignoredValues,
}: LabelCoding): (values: Uint8Array, step: number) => Decoded {
  const known = Array.from({ length: 256 }, (_, value) => value < classes || ignoredValues.includes(value));
  const table = Uint8Array.from({ length: 256 }, (_, value) =>
    value < classes && !ignoredValues.includes(value) ? value : ignoredLabel,
  );
  return (values, step) => {
    const counts = new Float64Array(256);
    const labels = new Uint8Array(values.length / step);
    for (let i = 0; i < labels.length; i++) {
      const value = values[i * step]!;
      counts[value]! += 1;
      labels[i] = table[value]!;
    }
    const unknown = new Map<string, number>();
    counts.forEach((count, value) => {
      if (count > 0 && !known[value]) unknown.set(String(value), count);
    });
    return { labels, unknown };
  };
}

/** Class indices of interleaved RGB. Masks are made of runs of one colour, so that few are looked up. */
function colourDecoder({ colours, threshold }: LabelCoding): (rgb: Uint8Array) => Decoded {
  const level = Uint8Array.from({ length: 256 }, (_, value) =>
    threshold === undefined ? value : value >= threshold ? 255 : 0,
  );
  const table = new Map(colours.map(([colour, label]) => [packColour(colour), label]));
  return (rgb) => {
    const labels = new Uint8Array(rgb.length / 3);
    const unknown = new Map<string, number>();
    let last = -1;
    let label: number | undefined;
    let from = 0;
    const endRun = (end: number) => {
      if (label === undefined && end > from) {
        const name = colourName(last);
        unknown.set(name, (unknown.get(name) ?? 0) + end - from);
      }
      from = end;
    };
    for (let i = 0, at = 0; i < labels.length; i++, at += 3) {
      const colour = (level[rgb[at]!]! << 16) | (level[rgb[at + 1]!]! << 8) | level[rgb[at + 2]!]!;
      if (colour !== last) {
        endRun(i);
        last = colour;
        label = table.get(colour);
      }
      labels[i] = label ?? ignoredLabel;
    }
    endRun(labels.length);
    return { labels, unknown };
  };
}

function packColour([r, g, b]: readonly [number, number, number]): number {
  return (r << 16) | (g << 8) | b;
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

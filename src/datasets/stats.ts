/** Figures of a data set: sizes, and how often classes are. */

import { forEachSample, type ScanOptions } from './check';
import { type Dataset, ignoredLabel, type SplitName, splitNames } from './dataset';
import { openImage, openLabels } from './labels';

export interface Spread {
  readonly min: number;
  readonly median: number;
  readonly max: number;
}

export interface DatasetStats {
  readonly name: string;
  /** Images, and those of them that have a mask. */
  readonly images: number;
  readonly labelled: number;
  /** Labelled images of each split. */
  readonly splits: Readonly<Record<SplitName, number>>;
  /** In pixels. */
  readonly width: Spread;
  readonly height: Spread;
  /** Pixels of each image, in natural order of the ids. */
  readonly pixels: readonly number[];
  readonly classes: readonly {
    readonly name: string;
    readonly color: readonly [number, number, number];
    readonly pixels: number;
    /** Of the pixels that count, 0 to 1. */
    readonly share: number;
    /** Images that have the class. */
    readonly images: number;
  }[];
  readonly ignored: {
    readonly pixels: number;
    /** Of all labelled images' pixels, 0 to 1. */
    readonly share: number;
  };
  /** Pixels of other classes than the first, of those that count, 0 to 1: in all, and image by image. */
  readonly foreground: { readonly share: number; readonly byImage: Spread };
}

/** Rows of labels read at a time. */
const bandRows = 1024;

/**
 * Counts the pixels of every class.
 *
 * @throws {GlnetError} the first problem of a file (see {@link checkDataset}, which names all), ERR_ABORTED.
 */
export async function datasetStats(dataset: Dataset, options: ScanOptions = {}): Promise<DatasetStats> {
  const { classes, samples, splits, name } = dataset;
  const scans = await forEachSample(samples, options, async (sample) => {
    if (sample.mask === undefined) {
      const image = await openImage(sample);
      await image.close();
      return { width: image.width, height: image.height, counts: undefined };
    }
    const labels = await openLabels(sample);
    try {
      const { width, height } = labels;
      const counts = new Float64Array(256);
      for (let top = 0; top < height; top += bandRows) {
        const rows = Math.min(bandRows, height - top);
        for (const label of await labels.readWindow({ left: 0, top, width, height: rows }))
          counts[label]! += 1;
      }
      return { width, height, counts };
    } finally {
      await labels.close();
    }
  });
  const counted = scans.flatMap(({ counts }) => (counts ? [counts] : []));
  const total = (label: number) => counted.reduce((sum, counts) => sum + counts[label]!, 0);
  const pixels = classes.map((_, label) => total(label));
  const ignored = total(ignoredLabel);
  const valid = pixels.reduce((sum, count) => sum + count, 0);
  const foregrounds = counted.map((counts) => {
    const all = counts.subarray(0, classes.length).reduce((sum, count) => sum + count, 0);
    return ratio(all - counts[0]!, all);
  });
  return {
    name,
    images: scans.length,
    labelled: counted.length,
    splits: Object.fromEntries(splitNames.map((split) => [split, splits[split].length])) as Record<
      SplitName,
      number
    >,
    width: spread(scans.map(({ width }) => width)),
    height: spread(scans.map(({ height }) => height)),
    pixels: scans.map(({ width, height }) => width * height),
    classes: classes.map(({ name, color }, label) => ({
      name,
      color,
      pixels: pixels[label]!,
      share: ratio(pixels[label]!, valid),
      images: counted.filter((counts) => counts[label]! > 0).length,
    })),
    ignored: { pixels: ignored, share: ratio(ignored, valid + ignored) },
    foreground: { share: ratio(valid - pixels[0]!, valid), byImage: spread(foregrounds) },
  };
}

function ratio(part: number, whole: number): number {
  return whole > 0 ? part / whole : 0;
}

/** Zeros for no values; the median of an even number is the mean of the two in the middle. */
function spread(values: readonly number[]): Spread {
  if (values.length === 0) return { min: 0, median: 0, max: 0 };
  const sorted = [...values].sort((a, b) => a - b);
  const [low, high] = [sorted[(sorted.length - 1) >> 1]!, sorted[sorted.length >> 1]!];
  return { min: sorted[0]!, median: (low + high) / 2, max: sorted.at(-1)! };
}

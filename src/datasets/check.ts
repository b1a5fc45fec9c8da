/** Looks into every file of a data set, so that nothing comes up in the middle of a training. */
import { availableParallelism } from 'node:os';
import { checkAborted, GlnetError } from '../errors';
import { openRaster, type Raster } from '../raster/raster';
import { type Dataset, filesOf, type Problem, type Sample, splitNames } from './dataset';
import { openLabelFile, unknownMessage } from './labels';
import { intersect, isInside, mosaicGrid, type Plane } from './plane';

export interface ScanOptions {
  readonly signal?: AbortSignal | undefined;
  /** Called after each sample. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
  /** Samples read at a time. Default: one for each core, at most 4. */
  readonly parallel?: number | undefined;
}

export interface CheckReport {
  /** Samples that were read. */
  readonly samples: number;
  /** Everything that is wrong; those of the files' names first, then sample by sample. */
  readonly problems: readonly Problem[];
}

/** Rows of a TIFF read at a time. */
const bandRows = 512;

/**
 * Checks a whole data set: what its files' names show (`dataset.problems`), and that every file can be read to its
 * end, image and mask have one size, parts of a mosaic fit, regions lie inside, don't overlap between splits, and masks
 * hold nothing but described values. Nothing is written, and nothing is thrown for what is wrong with the data.
 *
 * @throws {GlnetError} ERR_ABORTED.
 */
export async function checkDataset(dataset: Dataset, options: ScanOptions = {}): Promise<CheckReport> {
  const found = await forEachSample(dataset.samples, options, checkSample);
  const { samples } = dataset;
  return {
    samples: samples.length,
    problems: [...dataset.problems, ...overlappingRegions(dataset), ...found.flat()],
  };
}

/**
 * The same, as an error if anything is wrong.
 *
 * @throws {GlnetError} ERR_FILE, a line for each problem (at most 20), ERR_ABORTED.
 */
export async function assertDataset(dataset: Dataset, options: ScanOptions = {}): Promise<void> {
  const { problems } = await checkDataset(dataset, options);
  if (problems.length === 0) return;
  const shown = problems.slice(0, 20).map(({ message }) => message);
  const more = problems.length > 20 ? [`and ${problems.length - 20} more; "glnet data check" shows all`] : [];
  throw new GlnetError(
    'ERR_FILE',
    [`${dataset.root}: this data set is wrong:`, ...shown, ...more].join('\n  '),
  );
}

/** Works on samples, several at a time, and gives the results in the samples' order. */
export async function forEachSample<T>(
  samples: readonly Sample[],
  { signal, onProgress, parallel = Math.min(4, availableParallelism()) }: ScanOptions,
  work: (sample: Sample) => Promise<T>,
): Promise<T[]> {
  const results: T[] = [];
  const next = samples.entries();
  let done = 0;
  const lane = async () => {
    // All lanes take from one iterator.
    for (const [i, sample] of next) {
      checkAborted(signal);
      results[i] = await work(sample);
      onProgress?.(++done, samples.length);
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, parallel) }, lane));
  return results;
}

type Size = Pick<Plane, 'path' | 'width' | 'height'>;

async function checkSample({ id, image, mask, coding, region }: Sample): Promise<Problem[]> {
  const problems: Problem[] = [];
  /** Reads a file to its end; undefined if that fails. */
  const read = async <P extends Plane>(
    open: () => Promise<P>,
    readAll: (plane: P) => Promise<void>,
  ): Promise<Size | undefined> => {
    try {
      const plane = await open();
      try {
        await readAll(plane);
      } finally {
        await plane.close();
      }
      return plane;
    } catch (error) {
      if (!(error instanceof GlnetError)) throw error;
      problems.push({ kind: 'unreadable', id, message: error.message });
      return undefined;
    }
  };
  const masks = mask === undefined ? [] : filesOf(mask);
  const sizes: Size[] = [];
  for (const [i, file] of filesOf(image).entries()) {
    const size = await read(
      () => openRaster(file),
      async (raster: Raster) => {
        // Other formats were decoded whole when they were opened.
        if (raster.format === 'tiff') await readBands(raster);
      },
    );
    if (size) sizes.push(size);
    const maskFile = masks[i];
    if (maskFile === undefined) continue;
    const unknown = new Map<string, number>();
    const onUnknown = (_: string, more: ReadonlyMap<string, number>) => {
      for (const [value, count] of more) unknown.set(value, (unknown.get(value) ?? 0) + count);
    };
    const maskSize = await read(() => openLabelFile(maskFile, coding, { onUnknown }), readBands);
    if (unknown.size > 0) problems.push({ kind: 'labels', id, message: unknownMessage(maskFile, unknown) });
    if (size && maskSize && (size.width !== maskSize.width || size.height !== maskSize.height)) {
      problems.push({
        kind: 'size',
        id,
        message:
          `${maskFile}: is ${maskSize.width}x${maskSize.height} pixels, but its image ${file} is ` +
          `${size.width}x${size.height}; expected one size`,
      });
    }
  }
  if (sizes.length < filesOf(image).length) return problems;
  let whole: Omit<Size, 'path'> = sizes[0]!;
  if (typeof image !== 'string') {
    try {
      whole = mosaicGrid(sizes, image.columns);
    } catch (error) {
      problems.push({ kind: 'size', id, message: (error as GlnetError).message });
      return problems;
    }
  }
  if (region && !isInside(whole, region)) {
    const { left, top, width, height } = region;
    problems.push({
      kind: 'size',
      id,
      message: `${id}: the region ${width}x${height} at (${left}, ${top}) is empty or not inside ${sizes[0]!.path}, which is ${whole.width}x${whole.height} pixels`,
    });
  }
  return problems;
}

async function readBands(plane: Plane): Promise<void> {
  const { width, height } = plane;
  for (let top = 0; top < height; top += bandRows) {
    await plane.readWindow({ left: 0, top, width, height: Math.min(bandRows, height - top) });
  }
}

/** Regions of one image that are in different splits and have pixels in common. */
function overlappingRegions({ samples, splits }: Dataset): Problem[] {
  const splitOf = new Map(splitNames.flatMap((split) => splits[split].map((id) => [id, split] as const)));
  const byFile = new Map<string, Sample[]>();
  for (const sample of samples) {
    if (!sample.region || !splitOf.has(sample.id)) continue;
    const file = filesOf(sample.image)[0]!;
    byFile.set(file, [...(byFile.get(file) ?? []), sample]);
  }
  const problems: Problem[] = [];
  for (const regions of byFile.values()) {
    regions.forEach((a, i) => {
      for (const b of regions.slice(i + 1)) {
        const [first, second] = [splitOf.get(a.id)!, splitOf.get(b.id)!];
        const common = first === second ? undefined : intersect(a.region!, b.region!);
        if (!common) continue;
        problems.push({
          kind: 'split-overlap',
          id: b.id,
          message:
            `${b.id}: is in ${second} and shares ${common.width}x${common.height} pixels with ${a.id}, which is in ` +
            `${first}; expected regions apart`,
        });
      }
    });
  }
  return problems;
}

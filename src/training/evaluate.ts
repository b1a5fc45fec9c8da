/** How well networks segment labelled images: every output of every mode, over a whole set. */
import type { Mode } from '../checkpoint/model-file';
import { type Dataset, type Sample, type SplitName, samplesOf } from '../datasets/dataset';
import { openImage, openLabels } from '../datasets/labels';
import { wholeOf } from '../datasets/plane';
import { checkAborted, GlnetError, type GlnetErrorCode } from '../errors';
import type { CoarseToFine } from '../inference/coarse-to-fine';
import type { BandOptions, SegmentReport } from '../inference/glnet';
import type { Networks } from '../inference/networks';
import { type Band, type Output, type Progress, predict, type SegmentMode } from '../inference/predict';
import { BoundaryScore } from '../metrics/boundary';
import { Calibration } from '../metrics/calibration';
import { ConfusionMatrix } from '../metrics/confusion';
import type { Raster } from '../raster/raster';

/** A labelled image, opened when its turn comes. */
export interface EvaluationImage {
  /** Its name in reports. */
  readonly id: string;
  /** The image; the caller closes it. */
  open(): Promise<Raster>;
  /**
   * Class indices, row by row: width · height of the image. What is no class, such as 255, is ignored.
   * @param raster the open image
   */
  labels(raster: Raster): Promise<Uint8Array>;
}

/** The labelled images of one split of a data set, in its order. */
export function evaluationImages(dataset: Dataset, split: SplitName): EvaluationImage[] {
  return samplesOf(dataset, split).map(evaluationImage);
}

function evaluationImage(sample: Sample): EvaluationImage {
  return {
    id: sample.id,
    open: () => openImage(sample),
    async labels({ path, width, height }) {
      const labels = await openLabels(sample);
      try {
        if (labels.width !== width || labels.height !== height) {
          throw new GlnetError(
            'ERR_IMAGE',
            `${labels.path}: the labels are ${labels.width}x${labels.height}; expected ${width}x${height}, the size of ${path}`,
          );
        }
        return await labels.readWindow(wholeOf(labels));
      } finally {
        await labels.close();
      }
    },
  };
}

/** What evaluation needs of a model; a `GLNet` has it. */
export interface Segmenter {
  segmentBands(
    raster: Raster,
    options: BandOptions & { mode: SegmentMode },
    onBand: (output: Output, band: Band) => void | Promise<void>,
  ): Promise<Pick<SegmentReport, 'totalSeconds' | 'patches' | 'poolPeakBytes'>>;
}

export interface EvaluateOptions {
  /** Number of classes, 2 to 255. */
  classes: number;
  /** What to compute: each mode once for each image, for all of its outputs. */
  runs: readonly { mode: SegmentMode; outputs: readonly Output[] }[];
  /** How each image is segmented. */
  segment?: Pick<BandOptions, 'patch' | 'globalSize' | 'batch' | 'flipRotate'>;
  /** Stops the work between two patch batches; the promise then rejects with ERR_ABORTED. */
  signal?: AbortSignal;
  /** A run of an image begins. */
  onImage?: (image: EvaluationImage, mode: SegmentMode) => void;
  onProgress?: (progress: Progress) => void;
  /** An image could not be read or computed; it counts in no run. */
  onFailure?: (image: EvaluationImage, error: GlnetError) => void;
  /** Receives each predicted mask: width · height class indices, which it must not keep. */
  onMask?: (
    image: EvaluationImage,
    mode: SegmentMode,
    output: Output,
    mask: { width: number; height: number; labels: Uint8Array },
  ) => void | Promise<void>;
}

/** How well one output agrees with the labels. */
export interface OutputScores {
  readonly output: Output;
  readonly confusion: ConfusionMatrix;
  readonly boundary: BoundaryScore;
  readonly calibration: Calibration;
}

/** One mode: what it took, and its outputs' scores. */
export interface ModeScores {
  readonly mode: SegmentMode;
  /** Of all outputs together: they come out of one pass. Loading of weights included. */
  seconds: number;
  patches: number;
  /** The most bytes that tensors took at once on a device, weights included. */
  poolPeakBytes: number;
  readonly outputs: readonly OutputScores[];
}

export interface ImageScores {
  readonly id: string;
  /** Size in pixels. */
  readonly width: number;
  readonly height: number;
  readonly modes: readonly ModeScores[];
}

export interface Evaluation {
  /** Over all images, in the order of the runs. */
  modes: ModeScores[];
  /** By image, in their order. */
  images: ImageScores[];
  failed: { id: string; error: GlnetError }[];
}

/** Scores as numbers; a class's are at its index. */
export interface Summary {
  /** Without the excluded classes, as {@link boundaryF}. */
  mIoU: number;
  IoU: number[];
  precision: number[];
  recall: number[];
  F1: number[];
  pixelAccuracy: number;
  boundaryF: number;
  boundaryFByClass: number[];
  /** Expected calibration error in 15 bins. */
  ECE: number;
}

/** Errors that are one image's own; any other would meet the next image as well. */
const ownErrors: readonly GlnetErrorCode[] = ['ERR_FILE', 'ERR_IMAGE', 'ERR_OUT_OF_MEMORY'];

/**
 * Segments every image in every mode and compares the results with its labels. Modes run one after the other over all
 * images, so that each has the memory to itself, but for the weights of those before.
 * @throws GlnetError ERR_ABORTED; what the segmenter throws, unless it is one image's own error (ERR_FILE, ERR_IMAGE,
 *   ERR_OUT_OF_MEMORY), which is reported: the rest goes on.
 */
export async function evaluate(
  segmenter: Segmenter,
  images: readonly EvaluationImage[],
  options: EvaluateOptions,
): Promise<Evaluation> {
  const failed = new Map<EvaluationImage, GlnetError>();
  const scores = new Map<EvaluationImage, ImageScores & { modes: ModeScores[] }>();
  for (const { mode, outputs } of options.runs) {
    for (const image of images) {
      if (failed.has(image)) continue;
      checkAborted(options.signal);
      options.onImage?.(image, mode);
      try {
        const { width, height, ...run } = await evaluateImage(segmenter, image, mode, outputs, options);
        if (!scores.has(image)) scores.set(image, { id: image.id, width, height, modes: [] });
        scores.get(image)!.modes.push(run);
      } catch (error) {
        if (!(error instanceof GlnetError && ownErrors.includes(error.code))) throw error;
        failed.set(image, error);
        options.onFailure?.(image, error);
      }
    }
  }

  for (const image of failed.keys()) scores.delete(image);
  const done = [...scores.values()];
  return {
    modes: options.runs.map(({ mode, outputs }, run) =>
      total(
        mode,
        outputs,
        options.classes,
        done.map(({ modes }) => modes[run]!),
      ),
    ),
    images: done,
    failed: [...failed].map(([{ id }, error]) => ({ id, error })),
  };
}

async function evaluateImage(
  segmenter: Segmenter,
  image: EvaluationImage,
  mode: SegmentMode,
  outputs: readonly Output[],
  { classes, segment, signal, onProgress, onMask }: EvaluateOptions,
): Promise<ModeScores & { width: number; height: number }> {
  const raster = await image.open();
  try {
    const { width, height } = raster;
    const truth = await image.labels(raster);
    if (truth.length !== width * height) {
      throw new GlnetError(
        'ERR_IMAGE',
        `${raster.path}: ${truth.length} labels for an image of ${width}x${height}; expected ${width * height}, one for each pixel`,
      );
    }
    const scores = outputs.map((output) => emptyScores(output, classes));
    const masks = new Map(outputs.map((output) => [output, new Uint8Array(width * height)]));
    const { totalSeconds, patches, poolPeakBytes } = await segmenter.segmentBands(
      raster,
      {
        ...segment,
        mode,
        outputs,
        ...(signal !== undefined && { signal }),
        ...(onProgress !== undefined && { onProgress }),
      },
      async (output, band) => {
        const { confusion, calibration, boundary } = scores.find((each) => each.output === output)!;
        const from = band.row * width;
        const part = truth.subarray(from, from + band.labels.length);
        confusion.add(band.labels, part);
        calibration.add(band.labels, band.confidence, part);
        const labels = masks.get(output)!;
        labels.set(band.labels, from);
        if (band.row + band.rows < height) return;
        // The output's last band: its labels are complete.
        boundary.add(labels, truth, width);
        await onMask?.(image, mode, output, { width, height, labels });
      },
    );
    return { mode, width, height, seconds: totalSeconds, patches, poolPeakBytes, outputs: scores };
  } finally {
    await raster.close();
  }
}

function emptyScores(output: Output, classes: number): OutputScores {
  return {
    output,
    confusion: new ConfusionMatrix(classes),
    boundary: new BoundaryScore(classes),
    calibration: new Calibration(classes),
  };
}

function total(
  mode: SegmentMode,
  outputs: readonly Output[],
  classes: number,
  images: readonly ModeScores[],
): ModeScores {
  const sum: ModeScores = {
    mode,
    seconds: 0,
    patches: 0,
    poolPeakBytes: 0,
    outputs: outputs.map((output) => emptyScores(output, classes)),
  };
  for (const { seconds, patches, poolPeakBytes, outputs: scores } of images) {
    sum.seconds += seconds;
    sum.patches += patches;
    sum.poolPeakBytes = Math.max(sum.poolPeakBytes, poolPeakBytes);
    for (const [i, { confusion, boundary, calibration }] of scores.entries()) {
      sum.outputs[i]!.confusion.merge(confusion);
      sum.outputs[i]!.boundary.merge(boundary);
      sum.outputs[i]!.calibration.merge(calibration);
    }
  }
  return sum;
}

/** @param exclude classes that do not count in the means, such as DeepGlobe's 0 */
export function summarize(
  { confusion, boundary, calibration }: OutputScores,
  exclude: readonly number[] = [],
): Summary {
  return {
    mIoU: confusion.meanIou(exclude),
    IoU: confusion.iou(),
    precision: confusion.precision(),
    recall: confusion.recall(),
    F1: confusion.f1(),
    pixelAccuracy: confusion.pixelAccuracy(),
    boundaryF: boundary.meanFScore(exclude),
    boundaryFByClass: boundary.fScore(),
    ECE: calibration.expectedError(),
  };
}

/**
 * Networks in memory as a segmenter, for evaluation while they are trained. Its `poolPeakBytes` count from the last
 * {@link Device.resetPeak}, which is the caller's.
 * @param networks of one mode, one for each device
 * @param mode that mode, whatever a call asks for
 * @param sides of patches and of the downsampled image in pixels, multiples of 4, and the most patches at a time, where
 *   the options of a call name none; with `coarseToFine` patches are laid where there is foreground only
 */
export function networksSegmenter(
  networks: readonly Networks[],
  mode: Mode,
  sides: { patch: number; globalSize: number; batch: number; coarseToFine?: CoarseToFine | undefined },
): Segmenter {
  return {
    async segmentBands(raster, options, onBand) {
      const started = performance.now();
      const { outputs, flipRotate = false, signal, onProgress } = options;
      const { patches } = await predict(networks, raster, {
        mode,
        outputs,
        patch: options.patch ?? sides.patch,
        globalSize: options.globalSize ?? sides.globalSize,
        batch: options.batch ?? sides.batch,
        coarseToFine: sides.coarseToFine,
        flipRotate,
        signal,
        onProgress,
        onBand,
      });
      return {
        totalSeconds: (performance.now() - started) / 1000,
        patches,
        poolPeakBytes: Math.max(...networks.map(({ device }) => device.memory().peak)),
      };
    },
  };
}

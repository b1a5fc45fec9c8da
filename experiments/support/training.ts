/** Training and scoring of an experiment's models, each step of which is done once however often the program is run. */
import { existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Mode } from '../../src/checkpoint/model-file';
import { formatBytes, formatClock, formatSeconds } from '../../src/cli/format';
import type { Dataset } from '../../src/datasets/dataset';
import { GLNet } from '../../src/inference/glnet';
import type { Output, SegmentMode } from '../../src/inference/predict';
import { writeIndexPng, writeOverlay } from '../../src/raster/write';
import {
  lengthOf,
  parseTrainConfig,
  phaseConfig,
  readTrainConfig,
  type TrainConfig,
} from '../../src/training/config';
import { type EvaluationImage, evaluate, evaluationImages, summarize } from '../../src/training/evaluate';
import { trainModel } from '../../src/training/run';
import { runFiles, type StepReport } from '../../src/training/trainer';
import { type Experiment, provenance } from './experiment';

/** An experiment's configuration, with the seed and `scale` of its steps, at least two a phase, and of its warm-up. */
export async function readConfig(file: string, seed: number, scale: number): Promise<TrainConfig> {
  const config = parseTrainConfig(await readTrainConfig(file), file);
  const phases = Object.fromEntries(
    Object.entries(config.phases).map(([phase, fields]) => {
      const resolved = phaseConfig(config, phase as Mode);
      const steps = Math.max(2, Math.round(lengthOf(resolved, 1).steps * scale));
      const { schedule } = resolved;
      const warmup = Math.floor((schedule.warmup ?? 0) * scale);
      return [phase, { ...fields, steps, ...(scale < 1 && { schedule: { ...schedule, warmup } }) }];
    }),
  );
  return { ...config, seed, phases };
}

/** What training of a phase took. */
export interface PhaseCost {
  readonly phase: Mode;
  readonly steps: number;
  /** Of the steps, without checks of the data and evaluation. */
  readonly seconds: number;
  /** The most bytes that tensors took. */
  readonly poolPeakBytes: number;
}

export interface TrainPhaseOptions {
  readonly experiment: Experiment;
  readonly dataset: Dataset;
  readonly config: TrainConfig;
  readonly phase: Mode;
  /** The run's folder. */
  readonly out: string;
  /** A model with the weights of the phases before, if they were trained in another folder. */
  readonly weights?: string;
}

/** Trains a phase, on from where it stopped, if it did. */
export async function trainPhase(options: TrainPhaseOptions): Promise<{ model: string; cost: PhaseCost }> {
  const { experiment, dataset, config, phase, out, weights } = options;
  let shown = 0;
  let clock = performance.now();
  const model = await trainModel({
    // The last weights are taken, without evaluation on the way: all variants are then treated alike.
    data: { ...dataset, splits: { ...dataset.splits, val: [] } },
    out,
    config,
    phases: [phase],
    ...(weights !== undefined && { weights }),
    resume: true,
    signal: experiment.signal,
    onNote: () => {},
    onPhase(_, steps, from) {
      console.log(`${out}: ${phase}, ${from > 0 ? `on from step ${from} of ${steps}` : `${steps} steps`}`);
      clock = performance.now();
    },
    onStep({ step, steps, loss, seconds, poolPeakBytes }: StepReport) {
      if (step < steps && performance.now() - clock < 30_000 * (shown > 0 ? 1 : 0.1)) return;
      clock = performance.now();
      shown += 1;
      console.log(
        `  step ${step}/${steps}  loss ${loss.toPrecision(3)}  ${formatSeconds(seconds)} a step  ` +
          `${formatClock((steps - step) * seconds)} left  peak ${formatBytes(poolPeakBytes)}`,
      );
    },
  });
  return { model, cost: readCost(out, phase) };
}

/** From the metrics that the run wrote: so it counts what was computed before a stop as well. */
function readCost(out: string, phase: Mode): PhaseCost {
  const lines = readFileSync(path.join(out, runFiles.metrics(phase)), 'utf8')
    .trim()
    .split('\n');
  const steps = lines
    .map((line) => JSON.parse(line) as { seconds?: number; poolPeakBytes: number })
    .filter(({ seconds }) => seconds !== undefined);
  return {
    phase,
    steps: steps.length,
    seconds: steps.reduce((sum, { seconds }) => sum + seconds!, 0),
    poolPeakBytes: Math.max(...steps.map(({ poolPeakBytes }) => poolPeakBytes)),
  };
}

/** How well an output of a mode does on all images of the test split. */
export interface Score {
  readonly mode: SegmentMode;
  readonly output: Output;
  readonly mIoU: number;
  /** By class. */
  readonly IoU: readonly number[];
  readonly pixelAccuracy: number;
  readonly boundaryF: number;
}

export interface ModeScore {
  readonly mode: SegmentMode;
  /** Of prediction, all outputs and images together. */
  readonly seconds: number;
  readonly poolPeakBytes: number;
  readonly outputs: readonly Score[];
}

/** What is to be drawn of each output. */
export interface Pictures {
  readonly folder: string;
  /** Of how many images, the first of the split. */
  readonly images: number;
  /** A file's name but for its ending. */
  name(image: string, mode: SegmentMode, output: Output): string | undefined;
}

/** Compares a model with the test split. */
export async function scoreModel(
  { signal }: Experiment,
  dataset: Dataset,
  model: string,
  runs: readonly { mode: SegmentMode; outputs: readonly Output[] }[],
  pictures?: Pictures,
): Promise<ModeScore[]> {
  await using network = await GLNet.load(model);
  const images = evaluationImages(dataset, 'test');
  const palette = dataset.classes.map(({ color }) => color);
  const drawn = images.slice(0, pictures?.images ?? 0);
  const { modes, failed } = await evaluate(network, images, {
    classes: dataset.classes.length,
    runs,
    signal,
    async onMask(image, mode, output, { labels, ...size }) {
      const name = drawn.includes(image) ? pictures!.name(fileName(image.id), mode, output) : undefined;
      if (name === undefined) return;
      mkdirSync(pictures!.folder, { recursive: true });
      await writeIndexPng(path.join(pictures!.folder, `${name}.png`), size, labels, palette);
      await drawOverlay(path.join(pictures!.folder, `${name}.overlay.jpg`), image, labels, palette);
    },
  });
  if (failed.length > 0) throw failed[0]!.error;
  return modes.map(({ mode, seconds, poolPeakBytes, outputs }) => ({
    mode,
    seconds,
    poolPeakBytes,
    outputs: outputs.map((scores) => {
      const { mIoU, IoU, pixelAccuracy, boundaryF } = summarize(scores, dataset.excluded);
      return { mode, output: scores.output, mIoU, IoU, pixelAccuracy, boundaryF };
    }),
  }));
}

/** Draws the labels of the first images of the test split, to be compared with predictions. */
export async function drawTruth(dataset: Dataset, folder: string, count: number): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const palette = dataset.classes.map(({ color }) => color);
  for (const image of evaluationImages(dataset, 'test').slice(0, count)) {
    const file = path.join(folder, `${fileName(image.id)}.truth.overlay.jpg`);
    if (existsSync(file)) continue;
    const raster = await image.open();
    try {
      await writeOverlay(file, raster, await image.labels(raster), palette);
    } finally {
      await raster.close();
    }
  }
}

async function drawOverlay(
  file: string,
  image: EvaluationImage,
  labels: Uint8Array,
  palette: readonly (readonly [number, number, number])[],
): Promise<void> {
  const raster = await image.open();
  try {
    await writeOverlay(file, raster, labels, palette);
  } finally {
    await raster.close();
  }
}

/** Ids may name folders. */
function fileName(id: string): string {
  return id.replace(/[/\\]/g, '-');
}

/**
 * What `compute` gave when it was last done with the same settings, which a file keeps; so that an experiment that is
 * stopped, or given more seeds, need not do it again.
 */
export async function once<T extends object>(
  file: string,
  settings: object,
  compute: () => Promise<T>,
): Promise<T & { readonly commit: string }> {
  const key = JSON.stringify(settings);
  if (existsSync(file)) {
    const { settings: before, figures } = JSON.parse(readFileSync(file, 'utf8')) as {
      settings: object;
      figures: T & { commit: string };
    };
    if (JSON.stringify(before) === key) return figures;
  }
  const figures = { ...(await compute()), commit: provenance().versions.commit };
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(`${file}.tmp`, `${JSON.stringify({ settings, figures }, undefined, 1)}\n`);
  renameSync(`${file}.tmp`, file);
  return figures;
}

/** Bytes of a file. */
export function sizeOf(file: string): number {
  return statSync(file).size;
}

/** Excluded or not, names of the classes for a table's head. */
export function classNames({ classes, excluded }: Dataset): string[] {
  return classes.map(({ name }, i) => (excluded.includes(i) ? `${name}*` : name));
}

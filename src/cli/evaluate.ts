/** `glnet evaluate`: how well a model segments a labelled data set. */
import path from 'node:path';
import type { ClassInfo, ModelConfig } from '../checkpoint/model-file';
import type { DatasetFormat } from '../datasets/classes';
import { type Dataset, type SplitName, splitNames } from '../datasets/dataset';
import { openDataset } from '../datasets/open';
import { GlnetError } from '../errors';
import { GLNet, type LoadOptions } from '../inference/glnet';
import { allOutputs, type Output, outputsOf, type SegmentMode } from '../inference/predict';
import { processPeakBytes } from '../peak-memory';
import { replaceFile } from '../raster/png';
import { writeIndexPng } from '../raster/write';
import {
  type EvaluateOptions,
  type Evaluation,
  evaluate as evaluateModel,
  evaluationImages,
  type ModeScores,
  type OutputScores,
  summarize,
} from '../training/evaluate';
import { renderCharts } from './chart';
import { PrecisionComparison, type PrecisionDifference } from './compare-precision';
import { matrixChart, tableChart } from './evaluation-picture';
import { errorInfo, formatBytes, formatColumns, formatError, formatSeconds, plural } from './format';
import { makeFolder, writeText } from './inputs';
import { catchInterrupts } from './interrupt';
import { createProgress, type ImageProgress } from './progress';

/** As the command line gives them; see main.ts for what they mean. */
export interface EvaluateArguments extends LoadOptions {
  weights: string;
  data: string;
  format?: DatasetFormat;
  description?: string;
  split: SplitName;
  mode?: SegmentMode | 'all';
  outputs?: Output[];
  patch?: number;
  globalSize?: number;
  flipRotate?: boolean;
  exclude?: number[];
  comparePrecision?: boolean;
  batch?: number;
  json?: string;
  picture?: string;
  out?: string;
}

const mostWarnings = 10;

/** @returns the exit code */
export async function evaluate(options: EvaluateArguments): Promise<number> {
  const { format, description } = options;
  const dataset = await openDataset(options.data, { format, description });
  const images = evaluationImages(dataset, options.split);
  warnOf(dataset);
  if (images.length === 0) {
    const sizes = splitNames.map((name) => `${name} ${dataset.splits[name].length}`).join(', ');
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `${options.data}: its split ${options.split} has no labelled images, of ${sizes} (${dataset.splitSource}); choose another one`,
    );
  }
  const exclude = options.exclude ?? dataset.excluded;
  checkExcluded(exclude, dataset);
  for (const file of [options.json, options.picture]) {
    if (file !== undefined) await makeFolder(path.dirname(file));
  }
  const { weights, comparePrecision } = options;
  const precision = options.precision ?? (comparePrecision ? 'bfloat16' : 'float32');
  await using model = await GLNet.load(weights, { ...options, precision });
  if (comparePrecision && model.precision === 'float32') {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `--compare-precision compares with float32, which precision ${precision} is here; give --precision bfloat16`,
    );
  }
  await using exact = comparePrecision
    ? await GLNet.load(weights, { ...options, precision: 'float32' })
    : undefined;
  if (model.fallback !== undefined) console.error(`glnet: computing on the CPU. ${model.fallback}`);
  checkClasses(weights, model.config, dataset);
  const runs = planRuns(model.config, options);

  const total = images.length * runs.length;
  const progress = createProgress(process.stderr, total);
  const interrupt = catchInterrupts(() => {
    progress.clear();
    console.error('glnet: stopping at the next patch batch; press Ctrl-C again to end at once');
  });
  let view: ImageProgress | undefined;
  let begun = 0;
  let evaluation: Evaluation;
  const segment = {
    ...(options.patch !== undefined && { patch: options.patch }),
    ...(options.globalSize !== undefined && { globalSize: options.globalSize }),
    ...(options.batch !== undefined && { batch: options.batch }),
    ...(options.flipRotate !== undefined && { flipRotate: options.flipRotate }),
  };
  const { signal } = interrupt;
  const comparison = exact && new PrecisionComparison(exact, dataset.classes.length, { segment, signal });
  const writeMask = options.out === undefined ? undefined : maskWriter(options.out, dataset.classes);
  try {
    evaluation = await evaluateModel(model, images, {
      classes: dataset.classes.length,
      runs,
      segment,
      signal,
      onImage: ({ id }, mode) => {
        view?.end();
        begun += 1;
        view = progress.begin(begun, runs.length > 1 ? `${id}, ${mode}` : id);
      },
      onProgress: (event) => view?.update(event),
      onFailure: (_, error) => {
        progress.clear();
        console.error(formatError(error));
      },
      onMask: async (image, mode, output, mask) => {
        await writeMask?.(image, mode, output, mask);
        await comparison?.add(image, mode, output, mask.labels);
      },
    });
  } catch (error) {
    progress.clear();
    if ((error as GlnetError).code !== 'ERR_ABORTED' || !interrupt.signal.aborted) throw error;
    console.error(`glnet: stopped after ${begun - 1} of ${total} predictions; no report was written`);
    return interrupt.exitCode!;
  } finally {
    progress.clear();
    interrupt.release();
  }

  const differences = comparison?.differences(evaluation.modes, exclude);
  const report = {
    ...reportOf(evaluation, dataset, { weights, split: options.split, exclude }),
    precision: model.precision,
    ...(differences && { differences }),
  };
  const title = `${path.basename(weights)} on ${dataset.name}, split ${options.split}: ${plural(evaluation.images.length, 'image')}`;
  const { rows, note } = tableOf(evaluation.modes, dataset.classes, exclude);
  if (evaluation.images.length > 0) {
    console.log(`${title}\nSplits: ${dataset.splitSource}\n\n${formatColumns(rows, 2)}`);
    if (note !== undefined) console.log(`  ${note}`);
    if (differences) {
      console.log(`\n${model.precision} against float32\n\n${formatColumns(differenceRows(differences), 2)}`);
    }
  }
  if (options.json !== undefined) await writeText(options.json, `${JSON.stringify(report, undefined, 2)}\n`);
  if (options.picture !== undefined && evaluation.images.length > 0) {
    const { mode, outputs } = evaluation.modes.at(-1)!;
    const picture = await renderCharts([
      tableChart(title, rows, note),
      matrixChart(`Confusion matrix: ${mode}, ${outputs[0]!.output}`, outputs[0]!.confusion, dataset.classes),
    ]);
    await replaceFile(options.picture, undefined, (file) => file.writeFile(picture));
  }
  if (evaluation.failed.length === 0) return 0;
  console.error(
    `glnet: ${plural(evaluation.failed.length, 'image')} of ${images.length} failed and count in nothing above`,
  );
  return 1;
}

/** Problems of the set that may leave images out of the split. */
function warnOf({ problems }: Dataset): void {
  const found = problems.filter(({ kind }) => kind !== 'empty-split');
  for (const { message } of found.slice(0, mostWarnings)) console.error(`glnet: ${message}`);
  if (found.length > mostWarnings) {
    console.error(`glnet: ${found.length - mostWarnings} more of these: see "glnet data check"`);
  }
}

/** The modes to run with their outputs, the final prediction's first. */
function planRuns(config: ModelConfig, options: EvaluateArguments): EvaluateOptions['runs'] {
  const wanted = options.outputs ?? allOutputs;
  const modes = options.mode === 'all' ? config.modes : [options.mode ?? config.modes.at(-1)!];
  const runs = modes
    .map((mode) => ({ mode, outputs: outputsOf(mode).filter((output) => wanted.includes(output)) }))
    .filter(({ outputs }) => outputs.length > 0);
  if (runs.length === 0) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `outputs is ${wanted.join(',')}; mode ${modes.join(', ')} has ${outputsOf(modes[0]!).join(', ')}`,
    );
  }
  return runs;
}

function checkExcluded(exclude: readonly number[], { classes }: Dataset): void {
  const wrong = exclude.find((index) => index >= classes.length);
  if (wrong !== undefined) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `exclude names class ${wrong}; the data set has ${classes.length}: 0 to ${classes.length - 1}`,
    );
  }
}

function checkClasses(weights: string, config: ModelConfig, { name, classes }: Dataset): void {
  const list = (of: readonly ClassInfo[]) => `${of.length} (${of.map((each) => each.name).join(', ')})`;
  if (config.classes.length !== classes.length) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `${weights}: the model has other classes than the data set ${name}: ${list(config.classes)}, ` +
        `expected ${list(classes)}`,
    );
  }
}

/** Writes `<out>/<mode>/<output>/<id>.png`. */
function maskWriter(out: string, classes: readonly ClassInfo[]): NonNullable<EvaluateOptions['onMask']> {
  const palette = classes.map(({ color }) => color);
  return async ({ id }, mode, output, { labels, ...size }) => {
    const file = path.join(out, mode, output, `${id}.png`);
    await makeFolder(path.dirname(file));
    await writeIndexPng(file, size, labels, palette);
  };
}

function tableOf(
  modes: readonly ModeScores[],
  classes: readonly ClassInfo[],
  exclude: readonly number[],
): { rows: string[][]; note: string | undefined } {
  const names = classes.map(({ name }, i) => (exclude.includes(i) ? `${name}*` : name));
  const rows = [
    ['mode', 'output', 'mIoU', ...names, 'accuracy', 'boundary F', 'ECE', 'time', 'memory'],
    ...modes.flatMap(({ mode, outputs, seconds, poolPeakBytes }) =>
      outputs.map((scores, i) => {
        const { mIoU, IoU, pixelAccuracy, boundaryF, ECE } = summarize(scores, exclude);
        const figures = [mIoU, ...IoU, pixelAccuracy, boundaryF, ECE].map((figure) => figure.toFixed(4));
        // All outputs come out of one pass: it is told once.
        const cost = i === 0 ? [formatSeconds(seconds), formatBytes(poolPeakBytes)] : ['', ''];
        return [mode, scores.output, ...figures, ...cost];
      }),
    ),
  ];
  return { rows, note: exclude.length > 0 ? '* not in the means' : undefined };
}

function differenceRows(differences: readonly PrecisionDifference[]): string[][] {
  return [
    ['mode', 'output', 'labels equal', 'mIoU', 'in float32', 'difference'],
    ...differences.map(({ mode, output, equal, mIoU, float32 }) => {
      const difference = mIoU - float32.mIoU;
      return [
        mode,
        output,
        `${(100 * equal).toFixed(3)} %`,
        mIoU.toFixed(4),
        float32.mIoU.toFixed(4),
        `${difference < 0 ? '' : '+'}${difference.toFixed(4)}`,
      ];
    }),
  ];
}

/** What `--json` writes. */
function reportOf(
  { modes, images, failed }: Evaluation,
  { name, classes, splitSource }: Dataset,
  { weights, split, exclude }: { weights: string; split: string; exclude: readonly number[] },
) {
  const outputsJson = (outputs: readonly OutputScores[]) =>
    Object.fromEntries(
      outputs.map((scores) => [
        scores.output,
        {
          ...summarize(scores, exclude),
          confusion: scores.confusion,
          reliability: scores.calibration.reliability(),
        },
      ]),
    );
  return {
    weights,
    dataset: name,
    split,
    splitSource,
    classes: classes.map((each) => each.name),
    excluded: exclude,
    modes: modes.map(({ outputs, ...run }) => ({ ...run, outputs: outputsJson(outputs) })),
    images: images.map(({ modes: runs, ...image }) => ({
      ...image,
      modes: runs.map(({ mode, seconds, outputs }) => ({
        mode,
        seconds,
        mIoU: Object.fromEntries(outputs.map((scores) => [scores.output, summarize(scores, exclude).mIoU])),
      })),
    })),
    failed: failed.map(({ id, error }) => ({ id, error: errorInfo(error) })),
    processPeakBytes: processPeakBytes(),
  };
}

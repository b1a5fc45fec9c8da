/** `glnet train`: the phases of training, from a data set to a model. */
import type { Mode } from '../checkpoint/model-file';
import type { DatasetFormat } from '../datasets/classes';
import type { SplitName } from '../datasets/dataset';
import { isObject } from '../datasets/description';
import { GlnetError } from '../errors';
import type { DeviceKind } from '../tensor/device';
import { parseTrainConfig, readTrainConfig } from '../training/config';
import { trainModel } from '../training/run';
import type { Scores, StepReport, TrainEvents } from '../training/trainer';
import { formatBytes, formatClock, formatRate, formatSeconds } from './format';
import { catchInterrupts } from './interrupt';
import { createDisplay, type Display } from './progress';

/** As the command line gives them; see main.ts for what they mean. */
export interface TrainArguments {
  data: string;
  out: string;
  format?: DatasetFormat;
  description?: string;
  split?: SplitName;
  validation?: SplitName;
  phase?: Mode[];
  allPhases?: boolean;
  weights?: string;
  backboneWeights?: string;
  config?: string;
  steps?: number;
  epochs?: number;
  batch?: number;
  patchBatch?: number;
  learningRate?: number;
  seed?: number;
  checkpointing?: boolean;
  resume?: boolean;
  device?: string;
  threads?: number;
  memoryLimit?: number;
}

/** Options of the command that override fields of the configuration. */
const overrides = [
  'steps',
  'epochs',
  'batch',
  'patchBatch',
  'learningRate',
  'seed',
  'checkpointing',
] as const satisfies readonly (keyof TrainArguments)[];

/** @returns the exit code */
export async function train(options: TrainArguments): Promise<number> {
  if (!options.allPhases && !options.phase) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      'nothing to train was named: give --phase with one or more phases, or --all-phases',
    );
  }
  const value = options.config === undefined ? {} : await readTrainConfig(options.config);
  const config = parseTrainConfig(overridden(value, options), options.config ?? 'the options');

  const display = createDisplay(process.stderr);
  const interrupt = catchInterrupts(() => {
    display.clear();
    console.error(
      'glnet: stopping after this step; press Ctrl-C again to end at once (back to the last save)',
    );
  });
  const { device, threads, memoryLimit, format, description, split, validation, weights, backboneWeights } =
    options;
  try {
    const model = await trainModel({
      data: options.data,
      out: options.out,
      config,
      phases: options.allPhases ? undefined : options.phase,
      ...(format !== undefined && { format }),
      ...(description !== undefined && { description }),
      ...(split !== undefined && { split }),
      ...(validation !== undefined && { validation }),
      ...(weights !== undefined && { weights }),
      ...(backboneWeights !== undefined && { backboneWeights }),
      device: {
        ...(device !== undefined && { kind: device as DeviceKind }),
        ...(threads !== undefined && { threads }),
        ...(memoryLimit !== undefined && { memoryLimit }),
      },
      resume: options.resume ?? false,
      signal: interrupt.signal,
      ...view(display),
    });
    display.clear();
    console.log(`the model is ${model}`);
    return 0;
  } catch (error) {
    display.clear();
    if ((error as GlnetError).code !== 'ERR_ABORTED' || !interrupt.signal.aborted) throw error;
    console.error(`glnet: stopped; "glnet train … --resume" goes on where it was`);
    return interrupt.exitCode!;
  } finally {
    display.clear();
    interrupt.release();
  }
}

/** A configuration with the options' fields in place of its own and of its single phases'. */
export function overridden(value: unknown, options: Partial<TrainArguments>): unknown {
  // What is no object is left to the check.
  if (!isObject(value)) return value;
  const given = overrides.filter((key) => options[key] !== undefined);
  const replaced = new Set<string>(given);
  if (replaced.has('steps') || replaced.has('epochs')) replaced.add('steps').add('epochs');
  const rest = (fields: object): object =>
    Object.fromEntries(Object.entries(fields).filter(([key]) => !replaced.has(key)));
  const { phases } = value;
  return {
    ...rest(value),
    ...(isObject(phases) && {
      phases: Object.fromEntries(
        Object.entries(phases).map(([phase, own]) => [phase, isObject(own) ? rest(own) : own]),
      ),
    }),
    ...Object.fromEntries(given.map((key) => [key, options[key]])),
  };
}

/** Shows what happens: a bar or lines for the steps, a line for each evaluation and each phase's end. */
function view(display: Display): TrainEvents & { onNote(text: string): void } {
  /** Seconds and scenes of the steps of this phase, in this run. */
  let seconds = 0;
  let waited = 0;
  let scenes = 0;
  let last: StepReport | undefined;
  let validated: number | undefined;
  const line = (text: string): void => {
    display.clear();
    console.log(text);
  };
  return {
    onNote: line,
    onPhase(phase, steps, from) {
      [seconds, waited, scenes, last, validated] = [0, 0, 0, undefined, undefined];
      line(from > 0 ? `${phase}: going on after step ${from} of ${steps}` : `${phase}: ${steps} steps`);
    },
    onStep(report) {
      last = report;
      seconds += report.seconds;
      waited += report.waited;
      scenes += report.scenes;
      const { step, steps, loss, mIoU, poolPeakBytes } = report;
      const left = ((steps - step) * seconds * report.scenes) / scenes;
      const text = [
        `step ${step}/${steps}`,
        `loss ${loss.toPrecision(4)}`,
        `mIoU ${mIoU.toFixed(3)}`,
        ...(validated === undefined ? [] : [`validated ${validated.toFixed(3)}`]),
        `${formatRate(scenes / seconds)} images`,
        `${formatClock(left)} left`,
        `peak ${formatBytes(poolPeakBytes)}`,
      ].join('  ');
      display.show(report.phase, text, step, steps);
    },
    onEvaluation(phase, step, scores, best) {
      validated = Object.values(scores.mIoU)[0];
      line(`${phase}, step ${step}: ${scoresText(scores)}${best ? ', the best so far' : ''}`);
    },
    onPhaseEnd(phase, step, best, early) {
      const why = early ? `stopped early after step ${step}` : `${step} steps`;
      const kept = best ? `, the weights of step ${best.step} are kept (mIoU ${best.score.toFixed(4)})` : '';
      const time = last
        ? ` in ${formatSeconds(seconds)}, ${formatSeconds(waited)} of it waiting for data`
        : '';
      line(`${phase}: ${why}${time}${kept}`);
    },
  };
}

function scoresText({ mIoU, seconds }: Scores): string {
  const outputs = Object.entries(mIoU).map(([output, value]) => `${output} ${value.toFixed(4)}`);
  return `mIoU ${outputs.join(', ')} in ${formatSeconds(seconds)}`;
}

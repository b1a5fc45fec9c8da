/**
 * The paper's ablation (table 2): what each branch reaches alone, and what their aggregation and the sharing of
 * feature maps add. Phase 1 is trained once a seed, and all variants go on from it.
 *
 * One variant is not the paper's: `joint` is to `aggregation` what `bidirectional` is to `deep`, phase 3 as well, but
 * without sharing. What `bidirectional` has over it is due to the sharing and not to a global branch trained further.
 */
import path from 'node:path';
import type { Mode } from '../../src/checkpoint/model-file';
import { formatBytes, formatSeconds } from '../../src/cli/format';
import type { Dataset } from '../../src/datasets/dataset';
import { type Output, outputsOf } from '../../src/inference/predict';
import type { Sharing } from '../../src/models/parameters';
import type { TrainConfig } from '../../src/training/config';
import type { LossKind } from '../../src/training/phases';
import { type Experiment, writeReport } from './experiment';
import {
  formatSpread,
  markdownTable,
  type OrderStatement,
  orderStatement,
  type Spread,
  signed,
  spreadOf,
} from './table';
import {
  classNames,
  drawTruth,
  type ModeScore,
  once,
  type PhaseCost,
  readConfig,
  type Score,
  scoreModel,
  trainPhase,
} from './training';

interface Variant {
  readonly name: string;
  /** The variant whose weights it begins with. */
  readonly from?: VariantId;
  readonly phase: Mode;
  readonly sharing: Sharing;
  /** What is minimised; default as in the paper. */
  readonly terms?: readonly LossKind[];
  /** The output that the variant is about. */
  readonly output: Output;
}

/** The paper's. */
export const paperVariants = ['global', 'local', 'aggregation', 'shallow', 'deep', 'bidirectional'] as const;
export const allVariants = [...paperVariants, 'joint'] as const;
export type VariantId = (typeof allVariants)[number];

const phase2 = { from: 'global', phase: 'global-to-local', output: 'ensemble' } as const;
const phase3 = { phase: 'bidirectional', output: 'ensemble' } as const;

const variants: Readonly<Record<VariantId, Variant>> = {
  global: { name: 'global only', phase: 'global', sharing: 'deep', output: 'global' },
  local: { ...phase2, name: 'local only', sharing: 'none', terms: ['local'], output: 'local' },
  aggregation: { ...phase2, name: 'aggregation', sharing: 'none' },
  shallow: { ...phase2, name: 'shallow G→L', sharing: 'shallow' },
  deep: { ...phase2, name: 'deep G→L', sharing: 'deep' },
  bidirectional: { ...phase3, name: 'deep G⇄L', from: 'deep', sharing: 'deep' },
  joint: { ...phase3, name: 'aggregation, phase 3 too', from: 'aggregation', sharing: 'none' },
};

/** An output of a variant, if it is not the one that the variant is about. */
type Claimed = VariantId | readonly [VariantId, Output];

/** Pairs of which the first is expected to have the higher mean IoU: the paper's, and what sharing does for its receiver. */
const expectedOrder: readonly (readonly [better: Claimed, worse: Claimed])[] = [
  ['local', 'global'],
  ['aggregation', 'global'],
  ['aggregation', 'local'],
  ['shallow', 'aggregation'],
  ['deep', 'shallow'],
  ['deep', 'aggregation'],
  ['bidirectional', 'deep'],
  ['bidirectional', 'global'],
  ['bidirectional', 'local'],
  ['bidirectional', 'aggregation'],
  ['bidirectional', 'joint'],
  [['deep', 'local'], 'local'],
  [['bidirectional', 'global'], 'global'],
];

/** A figure of another implementation, with the same data and schedule. */
export interface PeerFigure {
  readonly variant: VariantId;
  readonly output: Output;
  /** Over its runs. */
  readonly mIoU: Spread;
}

export interface AblationOptions {
  readonly title: string;
  readonly dataset: Dataset;
  /** Default: the paper's. */
  readonly variants?: readonly VariantId[];
  /** A training configuration with steps for all phases. */
  readonly config: string;
  /** How many images of the test split are drawn. Default 2. */
  readonly pictures?: number;
  readonly peer?: { readonly name: string; readonly figures: readonly PeerFigure[] };
}

/** What a variant took and reached with one seed. */
interface Figures {
  /** All phases that led to it. */
  readonly costs: readonly PhaseCost[];
  readonly prediction: ModeScore;
}

/** A variant over all seeds. */
interface Row {
  readonly id: VariantId;
  readonly name: string;
  readonly mIoU: Spread;
  readonly IoU: readonly Spread[];
  readonly trainingSeconds: Spread;
  readonly trainingPeakBytes: number;
  readonly predictionSeconds: Spread;
  readonly predictionPeakBytes: number;
  readonly runs: readonly (Figures & { readonly seed: number; readonly commit: string })[];
}

/** Trains and scores all variants with all seeds; writes table, figures and pictures. */
export async function runAblation(experiment: Experiment, options: AblationOptions): Promise<void> {
  const { seeds, out } = experiment;
  const { dataset, title, variants: offered = paperVariants, config: configFile, pictures = 2 } = options;
  const wanted = offered.filter((id) => experiment.only?.includes(id) ?? true);
  await drawTruth(dataset, path.join(out, 'pictures'), pictures);
  const runs = new Map<VariantId, Row['runs'][number][]>(wanted.map((id) => [id, []]));
  for (const seed of seeds) {
    const config = await readConfig(configFile, seed, experiment.scale);
    const trainer = new SeedTrainer(experiment, options, config);
    for (const id of wanted) runs.get(id)!.push({ seed, ...(await trainer.figures(id)) });
  }
  const rows = wanted.map((id) => rowOf(id, runs.get(id)!));
  const statements = statementsOf(rows);
  const peer = options.peer && peerRows(options.peer.figures, rows);
  writeReport(
    experiment,
    title,
    rows.flatMap((row) => row.runs),
    [
      'Test split, mean over the seeds with the lowest and the highest. Training: all phases that a variant is made of, ' +
        'without checks of the data; prediction: all images of the split. Peaks: tensors, the highest of all seeds.',
      markdownTable(tableOf(rows, classNames(dataset))),
      'Mean IoU of each output that a variant has:',
      markdownTable(outputTable(rows)),
      ...(statements.length > 0
        ? [['What the table shows:', '', ...statements.map(({ text }) => `- ${text}.`)].join('\n')]
        : []),
      ...(peer && peer.length > 0
        ? [`Beside ${options.peer!.name} (data and schedule the same):`, markdownTable([peerHead, ...peer])]
        : []),
    ],
    {
      dataset: dataset.name,
      classes: dataset.classes.map(({ name }) => name),
      config: { ...(await readConfig(configFile, 0, experiment.scale)), seed: undefined },
      variants: rows,
      statements,
    },
  );
}

/** All variants with one seed. */
class SeedTrainer {
  readonly #experiment: Experiment;
  readonly #options: AblationOptions;
  readonly #config: TrainConfig;
  readonly #out: string;
  readonly #trained = new Map<VariantId, Promise<{ model: string; costs: readonly PhaseCost[] }>>();

  constructor(experiment: Experiment, options: AblationOptions, config: TrainConfig) {
    this.#experiment = experiment;
    this.#options = options;
    this.#config = config;
    this.#out = path.join(experiment.out, `seed-${config.seed}`);
  }

  figures(id: VariantId): Promise<Figures & { commit: string }> {
    const { phase, output } = variants[id];
    return once(path.join(this.#out, id, 'figures.json'), this.#settings(id), async () => {
      const { model, costs } = await this.#train(id);
      // Where only one output was trained, the others mean nothing.
      const outputs = id === 'local' ? [output] : outputsOf(phase);
      const first = this.#experiment.seeds[0] === this.#config.seed;
      const [prediction] = await scoreModel(
        this.#experiment,
        this.#options.dataset,
        model,
        [{ mode: phase, outputs }],
        first
          ? {
              folder: path.join(this.#experiment.out, 'pictures'),
              images: this.#options.pictures ?? 2,
              name: (image, _, drawn) => (drawn === output ? `${image}.${id}` : undefined),
            }
          : undefined,
      );
      return { costs, prediction: prediction! };
    });
  }

  /** Trains a variant, and first the one that it begins with, each once. */
  #train(id: VariantId): Promise<{ model: string; costs: readonly PhaseCost[] }> {
    const known = this.#trained.get(id);
    if (known) return known;
    const training = (async () => {
      const { from, phase } = variants[id];
      const before = from && (await this.#train(from));
      const { model, cost } = await trainPhase({
        experiment: this.#experiment,
        dataset: this.#options.dataset,
        config: this.#settings(id),
        phase,
        out: path.join(this.#out, id),
        ...(before && { weights: before.model }),
      });
      return { model, costs: [...(before?.costs ?? []), cost] };
    })();
    this.#trained.set(id, training);
    return training;
  }

  #settings(id: VariantId): TrainConfig {
    const { phase, sharing, terms } = variants[id];
    const { model, phases } = this.#config;
    return {
      ...this.#config,
      model: { ...model, sharing },
      ...(terms && { phases: { ...phases, [phase]: { ...phases[phase], terms: [...terms] } } }),
    };
  }
}

function scoreOf({ prediction }: Figures, output: Output): Score | undefined {
  return prediction.outputs.find((score) => score.output === output);
}

function rowOf(id: VariantId, runs: Row['runs']): Row {
  const { name, output } = variants[id];
  const scores = runs.map((run) => scoreOf(run, output)!);
  return {
    id,
    name,
    mIoU: spreadOf(scores.map(({ mIoU }) => mIoU)),
    IoU: scores[0]!.IoU.map((_, i) => spreadOf(scores.map(({ IoU }) => IoU[i]!))),
    trainingSeconds: spreadOf(runs.map(({ costs }) => costs.reduce((sum, { seconds }) => sum + seconds, 0))),
    trainingPeakBytes: Math.max(
      ...runs.flatMap(({ costs }) => costs.map(({ poolPeakBytes }) => poolPeakBytes)),
    ),
    predictionSeconds: spreadOf(runs.map(({ prediction }) => prediction.seconds)),
    predictionPeakBytes: Math.max(...runs.map(({ prediction }) => prediction.poolPeakBytes)),
    runs,
  };
}

function tableOf(rows: readonly Row[], classes: readonly string[]): string[][] {
  return [
    ['', 'mIoU', ...classes, 'training', 'its peak', 'prediction', 'its peak'],
    ...rows.map((row) => [
      row.name,
      formatSpread(row.mIoU),
      ...row.IoU.map((spread) => formatSpread(spread)),
      formatSeconds(row.trainingSeconds.mean),
      formatBytes(row.trainingPeakBytes),
      formatSeconds(row.predictionSeconds.mean),
      formatBytes(row.predictionPeakBytes),
    ]),
  ];
}

const outputs: readonly Output[] = ['global', 'local', 'ensemble'];

/** Over the seeds; undefined where the variant does not have the output. */
function spreadOfOutput({ runs }: Row, output: Output): Spread | undefined {
  const scores = runs.map((run) => scoreOf(run, output)?.mIoU);
  return scores.includes(undefined) ? undefined : spreadOf(scores as number[]);
}

function outputTable(rows: readonly Row[]): string[][] {
  const cell = (row: Row, output: Output): string => {
    const spread = spreadOfOutput(row, output);
    return spread ? formatSpread(spread) : '';
  };
  return [['', ...outputs], ...rows.map((row) => [row.name, ...outputs.map((output) => cell(row, output))])];
}

function statementsOf(rows: readonly Row[]): OrderStatement[] {
  const find = (claimed: Claimed): { name: string; mIoU: Spread } | undefined => {
    if (typeof claimed === 'string') return rows.find((row) => row.id === claimed);
    const [id, output] = claimed;
    const row = rows.find((row) => row.id === id);
    const mIoU = row && spreadOfOutput(row, output);
    return mIoU && { name: `${row.name}, ${output} branch,`, mIoU };
  };
  return expectedOrder.flatMap(([better, worse]) => {
    const [a, b] = [find(better), find(worse)];
    return a && b ? [orderStatement(a, b)] : [];
  });
}

const peerHead = ['', 'output', 'mIoU', 'its mIoU', 'difference of the means'];

function peerRows(figures: readonly PeerFigure[], rows: readonly Row[]): string[][] {
  return figures.flatMap(({ variant, output, mIoU }) => {
    const row = rows.find(({ id }) => id === variant);
    const own = row && spreadOfOutput(row, output);
    if (!own) return [];
    return [[row.name, output, formatSpread(own), formatSpread(mIoU), signed(own.mean - mIoU.mean)]];
  });
}

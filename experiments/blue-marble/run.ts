/**
 * Land, water and ice sheets on NASA's Blue Marble: all phases, from nothing to the demo's model.
 *
 *   npm run experiment -- blue-marble [--seeds 0] [--scale 1]
 *
 * Image and labels are at hand (npm's three-globe, demo/). Trains on the western columns, tests on the eastern ones, in
 * all modes, beside what a plain GLNet in PyTorch reached with the same data and schedule (pytorch.json). The model of
 * the seed that does best there, in float16, and its figures are written to demo/ in the results' folder: the files of
 * the demo, which shows what a model does and is no measure of the method.
 */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { allModes, type Mode, openModel, writeModel } from '../../src/checkpoint/model-file';
import { type StateDict, toFloat16 } from '../../src/checkpoint/state-dict';
import { formatBytes, formatSeconds } from '../../src/cli/format';
import type { Dataset } from '../../src/datasets/dataset';
import { openDataset } from '../../src/datasets/open';
import { type Output, outputsOf } from '../../src/inference/predict';
import { type Experiment, runExperiment, writeReport } from '../support/experiment';
import { formatSpread, markdownTable, signed, spreadOf } from '../support/table';
import {
  classNames,
  drawTruth,
  type ModeScore,
  once,
  type PhaseCost,
  readConfig,
  type Score,
  scoreModel,
  sizeOf,
  trainPhase,
} from '../support/training';

type Peer = Record<'phase 1' | 'phase 2' | 'phase 3', Partial<Record<Output, { mIoU: number }>>> & {
  seconds: number;
};
const peerPhase = { global: 'phase 1', 'global-to-local': 'phase 2', bidirectional: 'phase 3' } as const;

const demo = path.join(__dirname, '../../demo');
const configFile = path.join(__dirname, 'train.json');

interface Figures {
  readonly model: string;
  readonly modelBytes: number;
  readonly costs: readonly PhaseCost[];
  readonly modes: readonly ModeScore[];
}

/** Makes the data set's folder: two files and their description. */
function prepareData(folder: string): void {
  mkdirSync(folder, { recursive: true });
  // The package's entry point is an ES module, which require.resolve finds all the same.
  const threeGlobe = path.join(path.dirname(require.resolve('three-globe')), '..');
  copyFileSync(path.join(threeGlobe, 'example/img/earth-blue-marble.jpg'), path.join(folder, 'earth.jpg'));
  copyFileSync(path.join(demo, 'blue-marble-labels.png'), path.join(folder, 'earth.png'));
  copyFileSync(path.join(__dirname, 'dataset.json'), path.join(folder, 'dataset.json'));
}

const everyMode = allModes.map((mode) => ({ mode, outputs: outputsOf(mode) }));

/** Writes the demo's model and what it reaches. */
async function writeDemo(
  experiment: Experiment,
  dataset: Dataset,
  model: string,
  columns: readonly [first: number, last: number],
): Promise<void> {
  const folder = path.join(experiment.out, 'demo');
  mkdirSync(folder, { recursive: true });
  const small = path.join(folder, 'blue-marble-small.safetensors');
  const file = await openModel(model);
  try {
    const tensors: StateDict = new Map();
    for (const name of file.tensors.keys()) tensors.set(name, toFloat16(await file.read(name)));
    await writeModel(small, { ...file.config, classes: dataset.classes }, tensors);
  } finally {
    await file.close();
  }
  const modes = await scoreModel(experiment, dataset, small, everyMode);
  const round = (value: number) => Number(value.toFixed(4));
  const figures = modes.map(({ mode, outputs }) => [
    mode,
    Object.fromEntries(
      outputs.map(({ output, mIoU, IoU }) => [output, { mIoU: round(mIoU), IoU: IoU.map(round) }]),
    ),
  ]);
  writeFileSync(
    path.join(folder, 'blue-marble-small.json'),
    `${JSON.stringify({ 'test columns': columns, ...Object.fromEntries(figures) }, undefined, 1)}\n`,
  );
}

runExperiment({ name: 'blue-marble', seeds: [0] }, async (experiment) => {
  const { out, seeds, scale } = experiment;
  const data = path.join(out, 'data');
  const pictures = path.join(out, 'pictures');
  prepareData(data);
  const dataset = await openDataset(data);
  await drawTruth(dataset, pictures, 1);
  const peer = JSON.parse(readFileSync(path.join(__dirname, 'pytorch.json'), 'utf8')) as Peer;

  const runs: (Figures & { commit: string })[] = [];
  for (const seed of seeds) {
    const config = await readConfig(configFile, seed, scale);
    const folder = path.join(out, `seed-${seed}`);
    const figures = await once(path.join(folder, 'figures.json'), config, async (): Promise<Figures> => {
      const costs: PhaseCost[] = [];
      let model = '';
      for (const phase of allModes) {
        const trained = await trainPhase({ experiment, dataset, config, phase, out: folder });
        costs.push(trained.cost);
        model = trained.model;
      }
      const modes = await scoreModel(experiment, dataset, model, everyMode, {
        folder: pictures,
        images: 1,
        name: (image, mode, output) =>
          seed === seeds[0] && output === outputsOf(mode)[0] ? `${image}.${mode}` : undefined,
      });
      return { model, modelBytes: sizeOf(model), costs, modes };
    });
    runs.push(figures);
  }

  const scoreOf = (run: Figures, mode: Mode, output: Output): Score =>
    run.modes.find((each) => each.mode === mode)!.outputs.find((score) => score.output === output)!;
  const reached = runs.map((run) => scoreOf(run, 'bidirectional', 'ensemble').mIoU);
  const best = reached.indexOf(Math.max(...reached));
  const columns = dataset.samples.find(({ id }) => id === 'earth/test')!.region!;
  await writeDemo(experiment, dataset, runs[best]!.model, [columns.left, columns.left + columns.width - 1]);

  const rows = allModes.flatMap((mode) =>
    outputsOf(mode).map((output) => {
      const scores = runs.map((run) => scoreOf(run, mode, output));
      const mIoU = spreadOf(scores.map((score) => score.mIoU));
      const expected = peer[peerPhase[mode]][output]?.mIoU;
      return {
        mode,
        output,
        mIoU,
        IoU: scores[0]!.IoU.map((_, i) => spreadOf(scores.map(({ IoU }) => IoU[i]!))),
        peer: expected,
        difference: expected === undefined ? undefined : mIoU.mean - expected,
      };
    }),
  );
  const costs = allModes.map((mode, i) => ({
    mode,
    steps: runs[0]!.costs[i]!.steps,
    trainingSeconds: spreadOf(runs.map((run) => run.costs[i]!.seconds)),
    trainingPeakBytes: Math.max(...runs.map((run) => run.costs[i]!.poolPeakBytes)),
    predictionSeconds: spreadOf(runs.map((run) => run.modes[i]!.seconds)),
    predictionPeakBytes: Math.max(...runs.map((run) => run.modes[i]!.poolPeakBytes)),
  }));
  const total = spreadOf(runs.map((run) => run.costs.reduce((sum, { seconds }) => sum + seconds, 0)));
  writeReport(
    experiment,
    'Blue Marble: all phases',
    runs,
    [
      'Test region, columns 2730 to 4095, beside a plain GLNet in PyTorch (same data and schedule, one seed).',
      markdownTable([
        ['mode', 'output', ...classNames(dataset), 'mIoU', 'PyTorch', 'difference'],
        ...rows.map(({ mode, output, mIoU, IoU, peer: theirs, difference }) => [
          mode,
          output,
          ...IoU.map((spread) => formatSpread(spread)),
          formatSpread(mIoU, 4),
          theirs?.toFixed(4) ?? '',
          difference === undefined ? '' : signed(difference, 4),
        ]),
      ]),
      markdownTable([
        ['phase', 'steps', 'training', 'its peak', 'prediction', 'its peak'],
        ...costs.map((cost) => [
          cost.mode,
          String(cost.steps),
          formatSeconds(cost.trainingSeconds.mean),
          formatBytes(cost.trainingPeakBytes),
          formatSeconds(cost.predictionSeconds.mean),
          formatBytes(cost.predictionPeakBytes),
        ]),
      ]),
      `Training took ${formatSeconds(total.mean)} in all, PyTorch's ${formatSeconds(peer.seconds)} on 2 cores of its machine. ` +
        `A model takes ${formatBytes(runs[0]!.modelBytes)}; demo/ has that of seed ${seeds[best]}, the best on the test region, in float16.`,
    ],
    { config: await readConfig(configFile, seeds[0]!, scale), outputs: rows, costs, runs },
  );
});

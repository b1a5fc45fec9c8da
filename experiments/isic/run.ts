/**
 * Coarse to fine on skin lesions, a run-through: one image to train with, one to test, which says how much of an image
 * is refined and what that saves, and nothing of how well lesions are found.
 *
 *   npm run experiment -- isic DATA [--seeds 0] [--scale 1]
 *
 * DATA holds ISIC_0014386 and ISIC_0014489, each as `.jpg` and `_segmentation.png` (ISIC 2017).
 */
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { allModes } from '../../src/checkpoint/model-file';
import { formatBytes, formatPercent, formatSeconds } from '../../src/cli/format';
import { type Dataset, samplesOf } from '../../src/datasets/dataset';
import { openImage, readLabels } from '../../src/datasets/labels';
import { openDataset } from '../../src/datasets/open';
import { GLNet } from '../../src/inference/glnet';
import { outputsOf, type SegmentMode } from '../../src/inference/predict';
import { ConfusionMatrix } from '../../src/metrics/confusion';
import { writeIndexPng, writeOverlay } from '../../src/raster/write';
import { type Experiment, runExperiment, writeReport } from '../support/experiment';
import { markdownTable } from '../support/table';
import { classNames, drawTruth, once, type PhaseCost, readConfig, trainPhase } from '../support/training';

const modes = ['global', 'bidirectional', 'coarse-to-fine'] as const satisfies readonly SegmentMode[];

interface Row {
  readonly seed: number;
  readonly image: string;
  readonly mode: SegmentMode;
  readonly IoU: readonly number[];
  readonly mIoU: number;
  readonly seconds: number;
  readonly poolPeakBytes: number;
  readonly patches: number;
  /** Patches that the whole image has. */
  readonly allPatches: number;
  /** Share of the pixels in the refined box. */
  readonly refined: number;
}

/** Segments the test images in every mode, whole and coarse to fine. */
async function segmentAll(
  { out, signal }: Experiment,
  dataset: Dataset,
  model: string,
  seed: number,
  margin: number,
): Promise<Row[]> {
  await using network = await GLNet.load(model);
  const palette = dataset.classes.map(({ color }) => color);
  const pictures = path.join(out, 'pictures');
  mkdirSync(pictures, { recursive: true });
  const rows: Row[] = [];
  for (const sample of samplesOf(dataset, 'test')) {
    const truth = await readLabels(sample);
    const raster = await openImage(sample);
    try {
      const labels = new Uint8Array(raster.width * raster.height);
      const found = new Map<SegmentMode, Row>();
      for (const mode of modes) {
        const confusion = new ConfusionMatrix(dataset.classes.length);
        const report = await network.segmentBands(
          raster,
          { mode, outputs: [outputsOf(mode)[0]!], margin, signal },
          (_, band) => labels.set(band.labels, band.row * raster.width),
        );
        confusion.add(labels, truth);
        const { refinement } = report;
        found.set(mode, {
          seed,
          image: sample.id,
          mode,
          IoU: confusion.iou(),
          mIoU: confusion.meanIou(dataset.excluded),
          seconds: report.totalSeconds,
          poolPeakBytes: report.poolPeakBytes,
          patches: report.patches,
          allPatches: refinement?.allPatches ?? report.patches,
          refined: refinement?.share ?? (mode === 'global' ? 0 : 1),
        });
        const file = path.join(pictures, `${sample.id}.${mode}.seed-${seed}`);
        await writeIndexPng(`${file}.png`, raster, labels, palette);
        await writeOverlay(`${file}.overlay.jpg`, raster, labels, palette);
      }
      rows.push(...found.values());
    } finally {
      await raster.close();
    }
  }
  return rows;
}

runExperiment(
  {
    name: 'isic',
    data: 'the folder with ISIC_0014386.jpg, ISIC_0014386_segmentation.png and the same of ISIC_0014489',
    seeds: [0],
  },
  async (experiment) => {
    const { out, seeds, scale } = experiment;
    const configFile = path.join(__dirname, 'train.json');
    const dataset = await openDataset(experiment.data!, {
      description: path.join(__dirname, 'dataset.json'),
    });
    await drawTruth(dataset, path.join(out, 'pictures'), 1);
    const runs: { costs: readonly PhaseCost[]; rows: readonly Row[]; commit: string }[] = [];
    for (const seed of seeds) {
      const config = await readConfig(configFile, seed, scale);
      const folder = path.join(out, `seed-${seed}`);
      const run = await once(path.join(folder, 'figures.json'), config, async () => {
        const costs: PhaseCost[] = [];
        let model = '';
        for (const phase of allModes) {
          const trained = await trainPhase({ experiment, dataset, config, phase, out: folder });
          costs.push(trained.cost);
          model = trained.model;
        }
        const { margin } = config.coarseToFine!;
        return { costs, rows: await segmentAll(experiment, dataset, model, seed, margin) };
      });
      runs.push(run);
    }
    const rows = runs.flatMap((run) => run.rows);
    const training = runs.map(({ costs }) => costs.reduce((sum, { seconds }) => sum + seconds, 0));
    writeReport(
      experiment,
      'ISIC: coarse to fine, a run-through',
      runs,
      [
        'One image to train with and one to test: IoU is given to show that the modes agree or differ, not how well lesions are found.',
        markdownTable([
          [
            'mode',
            'seed',
            ...classNames(dataset),
            'mIoU',
            'pixels refined',
            'patches',
            'patches saved',
            'time',
            'peak',
          ],
          ...rows.map((row) => [
            row.mode,
            String(row.seed),
            ...row.IoU.map((value) => value.toFixed(3)),
            row.mIoU.toFixed(3),
            row.mode === 'global' ? '' : formatPercent(row.refined),
            String(row.patches),
            row.mode === 'coarse-to-fine' ? formatPercent(1 - row.patches / row.allPatches) : '',
            formatSeconds(row.seconds),
            formatBytes(row.poolPeakBytes),
          ]),
        ]),
        `Training took ${training.map(formatSeconds).join(', ')}; tensors took ` +
          `${formatBytes(Math.max(...runs.flatMap(({ costs }) => costs.map((cost) => cost.poolPeakBytes))))} at most.`,
      ],
      { config: await readConfig(configFile, seeds[0]!, scale), runs },
    );
  },
);

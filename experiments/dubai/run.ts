/**
 * The ablation on satellite images of Dubai: five mosaics to train with, one to test.
 *
 *   npm run experiment -- dubai DATA [--seeds 0,1,2] [--only global,deep] [--scale 1]
 *
 * DATA holds `t{tile}_p{part}.jpg` and their `_mask.png`, tiles 1, 2, 3, 4, 5 and 7 ("Semantic segmentation of aerial
 * imagery", Humans in the Loop and MBRSC). pytorch.json: what a plain GLNet in PyTorch reached with the same data and
 * schedule. Its first run is another author's, seed 0, and does not tell the channels of its pyramid: train.json has those
 * of the Blue Marble. The others are of bench/peers/train.py, seeds 0 and 1.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { openDataset } from '../../src/datasets/open';
import type { Output } from '../../src/inference/predict';
import { type PeerFigure, paperVariants, runAblation, type VariantId } from '../support/ablation';
import { runExperiment } from '../support/experiment';
import { spreadOf } from '../support/table';

type PeerRun = Record<'phase 1' | 'phase 2' | 'phase 3', Partial<Record<Output, { mIoU: number }>>>;

const phaseOf: readonly (readonly [keyof PeerRun, VariantId])[] = [
  ['phase 1', 'global'],
  ['phase 2', 'deep'],
  ['phase 3', 'bidirectional'],
];

runExperiment(
  {
    name: 'dubai',
    data: 'the folder with t1_p1.jpg, t1_p1_mask.png and so on',
    seeds: [0, 1, 2],
    variants: paperVariants,
  },
  async (experiment) => {
    const runs = JSON.parse(readFileSync(path.join(__dirname, 'pytorch.json'), 'utf8')) as PeerRun[];
    const figures = phaseOf.flatMap(([phase, variant]) =>
      (Object.keys(runs[0]![phase]) as Output[]).map(
        (output): PeerFigure => ({
          variant,
          output,
          mIoU: spreadOf(runs.map((run) => run[phase][output]!.mIoU)),
        }),
      ),
    );
    await runAblation(experiment, {
      title: 'Dubai: ablation',
      dataset: await openDataset(experiment.data!, { description: path.join(__dirname, 'dataset.json') }),
      config: path.join(__dirname, 'train.json'),
      peer: { name: `a plain GLNet in PyTorch, ${runs.length} runs`, figures },
    });
  },
);

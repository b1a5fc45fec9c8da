/**
 * The ablation on synthetic scenes in which the class of an object depends on context and its outline on detail, see
 * scenes.ts.
 *
 *   npm run experiment -- context [--seeds 0,1,2] [--only global,deep] [--scale 1]
 *
 * The seeds are those of training: the scenes are the same for all.
 */
import { existsSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { openDataset } from '../../src/datasets/open';
import { allVariants, runAblation } from '../support/ablation';
import { runExperiment } from '../support/experiment';
import { writeScenes } from './scenes';

const counts = { train: 60, val: 1, test: 24 };
const scenesSeed = 1;

runExperiment({ name: 'context', seeds: [0, 1, 2], variants: allVariants }, async (experiment) => {
  const folder = path.join(experiment.out, 'scenes');
  if (!existsSync(folder)) {
    console.log(`${folder}: drawing the scenes`);
    // Renamed when it is complete, so that a folder that is there need not be looked into.
    rmSync(`${folder}.tmp`, { recursive: true, force: true });
    await writeScenes(`${folder}.tmp`, counts, scenesSeed);
    renameSync(`${folder}.tmp`, folder);
  }
  await runAblation(experiment, {
    title: 'Context scenes: ablation',
    dataset: await openDataset(folder),
    variants: allVariants,
    config: path.join(__dirname, 'train.json'),
  });
});

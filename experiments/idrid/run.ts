/**
 * The ablation on photographs of the retina: fourteen to train with, three to test.
 *
 *   npm run experiment -- idrid DATA [--seeds 0,1,2] [--only global,deep] [--scale 1]
 *
 * DATA holds `images/IDRiD_01.jpg` to 17 and `masks/IDRiD_01.png` to 17 (Indian Diabetic Retinopathy Image Dataset).
 */
import path from 'node:path';
import { openDataset } from '../../src/datasets/open';
import { paperVariants, runAblation } from '../support/ablation';
import { runExperiment } from '../support/experiment';

runExperiment(
  {
    name: 'idrid',
    data: 'the folder with images/IDRiD_01.jpg, masks/IDRiD_01.png and so on',
    seeds: [0, 1, 2],
    variants: paperVariants,
  },
  async (experiment) =>
    runAblation(experiment, {
      title: 'IDRiD: ablation',
      dataset: await openDataset(experiment.data!, { description: path.join(__dirname, 'dataset.json') }),
      config: path.join(__dirname, 'train.json'),
    }),
);

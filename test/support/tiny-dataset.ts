/** A data set of four small images with labels, from the golden data. */
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fixtures } from './golden';

const sources = ['train-global.0', 'train-global.1', 'train-local.0', 'train-local.1'];

/** Writes images of 186x186 px and masks of seven classes: three to train on, one to evaluate on. */
export async function writeTinyDataset(folder: string): Promise<void> {
  await mkdir(path.join(folder, 'images'), { recursive: true });
  await mkdir(path.join(folder, 'masks'), { recursive: true });
  for (const [i, source] of sources.entries()) {
    const [name, number] = source.split('.');
    await copyFile(path.join(fixtures, `${name}.image${number}.png`), path.join(folder, `images/${i}.png`));
    await copyFile(path.join(fixtures, `${name}.label${number}.png`), path.join(folder, `masks/${i}.png`));
  }
  const description = {
    name: 'tiny',
    classes: Array.from({ length: 7 }, (_, i) => ({ name: `class ${i}`, color: [40 * i, 0, 0] })),
    images: 'images/{id}.png',
    masks: 'masks/{id}.png',
    split: { train: ['0', '1', '2'], val: ['3'] },
  };
  await writeFile(path.join(folder, 'dataset.json'), JSON.stringify(description));
}

/** Settings with which a step takes some hundredths of a second. */
export const tinyTraining = {
  model: {
    backbone: 'resnet18',
    width: 0.0625,
    fpn: { channels: 4, smooth: 4 },
    patch: 100,
    global: 64,
  },
  scene: 150,
  learningRate: 1e-3,
  batch: 2,
  patchBatch: 3,
  saveEvery: 4,
  evaluateEvery: 8,
} as const;

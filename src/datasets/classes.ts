/** Classes of the data sets that GLNet was published with, in the order of their indices. */
import type { ClassInfo } from '../checkpoint/model-file';

export const datasetNames = ['deepglobe', 'inria', 'isic'] as const;
export type DatasetName = (typeof datasetNames)[number];

/** Layouts of a folder: those of these data sets, any with a `dataset.json` (`folder`), or to be found out (`auto`). */
export const datasetFormats = ['auto', ...datasetNames, 'folder'] as const;
export type DatasetFormat = (typeof datasetFormats)[number];

export const datasetClasses: Readonly<Record<DatasetName, readonly ClassInfo[]>> = {
  deepglobe: [
    { name: 'unknown', color: [0, 0, 0] },
    { name: 'urban', color: [0, 255, 255] },
    { name: 'agriculture', color: [255, 255, 0] },
    { name: 'rangeland', color: [255, 0, 255] },
    { name: 'forest', color: [0, 255, 0] },
    { name: 'water', color: [0, 0, 255] },
    { name: 'barren', color: [255, 255, 255] },
  ],
  inria: [
    { name: 'not building', color: [0, 0, 0] },
    { name: 'building', color: [255, 255, 255] },
  ],
  isic: [
    { name: 'skin', color: [0, 0, 0] },
    { name: 'lesion', color: [255, 255, 255] },
  ],
};

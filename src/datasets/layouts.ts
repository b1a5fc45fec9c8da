/** Data sets as their owners ship them. */
import { type DatasetName, datasetClasses } from './classes';
import { ignoredLabel, type LabelCoding, type SplitName } from './dataset';
import { type Description, defaultFractions } from './description';
import { Template } from './template';

/** Masks whose colours are those of the classes. */
function coding(name: DatasetName, more: Partial<LabelCoding>): LabelCoding {
  const classes = datasetClasses[name];
  return {
    kind: 'rgb',
    classes: classes.length,
    ignoredValues: [ignoredLabel],
    colours: classes.map(({ color }, label) => [color, label]),
    ...more,
  };
}

/** Folders of the ISIC challenge are named after their split: `ISIC-2017_Training_Data`. */
function folderSplit(_: string, file: string): SplitName | undefined {
  const folder = file.split('/').slice(0, -1).join('/');
  if (/train/i.test(folder)) return 'train';
  if (/val/i.test(folder)) return 'val';
  return /test/i.test(folder) ? 'test' : undefined;
}

export const layouts: Readonly<Record<DatasetName, Description>> = {
  deepglobe: {
    name: 'DeepGlobe land cover',
    classes: datasetClasses.deepglobe,
    excluded: [0],
    images: [new Template('**/{id}_sat.jpg')],
    masks: [new Template('**/{id}_mask.png')],
    coding: coding('deepglobe', { kind: 'auto', threshold: 128 }),
    split: {
      kind: 'fractions',
      // 455, 142 and 206 of 803.
      fractions: { train: 0.567, val: 0.177, test: 0.256 },
      seed: 0,
      reason:
        'the published lists are not part of this package; for figures that can be compared with others, put them ' +
        'into the folder as train.txt, val.txt and test.txt',
    },
  },
  inria: {
    name: 'Inria aerial images',
    classes: datasetClasses.inria,
    excluded: [],
    images: [new Template('**/images/{id}.{tif,tiff}')],
    masks: [new Template('**/gt/{id}.{tif,tiff}')],
    coding: coding('inria', {}),
    split: {
      kind: 'names',
      source: 'tiles 1 to 5 of each city for validation, the others for training',
      splitOf: (id) => (/\D[1-5]$/.test(id) ? 'val' : 'train'),
      otherwise: { kind: 'fractions', fractions: defaultFractions, seed: 0 },
    },
  },
  isic: {
    name: 'ISIC lesion boundaries',
    classes: datasetClasses.isic,
    excluded: [],
    images: [new Template('**/{id}.jpg')],
    masks: [new Template('**/{id}_segmentation.png')],
    coding: coding('isic', {}),
    split: {
      kind: 'names',
      source: 'the folders’ names',
      splitOf: folderSplit,
      otherwise: {
        kind: 'fractions',
        fractions: defaultFractions,
        seed: 0,
        reason: 'the split that the paper used (2077, 260 and 259 images) was not published',
      },
    },
  },
};

/** What a folder must hold, at any depth, to be taken for one of these. */
export const signatures: Readonly<Record<DatasetName, RegExp>> = {
  deepglobe: /(^|\/)[^/]+_sat\.jpg$/i,
  inria: /(^|\/)gt\/[^/]+\.tiff?$/i,
  isic: /(^|\/)ISIC_[^/]+\.jpg$/i,
};

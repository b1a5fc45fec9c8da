/** What a data set is: samples of images and masks, the classes in the masks, and the splits. */
import type { ClassInfo } from '../checkpoint/model-file';
import type { Colour } from '../raster/png';
import type { Window } from '../raster/raster';

/** The label of pixels that count neither in the loss nor in the metrics. */
export const ignoredLabel = 255;

export const splitNames = ['train', 'val', 'test'] as const;
export type SplitName = (typeof splitNames)[number];

/** Files that are parts of one image: row by row, `columns` to a row. */
export interface Mosaic {
  readonly columns: number;
  readonly parts: readonly string[];
}

/** A path, or the paths of the parts of one image. */
export type ImageFile = string | Mosaic;

/** How the pixels of a mask become class indices. */
export interface LabelCoding {
  /** What a mask stores: class indices, colours, or (`auto`) indices if it is gray and colours otherwise. */
  readonly kind: 'index' | 'rgb' | 'auto';
  /** Number of classes: indices from 0 to classes - 1. */
  readonly classes: number;
  /** Stored indices that mean {@link ignoredLabel}. */
  readonly ignoredValues: readonly number[];
  /** The label of each colour; a class may have several, and so may {@link ignoredLabel}. */
  readonly colours: readonly (readonly [colour: Colour, label: number])[];
  /** Channels of this value or more count as 255, the others as 0, before colours are looked up. 1 to 255. */
  readonly threshold?: number | undefined;
}

/** An image and its mask. */
export interface Sample {
  /** Unique in the data set. */
  readonly id: string;
  readonly image: ImageFile;
  /** Of the image's size; undefined if the image is not labelled. */
  readonly mask: ImageFile | undefined;
  readonly coding: LabelCoding;
  /** Samples of a group belong together (parts of one place, photographs of one patient): no split parts them. */
  readonly group?: string | undefined;
  /** The sample is this part of the image and of the mask, in pixels. Default: all of it. */
  readonly region?: Window | undefined;
}

/** What is wrong with a data set, in a word that stays the same between versions. */
export type ProblemKind =
  /** An image has no mask. */
  | 'missing-mask'
  /** A mask has no image, or a mosaic lacks a part. */
  | 'missing-image'
  /** Two files claim the same id. */
  | 'duplicate-id'
  /** Image and mask, or the parts of a mosaic, have sizes that don't fit; a region is not inside its image. */
  | 'size'
  /** A mask has values that are no class, or colours that nobody described. */
  | 'labels'
  /** A file is missing, cut short, damaged, or no image. */
  | 'unreadable'
  /** A split names a sample that is not there, or has no mask. */
  | 'unknown-id'
  /** Nothing to train on, or nothing to validate or test on. */
  | 'empty-split'
  /** A sample, a group or a place of an image is in two splits, or twice in one. */
  | 'split-overlap';

export interface Problem {
  readonly kind: ProblemKind;
  /** The sample, where there is one. */
  readonly id?: string | undefined;
  /** One sentence: the file or the sample, what was found, what was expected. */
  readonly message: string;
}

export interface Dataset {
  readonly name: string;
  /** The folder. */
  readonly root: string;
  /** In the order of their indices, 2 to 255. */
  readonly classes: readonly ClassInfo[];
  /** Classes that the mean of the IoU leaves out, such as DeepGlobe's 0 (unknown). */
  readonly excluded: readonly number[];
  /** In natural order of their ids. */
  readonly samples: readonly Sample[];
  /** Ids of the labelled samples of each split. */
  readonly splits: Readonly<Record<SplitName, readonly string[]>>;
  /** Where the splits come from, as a sentence. */
  readonly splitSource: string;
  /** What files' names alone show to be wrong; {@link checkDataset} looks into the files as well. */
  readonly problems: readonly Problem[];
  /** What a user should know, though nothing is wrong. */
  readonly notes: readonly string[];
}

/** The files of an image: one, or the parts of a mosaic. */
export function filesOf(image: ImageFile): readonly string[] {
  return typeof image === 'string' ? [image] : image.parts;
}

/** The samples of a split, in the order of its list. */
export function samplesOf(dataset: Dataset, split: SplitName): Sample[] {
  const byId = new Map(dataset.samples.map((sample) => [sample.id, sample]));
  return dataset.splits[split].map((id) => byId.get(id)!);
}

/** Orders names as people do: 2 before 10. */
export function compareNames(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true }) || (a < b ? -1 : a > b ? 1 : 0);
}

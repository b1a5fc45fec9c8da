import { GlnetError } from '../errors';
import { ratio } from './ratio';

/** Of the diagonal: how far apart boundaries may be and still match (Csurka et al. 2013). */
const toleranceShare = 0.0075;

/** Marks pixels that are on no boundary. */
const none = 255;

/**
 * How well the outlines of labels and truth agree, over any number of images: the boundary F-score.
 *
 * A pixel is on the boundary of its class if one of its four neighbours is of another class; the image's border and
 * ignored pixels are not neighbours. Precision is the share of the labels' boundary pixels of a class that have one of
 * the truth's within the tolerance, by Euclidean distance; recall is the share of the truth's that have one of
 * the labels'. Pixels are counted over all images, so that an image weighs by the length of its outlines.
 *
 * Measure: Csurka, Larlus, Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC 2013, who
 * average over images, and Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object
 * Segmentation", CVPR 2016.
 */
export class BoundaryScore {
  readonly classes: number;
  /** By class: boundary pixels of labels and truth, and those of them that the other one has within the tolerance. */
  readonly #labels: Float64Array;
  readonly #labelsMatched: Float64Array;
  readonly #truth: Float64Array;
  readonly #truthMatched: Float64Array;

  /** @param classes 2 to 255; truth from `classes` on, such as 255, is ignored */
  constructor(classes: number) {
    if (!Number.isInteger(classes) || classes < 2 || classes > 255) {
      throw new GlnetError('ERR_INVALID_ARGUMENT', `classes is ${classes}; expected 2 to 255`);
    }
    this.classes = classes;
    this.#labels = new Float64Array(classes);
    this.#labelsMatched = new Float64Array(classes);
    this.#truth = new Float64Array(classes);
    this.#truthMatched = new Float64Array(classes);
  }

  /**
   * Adds an image.
   * @param labels class indices, row by row
   * @param truth likewise
   * @param width of the image in pixels
   * @param tolerance in pixels, from 0; default 0.75 % of the diagonal, at least 1
   * @throws GlnetError ERR_INVALID_ARGUMENT if sizes differ or the tolerance is out of range.
   */
  add(labels: Uint8Array, truth: Uint8Array, width: number, tolerance?: number): void {
    const height = truth.length / width;
    if (labels.length !== truth.length || !Number.isInteger(height)) {
      throw new GlnetError(
        'ERR_INVALID_ARGUMENT',
        `${labels.length} labels and ${truth.length} pixels of truth; expected the same whole rows of ${width}`,
      );
    }
    const radius = tolerance ?? Math.max(1, toleranceShare * Math.hypot(width, height));
    if (!(radius >= 0)) {
      throw new GlnetError(
        'ERR_INVALID_ARGUMENT',
        `tolerance is ${radius}; expected a number of pixels from 0`,
      );
    }
    const ofLabels = new BoundaryPixels(boundaries(labels, truth, width, this.classes), width, this.classes);
    const ofTruth = new BoundaryPixels(boundaries(truth, truth, width, this.classes), width, this.classes);
    for (let index = 0; index < this.classes; index++) {
      this.#labels[index]! += ofLabels.count(index);
      this.#truth[index]! += ofTruth.count(index);
      this.#labelsMatched[index]! += ofLabels.countNear(ofTruth, index, radius);
      this.#truthMatched[index]! += ofTruth.countNear(ofLabels, index, radius);
    }
  }

  /**
   * Adds the counts of another, such as that of one more image.
   * @throws GlnetError ERR_INVALID_ARGUMENT if it has other classes.
   */
  merge(other: BoundaryScore): void {
    if (other.classes !== this.classes) {
      throw new GlnetError(
        'ERR_INVALID_ARGUMENT',
        `a boundary score of ${other.classes} classes cannot be added to one of ${this.classes}`,
      );
    }
    for (let i = 0; i < this.classes; i++) {
      this.#labels[i]! += other.#labels[i]!;
      this.#labelsMatched[i]! += other.#labelsMatched[i]!;
      this.#truth[i]! += other.#truth[i]!;
      this.#truthMatched[i]! += other.#truthMatched[i]!;
    }
  }

  /** Of each class; 0 where the labels have no boundary of it. */
  precision(): number[] {
    return Array.from(this.#labels, (count, i) => ratio(this.#labelsMatched[i]!, count));
  }

  /** Of each class; 0 where the truth has no boundary of it. */
  recall(): number[] {
    return Array.from(this.#truth, (count, i) => ratio(this.#truthMatched[i]!, count));
  }

  /** Harmonic mean of precision and recall of each class; 0 where either is. */
  fScore(): number[] {
    const recall = this.recall();
    return this.precision().map((p, i) => ratio(2 * p * recall[i]!, p + recall[i]!));
  }

  /**
   * Mean of {@link fScore} over the classes that have a boundary in labels or truth; 0 if none has.
   * @param exclude classes that do not count, such as DeepGlobe's 0
   */
  meanFScore(exclude: readonly number[] = []): number {
    const counted = this.fScore().filter(
      (_, i) => !exclude.includes(i) && this.#labels[i]! + this.#truth[i]! > 0,
    );
    return ratio(
      counted.reduce((sum, score) => sum + score, 0),
      counted.length,
    );
  }
}

/** Each pixel's class where it is on its boundary, else {@link none}; pixels that the truth ignores are left out. */
function boundaries(map: Uint8Array, truth: Uint8Array, width: number, classes: number): Uint8Array {
  const found = new Uint8Array(map.length).fill(none);
  /** Marks two neighbours if a boundary runs between them. */
  const compare = (a: number, b: number): void => {
    if (map[a] === map[b] || truth[a]! >= classes || truth[b]! >= classes) return;
    found[a] = map[a]!;
    found[b] = map[b]!;
  };
  for (let row = 0; row < map.length; row += width) {
    for (let i = row; i < row + width; i++) {
      if (i + 1 < row + width) compare(i, i + 1);
      if (i + width < map.length) compare(i, i + width);
    }
  }
  return found;
}

/** The pixels of a boundary map, in order of class, row and column. */
class BoundaryPixels {
  readonly #height: number;
  readonly #columns: Uint32Array;
  /** Where the pixels of each class and row begin. */
  readonly #starts: Uint32Array;

  constructor(map: Uint8Array, width: number, classes: number) {
    const height = map.length / width;
    this.#height = height;
    this.#starts = new Uint32Array(classes * height + 1);
    for (let row = 0, i = 0; row < height; row++) {
      for (const end = i + width; i < end; i++) {
        if (map[i]! < classes) this.#starts[map[i]! * height + row + 1]! += 1;
      }
    }
    for (let i = 1; i < this.#starts.length; i++) this.#starts[i]! += this.#starts[i - 1]!;
    this.#columns = new Uint32Array(this.#starts.at(-1)!);
    const next = this.#starts.slice();
    for (let row = 0, i = 0; row < height; row++) {
      for (let column = 0; column < width; column++, i++) {
        if (map[i]! < classes) this.#columns[next[map[i]! * height + row]!++] = column;
      }
    }
  }

  count(index: number): number {
    return this.#starts[(index + 1) * this.#height]! - this.#starts[index * this.#height]!;
  }

  /**
   * Counts the pixels of a class that have one of another map's within the radius. Exact: row by row, nearest first, what
   * is not yet matched is compared with each row in reach, in one pass over both. At most as many steps as there are pixels
   * times rows in reach; few, where the outlines agree.
   */
  countNear(others: BoundaryPixels, index: number, radius: number): number {
    let count = 0;
    const reach = Math.min(Math.floor(radius), this.#height - 1);
    for (let row = 0; row < this.#height; row++) {
      const unmatched = this.#row(index, row).slice();
      let left = unmatched.length;
      for (let step = 0; step <= reach && left > 0; step++) {
        const half = Math.floor(Math.sqrt(radius * radius - step * step));
        for (const other of step === 0 ? [row] : [row - step, row + step]) {
          if (other < 0 || other >= this.#height) continue;
          left = dropNear(unmatched, left, others.#row(index, other), half);
        }
      }
      count += unmatched.length - left;
    }
    return count;
  }

  /** Columns of the pixels of a class in a row, ascending. */
  #row(index: number, row: number): Uint32Array {
    const at = index * this.#height + row;
    return this.#columns.subarray(this.#starts[at]!, this.#starts[at + 1]!);
  }
}

/**
 * Removes from the first `length` columns those with one of `others` at most `distance` away; both ascend.
 * @returns how many are left, at the beginning
 */
function dropNear(columns: Uint32Array, length: number, others: Uint32Array, distance: number): number {
  if (others.length === 0) return length;
  let left = 0;
  let j = 0;
  for (let i = 0; i < length; i++) {
    const column = columns[i]!;
    while (j < others.length && others[j]! < column - distance) j++;
    if (j === others.length || others[j]! > column + distance) columns[left++] = column;
  }
  return left;
}

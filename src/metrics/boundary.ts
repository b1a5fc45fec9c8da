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
   * @param tolerance in pixels, 0 to 65534; default 0.75 % of the diagonal, at least 1
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
    if (!(radius >= 0 && radius <= 65534)) {
      throw new GlnetError('ERR_INVALID_ARGUMENT', `tolerance is ${radius}; expected 0 to 65534 pixels`);
    }
    const ofLabels = boundaries(labels, truth, width, this.classes);
    const ofTruth = boundaries(truth, truth, width, this.classes);
    const countsOfLabels = countEach(ofLabels);
    const countsOfTruth = countEach(ofTruth);
    const near = new Neighbourhood(width, height, radius);
    for (let index = 0; index < this.classes; index++) {
      this.#labels[index]! += countsOfLabels[index]!;
      this.#truth[index]! += countsOfTruth[index]!;
      if (countsOfLabels[index] === 0 || countsOfTruth[index] === 0) continue;
      this.#labelsMatched[index]! += near.count(ofLabels, ofTruth, index);
      this.#truthMatched[index]! += near.count(ofTruth, ofLabels, index);
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

function countEach(map: Uint8Array): Float64Array {
  const counts = new Float64Array(256);
  for (let i = 0; i < map.length; i++) counts[map[i]!]! += 1;
  return counts;
}

/**
 * Finds the pixels within a distance of others, exactly, in time that does not depend on the distance: a pixel's
 * disk is one vertical step of up to the radius, then a horizontal one as long as Pythagoras leaves.
 */
class Neighbourhood {
  readonly #width: number;
  readonly #height: number;
  /** Half the width of the disk, by the vertical distance from its middle; -1 outside. */
  readonly #reach: Int32Array;
  /** Vertical distance of each pixel to the nearest one of those sought, if it is in reach. */
  readonly #vertical: Uint16Array;

  constructor(width: number, height: number, radius: number) {
    this.#width = width;
    this.#height = height;
    const steps = Math.min(Math.floor(radius), height);
    // One more for 'out of reach'.
    this.#reach = Int32Array.from({ length: steps + 2 }, (_, dy) =>
      dy > steps ? -1 : Math.floor(Math.sqrt(radius * radius - dy * dy)),
    );
    this.#vertical = new Uint16Array(width * height);
  }

  /** Counts the pixels of `map` with a value that have one of `others` with the same value within the radius. */
  count(map: Uint8Array, others: Uint8Array, value: number): number {
    const width = this.#width;
    const vertical = this.#vertical;
    const reach = this.#reach;
    const far = reach.length - 1;
    for (let i = 0; i < others.length; i++) {
      const above = i < width ? far : vertical[i - width]!;
      vertical[i] = others[i] === value ? 0 : above < far ? above + 1 : far;
    }
    let count = 0;
    const covered = new Uint8Array(width);
    for (let row = this.#height - 1; row >= 0; row--) {
      const start = row * width;
      // Rightwards, and with it the steps from below; then leftwards.
      for (let x = 0, end = -1; x < width; x++) {
        const i = start + x;
        if (i + width < vertical.length) {
          const below = vertical[i + width]! + 1;
          if (below < vertical[i]!) vertical[i] = below;
        }
        const half = reach[vertical[i]!]!;
        if (half >= 0 && x + half > end) end = x + half;
        covered[x] = x <= end ? 1 : 0;
      }
      for (let x = width - 1, end = width; x >= 0; x--) {
        const half = reach[vertical[start + x]!]!;
        if (half >= 0 && x - half < end) end = x - half;
        if (map[start + x] === value && (covered[x] === 1 || x >= end)) count += 1;
      }
    }
    return count;
  }
}

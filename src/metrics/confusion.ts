import { GlnetError } from '../errors';
import { ratio } from './ratio';

/** Counts of label and truth over any number of images, and the metrics that follow from them. */
export class ConfusionMatrix {
  readonly classes: number;
  /** classes * classes counts of pixels, row by row: the row is the truth, the column the label. */
  readonly counts: Float64Array;

  /** @param classes 2 to 255 */
  constructor(classes: number) {
    if (!Number.isInteger(classes) || classes < 2 || classes > 255) {
      throw new GlnetError('ERR_INVALID_ARGUMENT', `classes is ${classes}; expected 2 to 255`);
    }
    this.classes = classes;
    this.counts = new Float64Array(classes * classes);
  }

  /**
   * Adds pixels. Those whose truth is no class, such as 255, are ignored.
   * @throws GlnetError ERR_INVALID_ARGUMENT if the lengths differ, or a label that counts is no class.
   */
  add(labels: Uint8Array, truth: Uint8Array): void {
    if (labels.length !== truth.length) {
      throw new GlnetError(
        'ERR_INVALID_ARGUMENT',
        `${labels.length} labels for ${truth.length} pixels of truth`,
      );
    }
    // Every pair of bytes has a place, so that the loop need not ask whether it counts.
    const pairs = new Float64Array(256 * 256);
    for (let i = 0; i < labels.length; i++) pairs[(truth[i]! << 8) | labels[i]!]! += 1;
    const { classes } = this;
    for (let row = 0; row < classes; row++) {
      const wrong = pairs.subarray((row << 8) + classes, (row + 1) << 8).findIndex((count) => count > 0);
      if (wrong >= 0) {
        throw new GlnetError(
          'ERR_INVALID_ARGUMENT',
          `a label is ${wrong + classes}; expected 0 to ${classes - 1}`,
        );
      }
    }
    for (let row = 0; row < classes; row++) {
      for (let column = 0; column < classes; column++) {
        this.counts[row * classes + column]! += pairs[(row << 8) | column]!;
      }
    }
  }

  /**
   * Adds the counts of another matrix, such as that of one more image.
   * @throws GlnetError ERR_INVALID_ARGUMENT if it has other classes.
   */
  merge(other: ConfusionMatrix): void {
    if (other.classes !== this.classes) {
      throw new GlnetError(
        'ERR_INVALID_ARGUMENT',
        `a confusion matrix of ${other.classes} classes cannot be added to one of ${this.classes}`,
      );
    }
    for (let i = 0; i < this.counts.length; i++) this.counts[i]! += other.counts[i]!;
  }

  /** Of the pixels with each label, the share that is right; 0 for a class that is no pixel's label. */
  precision(): number[] {
    return this.#each((i) => ratio(this.#count(i, i), this.#columnSum(i)));
  }

  /** Of the pixels of each class, the share whose label is right; 0 for a class without pixels. */
  recall(): number[] {
    return this.#each((i) => ratio(this.#count(i, i), this.#rowSum(i)));
  }

  /** Harmonic mean of precision and recall (Dice coefficient) of each class; 0 for a class that is in neither. */
  f1(): number[] {
    return this.#each((i) => ratio(2 * this.#count(i, i), this.#rowSum(i) + this.#columnSum(i)));
  }

  /** Intersection over union of each class; 0 for a class that is in neither labels nor truth. */
  iou(): number[] {
    return this.#each((i) =>
      ratio(this.#count(i, i), this.#rowSum(i) + this.#columnSum(i) - this.#count(i, i)),
    );
  }

  /**
   * Mean of {@link iou} over the classes.
   * @param exclude classes that do not count, such as DeepGlobe's 0
   */
  meanIou(exclude: readonly number[] = []): number {
    const counted = this.iou().filter((_, i) => !exclude.includes(i));
    return counted.length > 0 ? counted.reduce((sum, iou) => sum + iou, 0) / counted.length : 0;
  }

  /** Share of the pixels whose label is right; 0 when there are none. */
  pixelAccuracy(): number {
    let right = 0;
    for (let i = 0; i < this.classes; i++) right += this.#count(i, i);
    return ratio(right, this.pixels());
  }

  /** Pixels that count. */
  pixels(): number {
    return this.counts.reduce((sum, count) => sum + count, 0);
  }

  /** Rows of {@link counts}. */
  toJSON(): number[][] {
    const { classes } = this;
    return this.#each((i) => [...this.counts.subarray(i * classes, (i + 1) * classes)]);
  }

  #each<T>(of: (index: number) => T): T[] {
    return Array.from({ length: this.classes }, (_, i) => of(i));
  }

  #count(truth: number, label: number): number {
    return this.counts[truth * this.classes + label]!;
  }

  #rowSum(truth: number): number {
    let sum = 0;
    for (let j = 0; j < this.classes; j++) sum += this.#count(truth, j);
    return sum;
  }

  #columnSum(label: number): number {
    let sum = 0;
    for (let i = 0; i < this.classes; i++) sum += this.#count(i, label);
    return sum;
  }
}

import { GlnetError } from '../errors';

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

  /** Intersection over union of each class; 0 for a class that is in neither labels nor truth. */
  iou(): number[] {
    return Array.from({ length: this.classes }, (_, i) => {
      let union = -this.#count(i, i);
      for (let j = 0; j < this.classes; j++) union += this.#count(i, j) + this.#count(j, i);
      return union > 0 ? this.#count(i, i) / union : 0;
    });
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
    const all = this.counts.reduce((sum, count) => sum + count, 0);
    let right = 0;
    for (let i = 0; i < this.classes; i++) right += this.#count(i, i);
    return all > 0 ? right / all : 0;
  }

  #count(truth: number, label: number): number {
    return this.counts[truth * this.classes + label]!;
  }
}

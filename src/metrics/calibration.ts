import { GlnetError } from '../errors';
import { ratio } from './ratio';

/** Pixels whose confidence lies in an interval. */
export interface ReliabilityBin {
  readonly pixels: number;
  /** Mean confidence, 0 to 1; 0 without pixels. */
  readonly confidence: number;
  /** Share of the pixels whose label is right; 0 without pixels. */
  readonly accuracy: number;
}

/**
 * Whether confidence means what it says, over any number of images: of the pixels that are labelled with 80 %
 * confidence, 80 % should be right. (Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.)
 */
export class Calibration {
  readonly classes: number;
  /** Pixels by confidence byte, and those of them whose label is right. */
  readonly #pixels = new Float64Array(256);
  readonly #right = new Float64Array(256);

  /** @param classes truth from `classes` on, such as 255, is ignored */
  constructor(classes: number) {
    this.classes = classes;
  }

  /**
   * Adds pixels.
   * @param confidence 0 to 255: probability of the label
   * @throws GlnetError ERR_INVALID_ARGUMENT if the lengths differ.
   */
  add(labels: Uint8Array, confidence: Uint8Array, truth: Uint8Array): void {
    if (labels.length !== truth.length || confidence.length !== truth.length) {
      throw new GlnetError(
        'ERR_INVALID_ARGUMENT',
        `${labels.length} labels and ${confidence.length} confidences for ${truth.length} pixels of truth`,
      );
    }
    for (let i = 0; i < truth.length; i++) {
      if (truth[i]! >= this.classes) continue;
      const byte = confidence[i]!;
      this.#pixels[byte]! += 1;
      if (labels[i] === truth[i]) this.#right[byte]! += 1;
    }
  }

  /** Adds the counts of another, such as that of one more image. */
  merge(other: Calibration): void {
    for (let i = 0; i < 256; i++) {
      this.#pixels[i]! += other.#pixels[i]!;
      this.#right[i]! += other.#right[i]!;
    }
  }

  /**
   * The pixels by confidence, in equal intervals from 0 to 1, each with its upper end.
   * @param bins 1 to 255
   */
  reliability(bins = 15): ReliabilityBin[] {
    if (!Number.isInteger(bins) || bins < 1 || bins > 255) {
      throw new GlnetError('ERR_INVALID_ARGUMENT', `bins is ${bins}; expected 1 to 255`);
    }
    const sums = Array.from({ length: bins }, () => ({ pixels: 0, bytes: 0, right: 0 }));
    for (let byte = 0; byte < 256; byte++) {
      const sum = sums[Math.max(0, Math.ceil((byte * bins) / 255) - 1)]!;
      sum.pixels += this.#pixels[byte]!;
      sum.bytes += byte * this.#pixels[byte]!;
      sum.right += this.#right[byte]!;
    }
    return sums.map(({ pixels, bytes, right }) => ({
      pixels,
      confidence: ratio(bytes / 255, pixels),
      accuracy: ratio(right, pixels),
    }));
  }

  /**
   * Expected calibration error, 0 to 1: mean of |accuracy - confidence| over the intervals, weighted by their pixels;
   * 0 without pixels. Confidence in bytes adds at most 1/510 to it.
   * @param bins as in {@link reliability}
   */
  expectedError(bins = 15): number {
    let error = 0;
    let all = 0;
    for (const { pixels, confidence, accuracy } of this.reliability(bins)) {
      error += pixels * Math.abs(accuracy - confidence);
      all += pixels;
    }
    return ratio(error, all);
  }
}

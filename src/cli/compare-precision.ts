/** What a precision changes: each predicted mask is computed in float32 as well. */
import type { GLNet } from '../inference/glnet';
import type { Output, SegmentMode } from '../inference/predict';
import { ConfusionMatrix } from '../metrics/confusion';
import type { EvaluateOptions, EvaluationImage, ModeScores } from '../training/evaluate';

export interface PrecisionDifference {
  readonly mode: SegmentMode;
  readonly output: Output;
  /** Share of the pixels whose label is the same. */
  readonly equal: number;
  readonly mIoU: number;
  readonly float32: { readonly mIoU: number };
}

export class PrecisionComparison {
  readonly #model: GLNet;
  readonly #classes: number;
  readonly #options: Pick<EvaluateOptions, 'segment' | 'signal'>;
  readonly #found = new Map<string, { equal: number; pixels: number; confusion: ConfusionMatrix }>();

  /** @param model the same weights in float32; stays the caller's */
  constructor(model: GLNet, classes: number, options: Pick<EvaluateOptions, 'segment' | 'signal'>) {
    this.#model = model;
    this.#classes = classes;
    this.#options = options;
  }

  /** Compares a predicted mask. */
  async add(image: EvaluationImage, mode: SegmentMode, output: Output, labels: Uint8Array): Promise<void> {
    const key = `${mode} ${output}`;
    const found = this.#found.get(key) ?? {
      equal: 0,
      pixels: 0,
      confusion: new ConfusionMatrix(this.#classes),
    };
    this.#found.set(key, found);
    const raster = await image.open();
    try {
      const { segment, signal } = this.#options;
      const expected = new Uint8Array(labels.length);
      await this.#model.segmentBands(
        raster,
        { ...segment, mode, outputs: [output], ...(signal && { signal }) },
        (_, band) => expected.set(band.labels, band.row * raster.width),
      );
      for (let i = 0; i < labels.length; i++) if (labels[i] === expected[i]) found.equal += 1;
      found.pixels += labels.length;
      found.confusion.add(expected, await image.labels(raster));
    } finally {
      await raster.close();
    }
  }

  /** @param modes what the evaluation in the other precision found */
  differences(modes: readonly ModeScores[], exclude: readonly number[]): PrecisionDifference[] {
    return modes.flatMap(({ mode, outputs }) =>
      outputs.flatMap(({ output, confusion }) => {
        const found = this.#found.get(`${mode} ${output}`);
        if (!found) return [];
        return {
          mode,
          output,
          equal: found.equal / found.pixels,
          mIoU: confusion.meanIou(exclude),
          float32: { mIoU: found.confusion.meanIou(exclude) },
        };
      }),
    );
  }
}

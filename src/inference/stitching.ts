/** Which bands of the result can be stitched, and from what: decided here for predict.ts, and for rehearsal.ts, which plans it. */
import type { StitchSource } from '../tensor/stitch';
import type { Tensor } from '../tensor/tensor';
import type { Rect } from '../tiling';
import type { LocalOutput } from './networks';
import { turnedWindow } from './turns';

type Output = LocalOutput | 'global';

interface Size {
  readonly width: number;
  readonly height: number;
}

/** Rows of the image, over its whole width, and the logits that lie there. */
export interface StitchPart {
  readonly row: number;
  readonly rows: number;
  readonly sources: readonly StitchSource[];
}

/** Some rows of one output. */
export interface StitchBand {
  readonly output: Output;
  readonly whole: StitchPart;
  /** Of coarse-to-fine segmentation: what counts inside the box. */
  readonly fine: StitchPart | undefined;
  /** Logits that no later band needs. */
  readonly spent: readonly Tensor[];
  /** Whether every output has these rows now. */
  readonly last: boolean;
}

/** Logits, and the rows of the image on which they lie. */
interface Kept {
  readonly source: StitchSource;
  readonly top: number;
  readonly bottom: number;
}

/** Labels of a band: few waits, little memory. */
const bandPixels = 2 << 20;

/**
 * The logits that wait to be stitched. Bands come from top to bottom, of all outputs in turn; all have the same rows, but for
 * those at the bottom.
 */
export class Stitching {
  readonly #size: Size;
  readonly #outputs: readonly Output[];
  /** Whether this is coarse to fine: what is outside the box comes from the global branch's logits, `coarse`. */
  readonly refines: boolean;
  #box: Rect | undefined;
  readonly #kept: Map<Output | 'coarse', Kept[]>;
  #complete = 0;
  #row = 0;
  /** The output whose turn it is. */
  #next = 0;

  constructor(size: Size, outputs: readonly Output[], refines: boolean) {
    this.#size = size;
    this.#outputs = [...new Set(outputs)];
    this.refines = refines;
    this.#kept = new Map([...this.#outputs, 'coarse' as const].map((name) => [name, []]));
  }

  /** Another that begins with the same logits; for one that has stitched nothing yet. */
  copy(): Stitching {
    const copy = new Stitching(this.#size, this.#outputs, this.refines);
    copy.#box = this.#box;
    for (const [name, kept] of this.#kept) copy.#kept.set(name, [...kept]);
    return copy;
  }

  wants(output: Output): boolean {
    return this.#outputs.includes(output);
  }

  /** Sets the box of coarse-to-fine segmentation. */
  refine(box: Rect | undefined): void {
    this.#box = box;
  }

  /** Of one output sources are summed in the order in which they come here. */
  keep(output: Output | 'coarse', source: StitchSource): void {
    const { width, height } = this.#size;
    const { tops, lefts, turn, ...patch } = source as Required<StitchSource>;
    const [top, left] = [Math.min(...tops), Math.min(...lefts)];
    const rows = turnedWindow(turn, width, height, {
      top,
      left,
      height: Math.max(...tops) + patch.height - top,
      width: Math.max(...lefts) + patch.width - left,
    });
    // At the bottom and on the right patches may leave the image.
    const bottom = Math.min(rows.top + rows.height, height);
    this.#kept.get(output)!.push({ source, top: rows.top, bottom });
  }

  /** The logits of all rows of the image above this one are there. */
  complete(row: number): void {
    this.#complete = row;
  }

  /** The next band, if its rows are complete. What it returns must be stitched before its spent logits go. */
  next(): StitchBand | undefined {
    const { width, height } = this.#size;
    const row = this.#row;
    const end = Math.min(row + Math.max(1, Math.floor(bandPixels / width)), height);
    if (row === height || end > this.#complete) return undefined;
    const output = this.#outputs[this.#next]!;
    this.#next = (this.#next + 1) % this.#outputs.length;
    const last = this.#next === 0;
    if (last) this.#row = end;
    const refines = this.refines && output !== 'global';
    const box = refines ? this.#box : undefined;
    return {
      output,
      whole: this.#part(refines ? 'coarse' : output, row, end)!,
      fine: box && this.#part(output, Math.max(row, box.top), Math.min(end, box.top + box.height)),
      spent: [...this.#spend(output, end), ...(last ? this.#spend('coarse', end) : [])],
      last,
    };
  }

  #part(name: Output | 'coarse', row: number, end: number): StitchPart | undefined {
    if (row >= end) return undefined;
    const meeting = this.#kept.get(name)!.filter(({ top, bottom }) => top < end && bottom > row);
    return { row, rows: end - row, sources: meeting.map(({ source }) => source) };
  }

  /** Forgets what lies above a row. */
  #spend(name: Output | 'coarse', row: number): Tensor[] {
    const kept = this.#kept.get(name)!;
    this.#kept.set(
      name,
      kept.filter(({ bottom }) => bottom > row),
    );
    return kept.filter(({ bottom }) => bottom <= row).map(({ source }) => source.logits);
  }
}

import { detach } from '../binding';

/** Arrays to compute with, whose memory goes when it is told to: garbage that is not yet collected counts in a process's peak. */
export class Scratch {
  readonly #buffers = new Set<ArrayBuffer>();

  float32(length: number): Float32Array {
    return this.own(new Float32Array(length));
  }

  float64(length: number): Float64Array {
    return this.own(new Float64Array(length));
  }

  /** Takes an array over; its buffer must have nothing else. */
  own<T extends NodeJS.TypedArray>(array: T): T {
    this.#buffers.add(array.buffer as ArrayBuffer);
    return array;
  }

  /** All its arrays are empty afterwards. */
  free(): void {
    detach([...this.#buffers]);
    this.#buffers.clear();
  }
}

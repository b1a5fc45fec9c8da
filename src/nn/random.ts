/**
 * Random numbers that depend on a seed and a position alone: the counter-based generator Philox4x32-10 of Salmon,
 * Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). There is nothing to warm up, so
 * any position is reached at once, and a run is resumed from three numbers.
 */
import { createHash } from 'node:crypto';

import { GlnetError } from '../errors';

// In jest's realm a global is looked up slowly.
const { cos, floor, imul, log, PI, sqrt } = Math;

/** High half of the product of two unsigned 32-bit numbers. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + (middle >>> 16) + (carry >>> 16)) >>> 0;
}

/**
 * A block of Philox4x32-10.
 * @param counter four unsigned 32-bit words; replaced by the four random words of that counter
 * @param key0 low word of the key, unsigned 32 bits
 * @param key1 high word of the key, unsigned 32 bits
 */
export function philox(counter: Uint32Array, key0: number, key1: number): void {
  let x0 = counter[0]!;
  let x1 = counter[1]!;
  let x2 = counter[2]!;
  let x3 = counter[3]!;
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(0xd2511f53, x0);
    const high1 = multiplyHigh(0xcd9e8d57, x2);
    const low0 = imul(0xd2511f53, x0) >>> 0;
    const low1 = imul(0xcd9e8d57, x2) >>> 0;
    x0 = (high1 ^ x1 ^ key0) >>> 0;
    x1 = low1;
    x2 = (high0 ^ x3 ^ key1) >>> 0;
    x3 = low0;
    key0 = (key0 + 0x9e3779b9) >>> 0;
    key1 = (key1 + 0xbb67ae85) >>> 0;
  }
  counter[0] = x0;
  counter[1] = x1;
  counter[2] = x2;
  counter[3] = x3;
}

/** Where a {@link Random} stands, as JSON can hold it. */
export interface RandomState {
  readonly seed: number;
  readonly stream: number;
  /** 32-bit words drawn so far. */
  readonly counter: number;
}

/**
 * A stream of random numbers. Equal seeds, streams and counters give equal numbers, on every machine; different
 * streams of a seed are independent of each other.
 */
export class Random {
  readonly #seed: number;
  readonly #stream: number;
  #counter: number;
  readonly #block = new Uint32Array(4);

  /**
   * @param seed an integer from 0 to 2^53 - 1
   * @param stream which of the seed's sequences: an integer from 0 to 2^53 - 1, or any text
   * @param counter words to skip: an integer from 0 to 2^53 - 1
   * @throws GlnetError ERR_INVALID_ARGUMENT for a number out of range
   */
  constructor(seed: number, stream: number | string = 0, counter = 0) {
    this.#seed = checkCount('seed', seed);
    this.#stream = typeof stream === 'string' ? hash(stream) : checkCount('stream', stream);
    this.#counter = checkCount('counter', counter);
    if (this.#counter % 4 !== 0) this.#fill();
  }

  /** Continues where {@link Random.state} was read. */
  static from(state: RandomState): Random {
    return new Random(state.seed, state.stream, state.counter);
  }

  get state(): RandomState {
    return { seed: this.#seed, stream: this.#stream, counter: this.#counter };
  }

  /** An integer from 0 to 2^32 - 1, all equally likely. One word. */
  word(): number {
    const position = this.#counter % 4;
    if (position === 0) this.#fill();
    this.#counter++;
    return this.#block[position]!;
  }

  /** A number in [0, 1), a multiple of 2^-32. One word. */
  uniform(): number {
    return this.word() / 2 ** 32;
  }

  /**
   * An integer from 0 to `count - 1`, all equally likely. One word, rarely more.
   * @throws GlnetError ERR_INVALID_ARGUMENT unless `count` is an integer from 1 to 2^32
   */
  integer(count: number): number {
    if (!Number.isInteger(count) || count < 1 || count > 2 ** 32) {
      throw new GlnetError('ERR_INVALID_ARGUMENT', `count is ${count}; expected an integer from 1 to 2^32`);
    }
    // Words beyond the last whole multiple of `count` would make small results likelier.
    const limit = 2 ** 32 - (2 ** 32 % count);
    let word: number;
    do word = this.word();
    while (word >= limit);
    return word % count;
  }

  /** From the normal distribution with mean 0 and standard deviation 1 (Box and Muller, 1958). Two words. */
  normal(): number {
    const radius = sqrt(-2 * log((this.word() + 1) / 2 ** 32));
    return radius * cos(2 * PI * this.uniform());
  }

  /** Puts a list into random order, in place, all orders equally likely (Fisher and Yates). Returns the list. */
  shuffle<T>(list: T[]): T[] {
    for (let i = list.length - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      [list[i], list[j]] = [list[j]!, list[i]!];
    }
    return list;
  }

  #fill(): void {
    const index = floor(this.#counter / 4);
    this.#block[0] = index % 2 ** 32;
    this.#block[1] = floor(index / 2 ** 32);
    this.#block[2] = this.#stream % 2 ** 32;
    this.#block[3] = floor(this.#stream / 2 ** 32);
    philox(this.#block, this.#seed % 2 ** 32, floor(this.#seed / 2 ** 32));
  }
}

/** The stream of a text: the first 48 bits of its SHA-256. */
function hash(text: string): number {
  return createHash('sha256').update(text).digest().readUIntBE(0, 6);
}

function checkCount(name: string, value: number): number {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `${name} is ${value}; expected an integer from 0 to 2^53 - 1`,
    );
  }
  return value;
}

/** Scenes for training, read and decoded while the device computes on the ones before. */
import { availableParallelism } from 'node:os';
import { GlnetError } from '../errors';
import { Random } from '../nn/random';
import type { Window } from '../raster/raster';
import type { Sample } from './dataset';
import { openImage, openLabels } from './labels';
import { wholeOf } from './plane';

/** An image, or a square of one, to train on. Pixels and labels may be shared with other scenes: don't write to them. */
export interface Scene {
  /** The sample's. */
  readonly id: string;
  /** In pixels, of `pixels` and `labels` as they are. */
  readonly width: number;
  readonly height: number;
  /** Where the scene lies in the sample. */
  readonly left: number;
  readonly top: number;
  /** height * width * 3 bytes: RGB interleaved, row by row, not turned. */
  readonly pixels: Uint8Array;
  /** height * width class indices, 255 where a pixel is ignored, not turned. */
  readonly labels: Uint8Array;
  /** The flip and quarter turn under which the scene is to be trained on, 0 to 7, see native/ops/turn.h. */
  readonly turn: number;
}

export interface SceneBatch {
  /** Number of the batch, from 0. */
  readonly step: number;
  readonly scenes: readonly Scene[];
}

export interface SceneOptions {
  /** Scenes in a batch, at least 1. */
  readonly batch: number;
  /** An integer from 0: order, places and turns follow from it and from the number of the batch alone. */
  readonly seed: number;
  /**
   * What a scene is: a whole image, or a square of this many pixels a side at a random place inside it (an image that
   * is smaller along an axis is taken whole along that). Default: `image`.
   */
  readonly scene?: 'image' | number | undefined;
  /**
   * Whether scenes are flipped left to right with probability 1/2 and then, with probability 1/2, turned by one to
   * three quarters. Default: true.
   */
  readonly augment?: boolean | undefined;
  /** Batches that may be read ahead of the one in use, at least 1. Default: 2. */
  readonly prefetch?: number | undefined;
  /**
   * Decoded images that are kept for scenes to come, in bytes; the ones that were used longest ago go first. Larger
   * images are read anew for each scene: of a TIFF, only the square. Default: 1 GiB.
   */
  readonly cacheBytes?: number | undefined;
  /** Images read at a time. Default: one for each core, at most 8. */
  readonly parallel?: number | undefined;
}

/** A decoded sample, or only its size where it is too large to be kept. */
interface Decoded {
  readonly width: number;
  readonly height: number;
  readonly pixels?: Uint8Array;
  readonly labels?: Uint8Array;
}

/** Bytes of a pixel and its label. */
const pixelBytes = 4;

/**
 * Draws batches of scenes from labelled samples, of one data set or several. Each sample comes once in as many scenes
 * as there are samples, in another order each time; a batch may hold the end of one round and the start of the next.
 */
export class SceneLoader {
  readonly samples: readonly Sample[];
  readonly #options: Required<{ [K in keyof SceneOptions]: NonNullable<SceneOptions[K]> }>;
  /** By sample, the one used last at the end. */
  readonly #cache = new Map<Sample, { decoded: Promise<Decoded>; bytes: number }>();
  #cached = 0;
  /** Orders of the rounds that are being drawn from. */
  readonly #orders = new Map<number, readonly number[]>();
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  /** @throws {GlnetError} ERR_INVALID_ARGUMENT for no samples, samples without masks, and options out of range. */
  constructor(samples: readonly Sample[], options: SceneOptions) {
    const {
      scene = 'image',
      augment = true,
      prefetch = 2,
      cacheBytes = 2 ** 30,
      parallel = Math.min(8, availableParallelism()),
    } = options;
    this.samples = samples;
    this.#options = { ...options, scene, augment, prefetch, cacheBytes, parallel };
    const expect = (valid: boolean, name: string, value: unknown, expected: string): void => {
      if (!valid) throw new GlnetError('ERR_INVALID_ARGUMENT', `${name} is ${value}; expected ${expected}`);
    };
    const isCount = (value: number) => Number.isInteger(value) && value >= 1;
    expect(samples.length > 0, 'samples', 'an empty list', 'at least one labelled sample');
    const unlabelled = samples.find(({ mask }) => mask === undefined);
    expect(unlabelled === undefined, 'samples', `with ${unlabelled?.id}, which has no mask`, 'labelled ones');
    expect(isCount(options.batch), 'batch', options.batch, 'a whole number from 1');
    expect(
      Number.isSafeInteger(options.seed) && options.seed >= 0,
      'seed',
      options.seed,
      'a whole number from 0 to 2^53 - 1',
    );
    expect(scene === 'image' || isCount(scene), 'scene', scene, '"image", or the side of a square in pixels');
    expect(isCount(prefetch), 'prefetch', prefetch, 'a whole number of batches from 1');
    expect(cacheBytes >= 0, 'cacheBytes', cacheBytes, 'a number of bytes from 0');
    expect(isCount(parallel), 'parallel', parallel, 'a whole number from 1');
  }

  /**
   * Batches from number `from` on, up to but without `to`: the same as if it had been run from 0. While one is in use,
   * up to `prefetch` of the next are read. A loop that is left ends the reading.
   *
   * @throws {GlnetError} ERR_FILE or ERR_IMAGE for an image or mask that can't be read, by its name (see
   *   {@link openLabels}); ERR_INVALID_ARGUMENT for a number out of range.
   */
  async *batches(from = 0, to = Number.POSITIVE_INFINITY): AsyncGenerator<SceneBatch, void, undefined> {
    if (!Number.isSafeInteger(from) || from < 0) {
      throw new GlnetError('ERR_INVALID_ARGUMENT', `from is ${from}; expected the number of a batch, from 0`);
    }
    const queue: Promise<SceneBatch>[] = [];
    let next = from;
    const fill = () => {
      while (queue.length < this.#options.prefetch && next < to) {
        const batch = this.#load(next++);
        // Its error is thrown when it is its turn.
        batch.catch(() => {});
        queue.push(batch);
      }
    };
    try {
      for (fill(); queue.length > 0; ) {
        const batch = await queue[0]!;
        queue.shift();
        fill();
        yield batch;
      }
    } finally {
      next = to;
      await Promise.allSettled(queue);
    }
  }

  async #load(step: number): Promise<SceneBatch> {
    const { batch } = this.#options;
    const scenes = Array.from({ length: batch }, (_, i) => this.#scene(step * batch + i));
    return { step, scenes: await Promise.all(scenes) };
  }

  async #scene(item: number): Promise<Scene> {
    const { seed, scene, augment } = this.#options;
    const round = Math.floor(item / this.samples.length);
    const sample = this.samples[this.#order(round)[item % this.samples.length]!]!;
    const image = await this.#decoded(sample);
    const random = new Random(seed, `scene ${item}`);
    const side = scene === 'image' ? Number.POSITIVE_INFINITY : scene;
    const width = Math.min(side, image.width);
    const height = Math.min(side, image.height);
    const left = random.integer(image.width - width + 1);
    const top = random.integer(image.height - height + 1);
    const flip = random.integer(2) * 4;
    const quarters = random.integer(2) * (1 + random.integer(3));
    const window = { left, top, width, height };
    const { pixels, labels } = await this.#read(sample, image, window);
    return { id: sample.id, ...window, pixels, labels, turn: augment ? flip + quarters : 0 };
  }

  /** The order of the samples in a round. Rounds are drawn from one after the other. */
  #order(round: number): readonly number[] {
    let order = this.#orders.get(round);
    if (!order) {
      order = new Random(this.#options.seed, `round ${round}`).shuffle([...this.samples.keys()]);
      for (const old of this.#orders.keys()) if (Math.abs(old - round) > 1) this.#orders.delete(old);
      this.#orders.set(round, order);
    }
    return order;
  }

  async #read(
    sample: Sample,
    { width, height, pixels, labels }: Decoded,
    window: Window,
  ): Promise<{ pixels: Uint8Array; labels: Uint8Array }> {
    if (!pixels || !labels) return this.#limited(() => readSample(sample, () => window));
    if (window.width === width && window.height === height) return { pixels, labels };
    return { pixels: cut(pixels, 3, width, window), labels: cut(labels, 1, width, window) };
  }

  #decoded(sample: Sample): Promise<Decoded> {
    const known = this.#cache.get(sample);
    const entry = known ?? { decoded: this.#limited(() => this.#decode(sample)), bytes: 0 };
    this.#cache.delete(sample);
    this.#cache.set(sample, entry);
    if (!known) {
      entry.decoded.then(
        ({ pixels, labels }) => {
          entry.bytes = (pixels?.length ?? 0) + (labels?.length ?? 0);
          this.#cached += entry.bytes;
          for (const [oldest, { bytes }] of this.#cache) {
            if (this.#cached <= this.#options.cacheBytes) break;
            // What is being decoded has no bytes yet, and neither has what is only a size: both stay.
            if (bytes === 0) continue;
            this.#cached -= bytes;
            this.#cache.delete(oldest);
          }
        },
        () => this.#cache.delete(sample),
      );
    }
    return entry.decoded;
  }

  async #decode(sample: Sample): Promise<Decoded> {
    const { scene, cacheBytes } = this.#options;
    return readSample(sample, (size) => {
      const isKept = size.width * size.height * pixelBytes <= cacheBytes;
      return isKept || scene === 'image' ? wholeOf(size) : undefined;
    });
  }

  /** Works when fewer than `parallel` others do, in the order of the calls. */
  async #limited<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running >= this.#options.parallel) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else {
      this.#running++;
    }
    try {
      return await work();
    } finally {
      // The place goes to the next in line.
      const next = this.#waiting.shift();
      if (next) next();
      else this.#running--;
    }
  }
}

type Read<W> = W extends Window ? Required<Decoded> : Decoded;

/** Reads the window that `choose` wants of an image and its labels, or only their size if it wants none. */
async function readSample<W extends Window | undefined>(
  sample: Sample,
  choose: (size: { width: number; height: number }) => W,
): Promise<Read<W>> {
  const image = await openImage(sample);
  try {
    const { width, height } = image;
    const window = choose({ width, height });
    if (!window) return { width, height } as Read<W>;
    const labels = await openLabels(sample);
    try {
      if (labels.width !== width || labels.height !== height) {
        throw new GlnetError(
          'ERR_IMAGE',
          `${labels.path}: is ${labels.width}x${labels.height} pixels, but its image ${image.path} is ` +
            `${width}x${height}; expected one size`,
        );
      }
      const [pixels, indices] = await Promise.all([image.readWindow(window), labels.readWindow(window)]);
      return { width, height, pixels, labels: indices } as Read<W>;
    } finally {
      await labels.close();
    }
  } finally {
    await image.close();
  }
}

/** Cuts a window from interleaved values. */
function cut(values: Uint8Array, channels: number, width: number, window: Window): Uint8Array {
  const out = new Uint8Array(window.width * window.height * channels);
  const bytes = window.width * channels;
  for (let y = 0; y < window.height; y++) {
    const from = ((window.top + y) * width + window.left) * channels;
    out.set(values.subarray(from, from + bytes), y * bytes);
  }
  return out;
}

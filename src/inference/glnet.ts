/** The library's front door: a model that segments images. */
import {
  type ClassInfo,
  type Mode,
  type ModelConfig,
  type ModelFile,
  openModel,
} from '../checkpoint/model-file';
import { checkAborted, GlnetError } from '../errors';
import { processPeakBytes } from '../peak-memory';
import { openRaster, type Raster, type RasterOptions, type RasterSource } from '../raster/raster';
import { Device, type Memory } from '../tensor/device';
import { defaultCoarseToFine, type Refinement } from './coarse-to-fine';
import { chooseDevices, type DeviceName } from './devices';
import {
  choosePrecision,
  NetworkStore,
  type Precision,
  type PrecisionChoice,
  precisionChoices,
} from './networks';
import {
  type Band,
  type Output,
  outputsOf,
  type PredictOptions,
  type Progress,
  predict,
  type SegmentMode,
  type TimedStage,
} from './predict';
import { type ChromeTrace, Profile } from './profile';

export interface LoadOptions {
  /**
   * Default `cpu`. Patches of an image are spread over several devices: `cuda:all`, `cuda:0,1`. `auto` takes every
   * CUDA device, and where there is none the CPU; {@link GLNet.fallback} then says why.
   */
  device?: DeviceName;
  /** The most bytes that tensors may take on each device, weights included; default no limit. */
  memoryLimit?: number;
  /**
   * What convolutions store their weights and maps in; default `float32`. `bfloat16` takes half the memory, and half the
   * time where the device has units for it; `auto` takes it there. It changes some labels at the borders of classes.
   */
  precision?: PrecisionChoice;
  /** Threads that compute; default one for each core. */
  threads?: number;
  /**
   * Queue each batch of patches as one CUDA graph instead of kernel by kernel; default false. The results are the same. It may
   * save time of the host's where few patches are computed at a time; it has not been measured on a GPU. A graph takes
   * memory of the GPU beside the limit's. Other devices do not heed it.
   */
  cudaGraphs?: boolean;
}

export interface SegmentOptions {
  /** Default: the model's last, `bidirectional` before `global-to-local` before `global`. */
  mode?: SegmentMode;
  /** Of mode `coarse-to-fine`: how much the foreground's box is widened on each side, as a share of its longer side; default 0.1. */
  margin?: number;
  /** Default `ensemble`, or `global` in mode `global`. */
  output?: Output;
  /** Side of the patches in pixels, a multiple of 4; default the model's. */
  patch?: number;
  /** Side of the downsampled image in pixels, a multiple of 4; default the model's. */
  globalSize?: number;
  /**
   * The most patches at a time; default 2 on the CPU, and on other devices a row of patches, 12 at most. With a memory limit,
   * as many of these as fit.
   */
  batch?: number;
  /** The most devices to spread the patches over; those with the least to do are taken. Default all. */
  devices?: number;
  /** Average the scores over the eight flips and quarter turns of the image: eight times the work. */
  flipRotate?: boolean;
  /** How the image is read: bands, stretch of 16-bit values, limit of its size. */
  raster?: RasterOptions;
  /** Stops the work between two batches; the promise then rejects with ERR_ABORTED. */
  signal?: AbortSignal;
  onProgress?: (progress: Progress) => void;
}

/** As {@link SegmentOptions}, for an open raster and several outputs at once. */
export type BandOptions = Omit<SegmentOptions, 'output' | 'raster'> & { outputs: readonly Output[] };

/** What a run took. */
export interface SegmentReport {
  mode: Mode;
  outputs: readonly Output[];
  /** Wall-clock seconds by stage. What is written while patches are computed takes none of its own. */
  seconds: Record<TimedStage, number>;
  totalSeconds: number;
  /** Patches that the local branch saw; 0 in mode `global`. */
  patches: number;
  patchesPerSecond: number;
  /** Patches at a time. */
  batch: number;
  /** Of mode `coarse-to-fine`: what was computed at full resolution. */
  refinement?: Refinement;
  /** Names of the devices that computed, such as `cuda:0`. */
  devices: string[];
  /** As the ops compute them: of all calls, where they overlap. */
  multiplyAdds: number;
  /** The most bytes that tensors took at once on a device, weights included; of all calls, where they overlap. */
  poolPeakBytes: number;
  /**
   * What `poolPeakBytes` was planned to be before the first patch, where there is a memory limit: the same, but for images
   * of more than 256 batches of patches, and calls that overlap.
   */
  plannedPeakBytes?: number;
  /** The most memory that the process has had, so far in its life. */
  processPeakBytes: number;
}

export interface SegmentResult {
  width: number;
  height: number;
  /** Class indices, row by row: width · height. */
  labels: Uint8Array;
  /** 0 to 255: probability of the label under the mean of the patches' logits, row by row. */
  confidence: Uint8Array;
  classes: readonly ClassInfo[];
  report: SegmentReport;
}

function checkSide(name: string, value: number, least: number): void {
  if (!Number.isInteger(value) || value % 4 !== 0 || value < least || value > 65536) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `${name} is ${value}; expected a multiple of 4 from ${least} to 65536`,
    );
  }
}

/** A device with the networks on it, and how many calls use it. */
interface Worker {
  readonly store: NetworkStore;
  calls: number;
  /** Why nothing can be computed on it any more. */
  lost?: Error;
}

/** A device that has failed rejects whatever waits for it, for good. */
async function noteLoss(worker: Worker): Promise<void> {
  try {
    await worker.store.device.synchronize();
  } catch (error) {
    worker.lost ??= error as Error;
  }
}

/**
 * A GLNet model on one or more devices. Calls may overlap; they share the devices and take turns.
 *
 * ```ts
 * await using model = await GLNet.load('model.safetensors');
 * const { labels, width, height } = await model.segment('scene.tif');
 * ```
 */
export class GLNet {
  /** Why `device: 'auto'` computes on the CPU, where it does. */
  readonly fallback: string | undefined;
  readonly #file: ModelFile;
  readonly #workers: readonly Worker[];
  readonly #running = new Set<Promise<unknown>>();
  #profile: Profile | undefined;
  #disposed: Promise<void> | undefined;

  private constructor(file: ModelFile, stores: readonly NetworkStore[], fallback: string | undefined) {
    this.#file = file;
    this.#workers = stores.map((store) => ({ store, calls: 0 }));
    this.fallback = fallback;
  }

  /**
   * Opens a model file (see `glnet import`). Weights are read when they are needed, and read again later, so the file must
   * stay as it is until {@link dispose}: one that was changed fails the model with ERR_NATIVE.
   * @throws GlnetError ERR_FILE or ERR_CHECKPOINT for the file, ERR_INVALID_ARGUMENT for options, ERR_NATIVE if the
   *   device is not there.
   */
  static async load(path: string, options: LoadOptions = {}): Promise<GLNet> {
    const file = await openModel(path);
    const devices: Device[] = [];
    try {
      const { device = 'cpu', threads, memoryLimit, precision = 'float32', cudaGraphs } = options;
      if (!precisionChoices.includes(precision)) {
        throw new GlnetError(
          'ERR_INVALID_ARGUMENT',
          `precision is ${precision}; expected one of ${precisionChoices.join(', ')}`,
        );
      }
      const { kind, indices, fallback } = chooseDevices(device);
      for (const index of indices) {
        devices.push(
          new Device({
            kind,
            index,
            ...(threads !== undefined && { threads }),
            ...(memoryLimit !== undefined && { memoryLimit }),
            ...(cudaGraphs !== undefined && { cudaGraphs }),
          }),
        );
      }
      return new GLNet(
        file,
        devices.map((each) => new NetworkStore(file, each, choosePrecision(precision, kind))),
        fallback,
      );
    } catch (error) {
      for (const device of devices) device.dispose();
      await file.close();
      throw error;
    }
  }

  get config(): ModelConfig {
    return this.#file.config;
  }

  /** What it computes in. */
  get precision(): Precision {
    return this.#workers[0]!.store.precision;
  }

  /** The devices, with the bytes of their pools. */
  get devices(): { name: string; description: string; memory: Memory }[] {
    return this.#workers.map(({ store: { device } }) => ({
      name: device.name,
      description: device.description,
      memory: device.memory(),
    }));
  }

  /** Gives memory that the pools keep for the next call back to the system. Waits for what runs. */
  trim(): void {
    for (const { store } of this.#workers) store.device.trim();
  }

  /**
   * Segments an image of any size.
   * @param source a path, the bytes of an image file, or pixels
   * @throws GlnetError ERR_FILE or ERR_IMAGE for the image, ERR_INVALID_ARGUMENT for options, ERR_ABORTED,
   *   ERR_OUT_OF_MEMORY when not even one patch fits, ERR_DISPOSED, ERR_NATIVE when a device fails: it is not used
   *   again, see {@link GLNet.usable}.
   */
  segment(source: RasterSource, options: SegmentOptions = {}): Promise<SegmentResult> {
    return this.#whileAlive(async () => {
      checkAborted(options.signal);
      const raster = await openRaster(source, options.raster);
      try {
        const { width, height } = raster;
        const labels = new Uint8Array(width * height);
        const confidence = new Uint8Array(width * height);
        const output = options.output ?? outputsOf(this.#mode(options))[0]!;
        const whole = { labels, confidence };
        const report = await this.#segmentBands(raster, { ...options, outputs: [output] }, () => {}, whole);
        return { width, height, labels, confidence, classes: this.config.classes, report };
      } finally {
        await raster.close();
      }
    });
  }

  /**
   * Segments an open raster and hands the result over in bands of rows, from top to bottom, so that it need never be
   * in memory as a whole; bands of several outputs come in turn. Without flips and turns they come while patches further
   * down are computed, in mode `bidirectional` after the second global pass while their logits are completed; the work waits
   * where bands are not taken.
   * @param onBand is called again once its promise is resolved; after an error a call that has begun is waited for
   * @throws as {@link segment}, and what `onBand` throws
   */
  segmentBands(
    raster: Raster,
    options: BandOptions,
    onBand: (output: Output, band: Band) => void | Promise<void>,
  ): Promise<SegmentReport> {
    return this.#whileAlive(() => this.#segmentBands(raster, options, onBand));
  }

  /** Does some work that `dispose` waits for. */
  async #whileAlive<T>(work: () => Promise<T>): Promise<T> {
    if (this.#disposed) throw new GlnetError('ERR_DISPOSED', 'the model was disposed of');
    if (this.#running.size === 0) for (const { store } of this.#workers) store.device.resetPeak();
    const running = work();
    this.#running.add(running);
    try {
      return await running;
    } finally {
      this.#running.delete(running);
    }
  }

  async #segmentBands(
    raster: Raster,
    options: BandOptions,
    onBand: (output: Output, band: Band) => void | Promise<void>,
    whole?: PredictOptions['whole'],
  ): Promise<SegmentReport> {
    const start = performance.now();
    const mode = this.#mode(options);
    const { patch = this.config.patch, globalSize = this.config.global, batch } = options;
    const { margin = defaultCoarseToFine.margin } = options;
    checkSide('patch', patch, 52);
    if (!(margin >= 0 && margin <= 1)) {
      throw new GlnetError('ERR_INVALID_ARGUMENT', `margin is ${margin}; expected a share from 0 to 1`);
    }
    checkSide('globalSize', globalSize, 32);
    if (batch !== undefined && (!Number.isInteger(batch) || batch < 1)) {
      throw new GlnetError('ERR_INVALID_ARGUMENT', `batch is ${batch}; expected a whole number from 1`);
    }
    for (const output of options.outputs) {
      if (!outputsOf(mode).includes(output)) {
        throw new GlnetError(
          'ERR_INVALID_ARGUMENT',
          `output is ${output}; mode ${mode} has ${outputsOf(mode).join(', ')}`,
        );
      }
    }
    if (options.outputs.length === 0) throw new GlnetError('ERR_INVALID_ARGUMENT', 'outputs is empty');
    checkAborted(options.signal);
    const workers = this.#leastBusy(options.devices ?? this.#workers.length);
    for (const worker of workers) worker.calls += 1;
    const multiplyAdds = () => workers.reduce((sum, { store }) => sum + store.device.multiplyAdds(), 0);
    const before = multiplyAdds();
    try {
      const networks = await Promise.all(workers.map(({ store }) => store.get(mode, options.outputs)));
      const loaded = performance.now();
      this.#profile?.addStage('load', (loaded - start) / 1000);
      const report = await predict(networks, raster, {
        mode,
        outputs: options.outputs,
        patch,
        globalSize,
        batch,
        flipRotate: options.flipRotate ?? false,
        coarseToFine: options.mode === 'coarse-to-fine' ? { margin } : undefined,
        signal: options.signal,
        onProgress: options.onProgress,
        onStage: (stage, seconds) => this.#profile?.addStage(stage, seconds),
        whole,
        onBand,
      });
      report.seconds.load = (loaded - start) / 1000;
      const devices = workers.map(({ store }) => store.device);
      return {
        mode,
        outputs: options.outputs,
        ...report,
        totalSeconds: (performance.now() - start) / 1000,
        // A batch may run while the next window is read.
        patchesPerSecond: report.patches / (report.seconds.patches + report.seconds.read || 1),
        devices: devices.map((device) => device.name),
        multiplyAdds: multiplyAdds() - before,
        poolPeakBytes: Math.max(...devices.map((device) => device.memory().peak)),
        processPeakBytes: processPeakBytes(),
      };
    } catch (error) {
      await Promise.all(workers.map(noteLoss));
      throw error;
    } finally {
      for (const worker of workers) worker.calls -= 1;
    }
  }

  /**
   * Records every op and stage until the function that this returns is called, which gives a trace in the format of
   * Chrome's profiler. Meanwhile a GPU is waited for after each op, so that its time is its own.
   * @throws GlnetError ERR_INVALID_ARGUMENT if it records already; ERR_DISPOSED.
   */
  startProfile(): () => ChromeTrace {
    if (this.#disposed) throw new GlnetError('ERR_DISPOSED', 'the model was disposed of');
    if (this.#profile) throw new GlnetError('ERR_INVALID_ARGUMENT', 'a profile is being recorded already');
    const profile = new Profile(this.#workers.map(({ store }) => store.device));
    this.#profile = profile;
    return () => {
      this.#profile = undefined;
      return profile.stop();
    };
  }

  /** Whether there is a device left that has not failed. */
  get usable(): boolean {
    return this.#workers.some(({ lost }) => !lost);
  }

  #leastBusy(count: number): Worker[] {
    if (!Number.isInteger(count) || count < 1) {
      throw new GlnetError('ERR_INVALID_ARGUMENT', `devices is ${count}; expected a whole number from 1`);
    }
    if (!this.usable) throw this.#workers[0]!.lost!;
    const left = this.#workers.filter(({ lost }) => !lost);
    return left.sort((a, b) => a.calls - b.calls).slice(0, count);
  }

  /** Frees the weights and stops the devices, once running calls have ended. Idempotent. */
  dispose(): Promise<void> {
    this.#disposed ??= (async () => {
      await Promise.allSettled(this.#running);
      for (const { store } of this.#workers) {
        await store.dispose();
        store.device.dispose();
      }
      await this.#file.close();
    })();
    return this.#disposed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  #mode({ mode }: { mode?: SegmentMode }): Mode {
    const { modes } = this.config;
    if (mode === undefined) return modes.at(-1)!;
    if (mode === 'coarse-to-fine') {
      if (modes.length > 1) return modes.at(-1)!;
      throw new GlnetError(
        'ERR_INVALID_ARGUMENT',
        'mode is coarse-to-fine; this model has no local branch: it has the weights for global only',
      );
    }
    if (!modes.includes(mode)) {
      throw new GlnetError(
        'ERR_INVALID_ARGUMENT',
        `mode is ${mode}; this model has the weights for ${modes.join(', ')}`,
      );
    }
    return mode;
  }
}

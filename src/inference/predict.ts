/**
 * Prediction of a whole image: the global image, the global branch, the patches, and the
 * stitching of their logits, with no more than a window of the image and a few patches on the device at a time.
 */
import type { Mode } from '../checkpoint/model-file';
import { checkAborted, GlnetError } from '../errors';
import type { PyramidOutput } from '../models/fpn';
import { type Ensemble, Merger, shareMerged, shareWithPatches } from '../models/glnet';
import type { Raster, Window } from '../raster/raster';
import { decodePatches } from '../tensor/decode-patches';
import type { Device } from '../tensor/device';
import { type StitchSource, stitch } from '../tensor/stitch';
import type { Tensor } from '../tensor/tensor';
import { triangleResize } from '../tensor/triangle-resize';
import { type PatchGrid, patchGrid, patchRect } from '../tiling';
import type { Networks } from './networks';
import { allTurns, swapsSides, turnedWindow } from './turns';

/** Whose logits become the labels: both branches' aggregation, or one branch's alone. */
export type Output = 'ensemble' | 'local' | 'global';
export const allOutputs: readonly Output[] = ['ensemble', 'local', 'global'];

/** What takes the time. `read` includes decoding; `global` the making of the global image. */
export const timedStages = ['load', 'read', 'global', 'patches', 'stitch', 'write'] as const;
export type TimedStage = (typeof timedStages)[number];

export interface Progress {
  stage: TimedStage;
  /** Patches, or rows of the image, done and to do. */
  done: number;
  total: number;
}

/** Some rows of the result, over the whole width. */
export interface Band {
  /** First row. */
  row: number;
  rows: number;
  /** Class indices, row by row. */
  labels: Uint8Array;
  /** 0 to 255: probability of the label under the mean of the logits. */
  confidence: Uint8Array;
}

export interface PredictOptions {
  mode: Mode;
  /** Outputs wanted; only what they need is computed. */
  outputs: readonly Output[];
  /** Sides in pixels, multiples of 4. */
  patch: number;
  globalSize: number;
  /** The most patches at a time; halved when memory does not suffice. */
  batch: number;
  /** Average the scores of the eight flips and quarter turns. */
  flipRotate: boolean;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: Progress) => void) | undefined;
  /** Sees the logits that will be stitched; must not keep them. */
  onLogits?: ((output: Output, source: StitchSource) => void) | undefined;
  /** Receives the result from top to bottom, each output by itself. */
  onBand: (output: Output, band: Band) => void | Promise<void>;
}

export interface PredictReport {
  /** Wall-clock seconds by stage. */
  seconds: Record<TimedStage, number>;
  patches: number;
  /** Patches at a time in the end. */
  batch: number;
}

/** Bytes of the bands in which the image is read for the global image. */
const bandBytes = 8 << 20;
/** Rows of the bands in which the result is stitched. */
const stitchRows = 256;

/** The outputs that a mode can give. */
export function outputsOf(mode: Mode): readonly Output[] {
  return mode === 'global' ? ['global'] : allOutputs;
}

/**
 * @throws GlnetError ERR_ABORTED between patch batches once the signal is aborted; ERR_OUT_OF_MEMORY when not even
 * a single patch fits; what the raster throws. No tensor is left in any case.
 */
export async function predict(
  networks: Networks,
  device: Device,
  raster: Raster,
  options: PredictOptions,
): Promise<PredictReport> {
  const prediction = new Prediction(networks, device, raster, options);
  try {
    return await prediction.run();
  } finally {
    prediction.dispose();
  }
}

/** Logits of one batch of patches, and where they belong. */
interface BatchLogits {
  patches: readonly number[];
  logits: Tensor;
}

class Prediction {
  readonly #networks: Networks;
  readonly #device: Device;
  readonly #raster: Raster;
  readonly #options: PredictOptions;
  readonly #report: PredictReport;
  /** What must go when this ends, however it ends. */
  readonly #held = new Set<Tensor>();
  readonly #sources = new Map<Output, StitchSource[]>();
  #patchesToDo = 0;
  #clock = performance.now();

  constructor(networks: Networks, device: Device, raster: Raster, options: PredictOptions) {
    this.#networks = networks;
    this.#device = device;
    this.#raster = raster;
    this.#options = options;
    this.#report = {
      seconds: Object.fromEntries(timedStages.map((stage) => [stage, 0])) as Record<TimedStage, number>,
      patches: 0,
      batch: options.batch,
    };
    for (const output of options.outputs) this.#sources.set(output, []);
  }

  dispose(): void {
    for (const tensor of this.#held) tensor.dispose();
    this.#held.clear();
  }

  async run(): Promise<PredictReport> {
    const raster = this.#raster;
    const { flipRotate, patch } = this.#options;
    const turns = flipRotate ? allTurns : [0];
    const grids = turns.map((turn) =>
      swapsSides(turn)
        ? patchGrid(raster.height, raster.width, patch)
        : patchGrid(raster.width, raster.height, patch),
    );
    if (this.#wantsPatches) this.#patchesToDo = grids.reduce((sum, grid) => sum + grid.count, 0);

    const globalImage = await this.#readGlobalImage();
    for (const [i, turn] of turns.entries()) await this.#predictTurn(globalImage, turn, grids[i]!);
    this.#drop(globalImage);
    await this.#stitch();
    return this.#report;
  }

  get #wantsPatches(): boolean {
    const { mode, outputs } = this.#options;
    return (
      mode === 'bidirectional' ||
      (mode === 'global-to-local' && outputs.some((output) => output !== 'global'))
    );
  }

  /** Makes a tensor outlive the scope that it was made in, until it is dropped or this ends. */
  #hold<T extends Tensor>(tensor: T): T {
    this.#held.add(tensor);
    return tensor;
  }

  #drop(...tensors: Tensor[]): void {
    for (const tensor of tensors) {
      this.#held.delete(tensor);
      tensor.dispose();
    }
  }

  /** Adds the time since the last call to a stage. */
  #charge(stage: TimedStage): void {
    const now = performance.now();
    this.#report.seconds[stage] += (now - this.#clock) / 1000;
    this.#clock = now;
  }

  async #read(window: Window): Promise<Tensor> {
    checkAborted(this.#options.signal);
    const pixels = await this.#raster.readWindow(window);
    const tensor = this.#hold(this.#device.upload(pixels, [window.height, window.width, 3], 'uint8'));
    this.#charge('read');
    return tensor;
  }

  /** The whole image at the global branch's size, 8 bits. */
  async #readGlobalImage(): Promise<Tensor> {
    const { width, height } = this.#raster;
    const { globalSize, onProgress } = this.#options;
    const sum = this.#hold(this.#device.zeros([globalSize, globalSize, 3], 'int32'));
    const rows = Math.max(1, Math.floor(bandBytes / (3 * width)));
    let image: Tensor | undefined;
    for (let row = 0; row < height; row += rows) {
      const band = await this.#read({ left: 0, top: row, width, height: Math.min(rows, height - row) });
      if (image) this.#drop(image);
      image = this.#hold(triangleResize({ x: band, sum, row, imageHeight: height }));
      this.#drop(band);
      await this.#device.synchronize();
      this.#charge('global');
      onProgress?.({ stage: 'read', done: Math.min(row + rows, height), total: height });
    }
    this.#drop(sum);
    return image!;
  }

  async #predictTurn(globalImage: Tensor, turn: number, grid: PatchGrid): Promise<void> {
    const { mode, globalSize } = this.#options;
    const { global, globalExt, ensemble } = this.#networks;
    checkAborted(this.#options.signal);
    const image = decodePatches({
      x: globalImage,
      tops: [0],
      lefts: [0],
      height: globalSize,
      width: globalSize,
      turn,
    });
    this.#hold(image);
    const first = this.#holdOutput(global.forward(image));
    if (mode !== 'bidirectional' && this.#sources.has('global'))
      this.#keepGlobal(global.classify(first.ps3), turn);
    await this.#device.synchronize();
    this.#charge('global');

    const wantsEnsemble = this.#sources.has('ensemble');
    if (mode === 'global-to-local' && this.#wantsPatches) {
      await this.#forEachBatch(
        turn,
        grid,
        first,
        ({ ps3 }, patches) =>
          wantsEnsemble ? ensemble!.addGlobal(ensemble!.local(ps3), first.ps3, grid, patches) : undefined,
        (logits, patches) => this.#keep('ensemble', turn, grid, patches, logits),
      );
    } else if (mode === 'bidirectional') {
      const wantsMerged = wantsEnsemble || this.#sources.has('global');
      const merger = wantsMerged ? this.#holdMerger(grid, first) : undefined;
      const halves: BatchLogits[] = [];
      await this.#forEachBatch(
        turn,
        grid,
        first,
        ({ maps, ps3 }, patches) => {
          const half = wantsEnsemble ? ensemble!.local(ps3) : undefined;
          // Last, as it takes no memory: a batch that fails for want of it has not been merged.
          merger?.add(maps, patches);
          return half;
        },
        (logits, patches) => halves.push({ patches, logits: this.#hold(logits) }),
      );
      if (merger) {
        this.#dropOutput(first);
        const second = this.#holdOutput(globalExt!.forward(image, shareMerged(merger.maps)));
        if (this.#sources.has('global')) this.#keepGlobal(globalExt!.classify(second.ps3), turn);
        await this.#aggregate(ensemble!, halves, second.ps3, turn, grid);
        this.#dropOutput(second);
        this.#drop(...Object.values(merger.maps).flat());
      }
      await this.#device.synchronize();
      this.#charge('global');
    }
    this.#dropOutput(first);
    this.#drop(image);
  }

  /** Completes the ensemble's logits of each batch with the global branch's half. */
  async #aggregate(
    ensemble: Ensemble,
    halves: readonly BatchLogits[],
    ps3: Tensor,
    turn: number,
    grid: PatchGrid,
  ): Promise<void> {
    for (const { patches, logits } of halves) {
      checkAborted(this.#options.signal);
      const whole = this.#device.scope(() => ensemble.addGlobal(logits, ps3, grid, patches));
      this.#keep('ensemble', turn, grid, patches, whole);
      this.#drop(logits);
      await this.#device.synchronize();
    }
  }

  /**
   * Runs the local branch over all patches, row by row, a batch at a time.
   * @param ensembleOf what is wanted of a batch beside the local branch's own logits; must not change anything
   *   before its last step that can fail, as a batch may be tried again in parts
   */
  async #forEachBatch(
    turn: number,
    grid: PatchGrid,
    global: PyramidOutput,
    ensembleOf: (output: PyramidOutput, patches: readonly number[]) => Tensor | undefined,
    accept: (logits: Tensor, patches: readonly number[]) => void,
  ): Promise<void> {
    const local = this.#networks.local!;
    const { width, height } = this.#raster;
    const [turnedWidth, turnedHeight] = swapsSides(turn) ? [height, width] : [width, height];
    const columns = grid.columns.length;
    const queued: { count: number; done: Promise<void> }[] = [];
    const finishOldest = async () => {
      const { count, done } = queued.shift()!;
      await done;
      this.#report.patches += count;
      this.#charge('patches');
      this.#options.onProgress?.({ stage: 'patches', done: this.#report.patches, total: this.#patchesToDo });
    };
    for (const [i, top] of grid.rows.entries()) {
      const rows = Math.min(grid.patch, turnedHeight - top);
      const rectangle = { left: 0, top, width: turnedWidth, height: rows };
      const window = await this.#read(turnedWindow(turn, width, height, rectangle));
      for (let column = 0; column < columns; ) {
        checkAborted(this.#options.signal);
        const patches = Array.from(
          { length: Math.min(this.#report.batch, columns - column) },
          (_, k) => i * columns + column + k,
        );
        let logits: { local: Tensor | undefined; ensemble: Tensor | undefined };
        try {
          logits = this.#device.scope(() => {
            const x = decodePatches({
              x: window,
              tops: patches.map(() => 0),
              lefts: patches.map((patch) => patchRect(grid, patch).left),
              height: grid.patch,
              width: grid.patch,
              turn,
            });
            const output = local.forward(x, shareWithPatches(global.maps, grid, patches));
            x.dispose();
            return {
              local: this.#sources.has('local') ? local.classify(output.ps3) : undefined,
              ensemble: ensembleOf(output, patches),
            };
          });
        } catch (error) {
          if (!(error instanceof GlnetError && error.code === 'ERR_OUT_OF_MEMORY') || patches.length === 1)
            throw error;
          this.#report.batch = Math.ceil(patches.length / 2);
          await this.#device.synchronize();
          continue;
        }
        if (logits.local) this.#keep('local', turn, grid, patches, logits.local);
        if (logits.ensemble) accept(logits.ensemble, patches);
        column += patches.length;
        queued.push({ count: patches.length, done: this.#device.synchronize() });
        // Awaited later, and lost if this stops before: not an unhandled rejection then.
        queued.at(-1)!.done.catch(() => {});
        // One batch is queued while another runs, so that the device need not wait for JavaScript.
        if (queued.length > 1) await finishOldest();
      }
      this.#drop(window);
    }
    while (queued.length > 0) await finishOldest();
  }

  #keep(output: Output, turn: number, grid: PatchGrid, patches: readonly number[], logits: Tensor): void {
    const rectangles = patches.map((patch) => patchRect(grid, patch));
    this.#keepSource(output, {
      logits,
      tops: rectangles.map(({ top }) => top),
      lefts: rectangles.map(({ left }) => left),
      height: grid.patch,
      width: grid.patch,
      turn,
    });
  }

  /** Keeps the global branch's own logits, as one patch that covers the image. */
  #keepGlobal(logits: Tensor, turn: number): void {
    const { width, height } = this.#raster;
    const [w, h] = swapsSides(turn) ? [height, width] : [width, height];
    this.#keepSource('global', { logits, tops: [0], lefts: [0], height: h, width: w, turn });
  }

  #keepSource(output: Output, source: StitchSource): void {
    this.#hold(source.logits);
    this.#sources.get(output)!.push(source);
    this.#options.onLogits?.(output, source);
  }

  async #stitch(): Promise<void> {
    const { width, height } = this.#raster;
    for (const [output, sources] of this.#sources) {
      for (let row = 0; row < height; row += stitchRows) {
        checkAborted(this.#options.signal);
        const rows = Math.min(stitchRows, height - row);
        const band = this.#device.scope(() =>
          stitch({ sources, imageHeight: height, imageWidth: width, row, rows }),
        );
        this.#hold(band.labels);
        this.#hold(band.confidence);
        const [labels, confidence] = (await Promise.all([band.labels.data(), band.confidence.data()])) as [
          Uint8Array,
          Uint8Array,
        ];
        this.#drop(band.labels, band.confidence);
        this.#charge('stitch');
        await this.#options.onBand(output, { row, rows, labels, confidence });
        this.#charge('write');
        this.#options.onProgress?.({ stage: 'stitch', done: row + rows, total: height });
      }
      this.#drop(...sources.map(({ logits }) => logits));
    }
  }

  #holdMerger(grid: PatchGrid, { maps: like }: PyramidOutput): Merger {
    const { merger, maps } = this.#device.scope(() => {
      const made = new Merger(grid, like);
      return { merger: made, maps: made.maps };
    });
    for (const map of Object.values(maps).flat()) this.#hold(map);
    return merger;
  }

  #holdOutput(output: PyramidOutput): PyramidOutput {
    for (const tensor of tensorsOf(output)) this.#hold(tensor);
    return output;
  }

  #dropOutput(output: PyramidOutput): void {
    this.#drop(...tensorsOf(output));
  }
}

function tensorsOf({ maps, ps3 }: PyramidOutput): Tensor[] {
  return [...Object.values(maps).flat(), ps3];
}

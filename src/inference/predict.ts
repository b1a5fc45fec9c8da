/**
 * Prediction of a whole image: the global image, the global branch, the patches, and the
 * stitching of their logits, with no more than a window of the image and a few patches on the device at a time.
 */
import { allModes, type Mode } from '../checkpoint/model-file';
import { checkAborted, GlnetError } from '../errors';
import { type BranchMaps, type PyramidOutput, type Stage, stages } from '../models/fpn';
import { type Ensemble, Merger, shareMerged } from '../models/glnet';
import type { Raster, Window } from '../raster/raster';
import { argmax } from '../tensor/argmax';
import { cast } from '../tensor/cast';
import type { Device } from '../tensor/device';
import { type StitchSource, stitch } from '../tensor/stitch';
import type { Tensor } from '../tensor/tensor';
import { triangleResize } from '../tensor/triangle-resize';
import { boxGrid, type PatchGrid, patchGrid } from '../tiling';
import { type CoarseToFine, foregroundBox, type Refinement, refinedBox } from './coarse-to-fine';
import { type BranchName, localOutputs, type Networks } from './networks';
import { rehearse, type Situation } from './rehearsal';
import {
  type BatchLogits,
  halfMerged,
  manyPatches,
  patchesFrom,
  patchSource,
  rowWindow,
  runBatch,
  type Site,
  stitchRows,
  tensorsOf,
  turnedGlobalImage,
  turnedSize,
  wholeSource,
} from './steps';
import { allTurns, windowInTurned } from './turns';

/** Whose logits become the labels: both branches' aggregation, or one branch's alone. */
export type Output = 'ensemble' | 'local' | 'global';
export const allOutputs: readonly Output[] = ['ensemble', 'local', 'global'];

/**
 * What is computed: a {@link Mode}, or the model's last one coarse to fine: patches only where the global branch sees
 * foreground, which is every class but the first.
 */
export type SegmentMode = Mode | 'coarse-to-fine';
export const segmentModes: readonly SegmentMode[] = [...allModes, 'coarse-to-fine'];

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
  /**
   * The most patches at a time; fewer where that does not fit a limit of the memory. Default 2 on the CPU, and on other
   * devices a row of patches, 12 at most.
   */
  batch?: number | undefined;
  /** Average the scores of the eight flips and quarter turns. */
  flipRotate: boolean;
  /** Lay patches only where the global branch sees foreground. */
  coarseToFine?: CoarseToFine | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: Progress) => void) | undefined;
  /** Learns of each time that is charged to a stage, at its end. */
  onStage?: ((stage: TimedStage, seconds: number) => void) | undefined;
  /** Sees the logits that will be stitched; must not keep them. */
  onLogits?: ((output: Output, source: StitchSource) => void) | undefined;
  /** Where the bands of a single output are put together: width · height each. Without it each has memory of its own. */
  whole?: { labels: Uint8Array<ArrayBuffer>; confidence: Uint8Array<ArrayBuffer> } | undefined;
  /** Receives the result from top to bottom, each output by itself. */
  onBand: (output: Output, band: Band) => void | Promise<void>;
}

export interface PredictReport {
  /** Wall-clock seconds by stage. */
  seconds: Record<TimedStage, number>;
  patches: number;
  /** Patches at a time in the end. */
  batch: number;
  /**
   * What `Memory.peak` was planned to become, of the device where it is largest: where there is a limit, and patches are
   * computed. Exact, but for images of more than 256 batches, coarse to fine, and calls that overlap.
   */
  plannedPeakBytes?: number;
  /** Of coarse-to-fine segmentation. */
  refinement?: Refinement;
}

/** What work ends with when another device has failed. */
const stopped = new Error('another device failed');

/** Bytes of the bands in which the image is read for the global image. */
const bandBytes = 8 << 20;
/** Patches at a time by default. More of them are no faster on a CPU, whose caches they leave; a GPU they fill. */
const defaultBatch = { cpu: 2, others: 12 };

/** The outputs that a mode can give. */
export function outputsOf(mode: SegmentMode): readonly Output[] {
  return mode === 'global' ? ['global'] : allOutputs;
}

/**
 * @param networks of the mode, one for each device to spread patches over; the first does what is not divided
 * @throws GlnetError ERR_ABORTED between patch batches once the signal is aborted; ERR_OUT_OF_MEMORY when not even
 * a single patch fits; what the raster throws. No tensor is left in any case.
 */
export async function predict(
  networks: readonly Networks[],
  raster: Raster,
  options: PredictOptions,
): Promise<PredictReport> {
  const prediction = new Prediction(networks, raster, options);
  try {
    return await prediction.run();
  } finally {
    prediction.dispose();
  }
}

class Prediction {
  readonly #networks: readonly Networks[];
  /** The first device's: it does what is not divided. */
  readonly #main: Networks;
  readonly #raster: Raster;
  readonly #options: PredictOptions;
  readonly #report: PredictReport;
  /** What must go when this ends, however it ends. */
  readonly #held = new Set<Tensor>();
  readonly #sources = new Map<Output, StitchSource[]>();
  /** The global branch's logits, for what lies outside the refined box. */
  readonly #coarse: StitchSource[] = [];
  /** The last batch of each device. */
  readonly #inFlight = new Map<Device, Promise<void>>();
  #patchesToDo = 0;
  #clock = performance.now();

  constructor(networks: readonly Networks[], raster: Raster, options: PredictOptions) {
    this.#networks = networks;
    this.#main = networks[0]!;
    this.#raster = raster;
    this.#options = options;
    this.#report = {
      seconds: Object.fromEntries(timedStages.map((stage) => [stage, 0])) as Record<TimedStage, number>,
      patches: 0,
      batch: options.batch ?? (this.#main.device.kind === 'cpu' ? defaultBatch.cpu : defaultBatch.others),
    };
    for (const output of options.outputs) this.#sources.set(output, []);
  }

  dispose(): void {
    for (const tensor of this.#held) tensor.dispose();
    this.#held.clear();
  }

  async run(): Promise<PredictReport> {
    const turns = this.#options.flipRotate ? allTurns : [0];
    const globalImage = await this.#readGlobalImage();
    for (const turn of turns) await this.#predictTurn(globalImage, turn, turns);
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
    const seconds = (now - this.#clock) / 1000;
    this.#report.seconds[stage] += seconds;
    this.#clock = now;
    this.#options.onStage?.(stage, seconds);
  }

  async #read(window: Window, device: Device): Promise<Tensor> {
    checkAborted(this.#options.signal);
    const pixels = await this.#raster.readWindow(window);
    const tensor = this.#hold(device.upload(pixels, [window.height, window.width, 3], 'uint8'));
    this.#charge('read');
    return tensor;
  }

  /** The whole image at the global branch's size, 8 bits. */
  async #readGlobalImage(): Promise<Tensor> {
    const { width, height } = this.#raster;
    const { globalSize, onProgress } = this.#options;
    const { device } = this.#main;
    const sum = this.#hold(device.zeros([globalSize, globalSize, 3], 'int32'));
    const rows = Math.max(1, Math.floor(bandBytes / (3 * width)));
    let image: Tensor | undefined;
    for (let row = 0; row < height; row += rows) {
      const band = await this.#read(
        { left: 0, top: row, width, height: Math.min(rows, height - row) },
        device,
      );
      if (image) this.#drop(image);
      image = this.#hold(triangleResize({ x: band, sum, row, imageHeight: height }));
      this.#drop(band);
      await device.synchronize();
      this.#charge('global');
      onProgress?.({ stage: 'read', done: Math.min(row + rows, height), total: height });
    }
    this.#drop(sum);
    return image!;
  }

  /** The patches of a turned image; undefined if there is nothing to refine. */
  #gridOf(turn: number): PatchGrid | undefined {
    const { width, height } = this.#raster;
    const { patch, coarseToFine } = this.#options;
    const [w, h] = turnedSize(this.#raster, turn);
    if (!coarseToFine) return patchGrid(w, h, patch);
    const box = this.#report.refinement?.box;
    return box && boxGrid(w, h, patch, windowInTurned(turn, width, height, box));
  }

  /** Finds what there is to refine, by the global branch's labels of the unturned image. */
  async #findForeground(logits: Tensor): Promise<void> {
    const { width, height } = this.#raster;
    const { patch, coarseToFine } = this.#options;
    const [, rows, columns] = logits.shape as [number, number, number];
    using labels = argmax(logits);
    const found = foregroundBox((await labels.data()) as Uint8Array, columns, rows);
    const box = found && refinedBox(found, [columns, rows], [width, height], coarseToFine!);
    this.#report.refinement = {
      box,
      share: box ? (box.width * box.height) / (width * height) : 0,
      patches: box ? boxGrid(width, height, patch, box).count : 0,
      allPatches: patchGrid(width, height, patch).count,
    };
  }

  async #predictTurn(globalImage: Tensor, turn: number, turns: readonly number[]): Promise<void> {
    const { mode } = this.#options;
    const { device, global } = this.#main;
    checkAborted(this.#options.signal);
    const image = this.#hold(turnedGlobalImage(this.#main, globalImage, turn));
    const first = this.#holdOutput(global.forward(image));
    if (mode !== 'bidirectional' && this.#sources.has('global'))
      this.#keepGlobal('global', global.classify(first.ps3), turn);
    if (this.#options.coarseToFine) {
      const coarse = this.#hold(global.classify(first.ps3));
      if (turn === 0) await this.#findForeground(coarse);
      this.#keepGlobal('coarse', coarse, turn);
    }
    await device.synchronize();
    this.#charge('global');
    const grid = this.#gridOf(turn);
    if (turn === 0 && this.#wantsPatches) {
      this.#patchesToDo = turns.reduce((sum, each) => sum + (this.#gridOf(each)?.count ?? 0), 0);
    }
    if (grid) {
      const plan = (sites: readonly Site[]): void => {
        // Later turns were planned with the first.
        if (turn === turns[0]) this.#chooseBatch(globalImage, image, turns, sites);
      };
      await this.#predictPatches(image, first, turn, grid, plan);
    } else if (mode === 'bidirectional' && this.#sources.has('global')) {
      this.#keepGlobal('global', global.classify(first.ps3), turn);
    }
    this.#dropOutput(first);
    this.#drop(image);
  }

  /**
   * Finds the most patches at a time with which the rest of the image fits the limits of all devices.
   * @throws GlnetError ERR_OUT_OF_MEMORY if there is none, with what one would need.
   */
  #chooseBatch(globalImage: Tensor, image: Tensor, turns: readonly number[], sites: readonly Site[]): void {
    const report = this.#report;
    const columns = Math.max(...turns.map((turn) => this.#gridOf(turn)!.columns.length));
    if (this.#options.batch === undefined) report.batch = Math.min(report.batch, columns);
    const box = report.refinement?.box;
    const situation: Situation = {
      mode: this.#options.mode,
      size: this.#raster,
      turns,
      gridOf: (turn) => this.#gridOf(turn)!,
      sites,
      globalImage,
      image,
      sources: this.#sources,
      coarse: box && { sources: this.#coarse, box },
    };
    const limits = sites.map(({ networks }) => networks.device.memory());
    const limited = [...limits.keys()].filter((place) => limits[place]!.limit > 0);
    if (limited.length === 0) return;
    /** The peak if all fits. */
    const peakOf = (batch: number): number | undefined => {
      let most = 0;
      for (const place of limited) {
        const { limit, peak } = limits[place]!;
        const plan = rehearse(situation, place, batch, limit);
        if (plan.reserved > limit) return undefined;
        most = Math.max(most, peak, plan.peak);
      }
      return most;
    };
    const widest = Math.min(report.batch, columns);
    let peak = peakOf(widest);
    if (peak === undefined) {
      let [fits, above] = [0, widest];
      while (above - fits > 1) {
        const batch = (fits + above) >> 1;
        const found = peakOf(batch);
        if (found === undefined) {
          above = batch;
        } else {
          fits = batch;
          peak = found;
        }
      }
      if (fits === 0) throw this.#noRoom(situation, limited);
      report.batch = fits;
    }
    report.plannedPeakBytes = peak!;
  }

  /** What one patch at a time would need, where that does not fit. */
  #noRoom(situation: Situation, limited: readonly number[]): GlnetError {
    const need = (place: number): number => {
      const { device } = situation.sites[place]!.networks;
      let { limit } = device.memory();
      // Where blocks come to lie may depend on the limit, so what is asked for under one is tried as another.
      for (let attempt = 0; attempt < 4; attempt++) {
        const { reserved } = rehearse(situation, place, 1, limit);
        if (reserved <= limit) return limit;
        limit = reserved;
      }
      return rehearse(situation, place, 1, 0).reserved;
    };
    const needed = Math.max(...limited.map(need));
    const { limit } = situation.sites[limited[0]!]!.networks.device.memory();
    const narrower = this.#main.precision === 'float32' ? ', or --precision bfloat16' : '';
    return new GlnetError(
      'ERR_OUT_OF_MEMORY',
      `one patch at a time needs ${needed} bytes in all, and the memory limit is ${limit} bytes. Raise it ` +
        `(--memory-limit, memoryLimit), or take a smaller --patch${narrower}`,
    );
  }

  /**
   * @param first the global branch's output; dropped early where it is needed no more
   * @param plan is called when nothing is missing but the patches
   */
  async #predictPatches(
    image: Tensor,
    first: PyramidOutput,
    turn: number,
    grid: PatchGrid,
    plan: (sites: readonly Site[]) => void,
  ): Promise<void> {
    const { mode } = this.#options;
    const { device, globalExt, ensemble } = this.#main;
    const wantsEnsemble = this.#sources.has('ensemble');
    const unload = (branch: BranchName): void => {
      if (grid.count >= manyPatches) this.#main.unload?.(branch);
    };
    unload('global');
    if (mode === 'global-to-local' && this.#wantsPatches) {
      const sites = await this.#openSites(first, grid, false);
      plan(sites);
      const logits = await this.#forEachRow(turn, grid, sites);
      for (const batch of logits) this.#keep('ensemble', turn, grid, batch);
      this.#closeSites(sites);
    } else if (mode === 'bidirectional') {
      const wantsMerged = wantsEnsemble || this.#sources.has('global');
      const sites = await this.#openSites(first, grid, wantsMerged);
      plan(sites);
      const halves = await this.#forEachRow(turn, grid, sites);
      const merged = wantsMerged ? await this.#joinMerged(sites) : undefined;
      this.#closeSites(sites);
      if (merged) {
        this.#dropOutput(first);
        unload('local');
        const second = this.#holdOutput(globalExt!.forward(image, shareMerged(merged)));
        if (this.#sources.has('global')) this.#keepGlobal('global', globalExt!.classify(second.ps3), turn);
        await this.#aggregate(ensemble!, halves, second.ps3, turn, grid);
        this.#dropOutput(second);
        this.#drop(...Object.values(merged).flat());
        unload('globalExt');
      }
      await device.synchronize();
      this.#charge('global');
    }
  }

  /** Brings the global branch's maps to every device. */
  async #openSites(first: PyramidOutput, grid: PatchGrid, merges: boolean): Promise<Site[]> {
    const sites: Site[] = [];
    for (const networks of this.#networks) {
      const own = networks === this.#main ? first : await this.#copyOutput(first, networks.device);
      sites.push({ networks, first: own, merger: merges ? this.#holdMerger(grid, own) : undefined });
    }
    return sites;
  }

  /** Drops what only the other devices needed. */
  #closeSites(sites: readonly Site[]): void {
    for (const { first } of sites.slice(1)) this.#dropOutput(first);
  }

  /** The merged maps of all devices, on the first, in the precision of its networks. */
  async #joinMerged(sites: readonly Site[]): Promise<BranchMaps> {
    const { device, precision } = this.#main;
    const merger = sites[0]!.merger!;
    for (const { merger: other } of sites.slice(1)) {
      const sums = await mapTensors(other!.maps, async (sum) => {
        const copy = this.#hold(await sum.to(device));
        this.#drop(sum);
        return copy;
      });
      merger.join(sums);
      this.#drop(...Object.values(sums).flat());
    }
    merger.finish();
    if (precision === 'float32') return merger.maps;
    return mapTensors(merger.maps, async (map) => {
      const narrow = this.#hold(cast(map, precision));
      this.#drop(map);
      return narrow;
    });
  }

  /** Completes the ensemble's logits of each batch with the global branch's half. */
  async #aggregate(
    ensemble: Ensemble,
    halves: readonly BatchLogits[],
    ps3: Tensor,
    turn: number,
    grid: PatchGrid,
  ): Promise<void> {
    const { device } = this.#main;
    for (const { patches, logits } of halves) {
      checkAborted(this.#options.signal);
      const whole = device.scope(() => ensemble.addGlobal(logits, ps3, grid, patches));
      this.#keep('ensemble', turn, grid, { patches, logits: whole });
      this.#drop(logits);
      await device.synchronize();
    }
  }

  /**
   * Runs the local branch over all patches, a batch at a time; rows of patches go to the devices in turn.
   * @returns the ensemble's logits, or the local branch's part of them, on the first device, held, in the grid's order
   */
  async #forEachRow(turn: number, grid: PatchGrid, sites: readonly Site[]): Promise<BatchLogits[]> {
    const local: BatchLogits[] = [];
    const ensemble: BatchLogits[] = [];
    const failed = new AbortController();
    const work = sites.map(async (site, i) => {
      try {
        for (let row = i; row < grid.rows.length; row += sites.length) {
          for await (const batch of this.#runRow(site, turn, grid, row, failed.signal)) {
            if (batch.local) local.push({ patches: batch.patches, logits: batch.local });
            if (batch.ensemble) ensemble.push({ patches: batch.patches, logits: batch.ensemble });
          }
        }
        await site.networks.device.synchronize();
      } catch (error) {
        // Not one device goes on while what it works on is taken away.
        failed.abort();
        throw error;
      }
    });
    const ends = await Promise.allSettled(work);
    const reasons = ends.flatMap((end) => (end.status === 'rejected' ? [end.reason as unknown] : []));
    // Those that stopped for another's sake have nothing to tell.
    if (reasons.length > 0) throw reasons.find((reason) => reason !== stopped) ?? reasons[0];

    const inOrder = async (batches: BatchLogits[]): Promise<BatchLogits[]> => {
      batches.sort((a, b) => a.patches[0]! - b.patches[0]!);
      for (const batch of batches) batch.logits = await this.#bringToMain(batch.logits);
      return batches;
    };
    for (const batch of await inOrder(local)) this.#keep('local', turn, grid, batch);
    return inOrder(ensemble);
  }

  async #bringToMain(tensor: Tensor): Promise<Tensor> {
    const { device } = this.#main;
    if (tensor.device === device) return tensor;
    const copy = this.#hold(await tensor.to(device));
    this.#drop(tensor);
    return copy;
  }

  /** One row of patches on one device: yields the logits of each batch, held, once it is queued. */
  async *#runRow(
    site: Site,
    turn: number,
    grid: PatchGrid,
    row: number,
    failed: AbortSignal,
  ): AsyncGenerator<{ patches: number[]; local?: Tensor; ensemble?: Tensor }> {
    const { device } = site.networks;
    const { mode } = this.#options;
    const wanted = localOutputs.filter((output) => this.#sources.has(output));
    const columns = grid.columns.length;
    const window = await this.#read(rowWindow(this.#raster, turn, grid, row), device);
    for (let column = 0; column < columns; ) {
      checkAborted(this.#options.signal);
      if (failed.aborted) throw stopped;
      const patches = patchesFrom(grid, row, column, this.#report.batch);
      let logits: { local?: Tensor; ensemble?: Tensor };
      try {
        logits = runBatch(site, window, { mode, turn, grid, patches, wanted });
      } catch (error) {
        const again =
          error instanceof GlnetError && error.code === 'ERR_OUT_OF_MEMORY' && error.cause !== halfMerged;
        if (!again || patches.length === 1) throw error;
        this.#report.batch = Math.ceil(patches.length / 2);
        await device.synchronize();
        continue;
      }
      if (logits.local) this.#hold(logits.local);
      if (logits.ensemble) this.#hold(logits.ensemble);
      column += patches.length;
      if (column === columns) this.#drop(window);
      await this.#queued(device, patches.length, failed);
      yield { patches, ...logits };
    }
  }

  /** Notes that a batch was queued, and waits for the one before: the device need not wait for JavaScript. */
  async #queued(device: Device, patches: number, failed: AbortSignal): Promise<void> {
    const before = this.#inFlight.get(device);
    const done = device.synchronize().then(() => {
      // Nobody hears of progress after the end.
      if (failed.aborted) return;
      this.#report.patches += patches;
      this.#charge('patches');
      this.#options.onProgress?.({ stage: 'patches', done: this.#report.patches, total: this.#patchesToDo });
    });
    // Awaited later, and lost if this stops before: not an unhandled rejection then.
    done.catch(() => {});
    this.#inFlight.set(device, done);
    await before;
  }

  #keep(output: Output, turn: number, grid: PatchGrid, batch: BatchLogits): void {
    this.#keepSource(output, patchSource(turn, grid, batch));
  }

  /** Keeps the global branch's own logits. */
  #keepGlobal(output: 'global' | 'coarse', logits: Tensor, turn: number): void {
    this.#keepSource(output, wholeSource(this.#raster, turn, logits));
  }

  #keepSource(output: Output | 'coarse', source: StitchSource): void {
    this.#hold(source.logits);
    if (output === 'coarse') {
      this.#coarse.push(source);
    } else {
      this.#sources.get(output)!.push(source);
      this.#options.onLogits?.(output, source);
    }
  }

  async #stitch(): Promise<void> {
    const { width, height } = this.#raster;
    const bandRows = stitchRows(width);
    for (const [output, sources] of this.#sources) {
      const stitchAt = (row: number): Promise<Band> => {
        checkAborted(this.#options.signal);
        const rows = Math.min(bandRows, height - row);
        const band =
          this.#options.coarseToFine && output !== 'global'
            ? this.#stitchRefined(sources, row, rows)
            : this.#stitchBand(sources, row, rows, this.#options.whole);
        // Awaited later, and lost if this stops before: not an unhandled rejection then.
        band.catch(() => {});
        return band;
      };
      // While a band is handed over, the device makes the next.
      let next = stitchAt(0);
      for (let row = 0; row < height; row += bandRows) {
        const band = await next;
        if (row + bandRows < height) next = stitchAt(row + bandRows);
        this.#charge('stitch');
        await this.#options.onBand(output, band);
        this.#charge('write');
        this.#options.onProgress?.({ stage: 'stitch', done: row + band.rows, total: height });
      }
      this.#drop(...sources.map(({ logits }) => logits));
    }
    this.#drop(...this.#coarse.map(({ logits }) => logits));
  }

  async #stitchBand(
    sources: readonly StitchSource[],
    row: number,
    rows: number,
    whole?: PredictOptions['whole'],
  ): Promise<Band> {
    const { width, height } = this.#raster;
    const band = this.#main.device.scope(() =>
      stitch({ sources, imageHeight: height, imageWidth: width, row, rows }),
    );
    this.#hold(band.labels);
    this.#hold(band.confidence);
    const take = (from: Tensor, to: Uint8Array<ArrayBuffer> | undefined): Promise<Uint8Array> =>
      from.data(to?.subarray(row * width, (row + rows) * width)) as Promise<Uint8Array>;
    const [labels, confidence] = await Promise.all([
      take(band.labels, whole?.labels),
      take(band.confidence, whole?.confidence),
    ]);
    this.#drop(band.labels, band.confidence);
    return { row, rows, labels, confidence };
  }

  /** The patches' labels inside the refined box; outside background, as sure as the global branch is of it. */
  async #stitchRefined(sources: readonly StitchSource[], row: number, rows: number): Promise<Band> {
    const band = await this.#stitchBand(this.#coarse, row, rows, this.#options.whole);
    band.labels.fill(0);
    const box = this.#report.refinement?.box;
    const from = Math.max(box?.top ?? 0, row);
    const to = box ? Math.min(box.top + box.height, row + rows) : from;
    if (!box || from >= to) return band;
    const { width } = this.#raster;
    const fine = await this.#stitchBand(sources, from, to - from);
    for (let y = from; y < to; y++) {
      const source = (y - from) * width + box.left;
      const target = (y - row) * width + box.left;
      band.labels.set(fine.labels.subarray(source, source + box.width), target);
      band.confidence.set(fine.confidence.subarray(source, source + box.width), target);
    }
    return band;
  }

  #holdMerger(grid: PatchGrid, { maps: like }: PyramidOutput): Merger {
    const { merger, maps } = like.c[0].device.scope(() => {
      const made = new Merger(grid, like);
      return { merger: made, maps: made.maps };
    });
    for (const map of Object.values(maps).flat()) this.#hold(map);
    return merger;
  }

  async #copyOutput({ maps, ps3 }: PyramidOutput, device: Device): Promise<PyramidOutput> {
    const copy = async (tensor: Tensor) => this.#hold(await tensor.to(device));
    return { maps: await mapTensors(maps, copy), ps3: await copy(ps3) };
  }

  #holdOutput(output: PyramidOutput): PyramidOutput {
    for (const tensor of tensorsOf(output)) this.#hold(tensor);
    return output;
  }

  #dropOutput(output: PyramidOutput): void {
    this.#drop(...tensorsOf(output));
  }
}

/** Each map replaced, one after the other. */
async function mapTensors(maps: BranchMaps, replace: (map: Tensor) => Promise<Tensor>): Promise<BranchMaps> {
  const replaced: Partial<Record<Stage, Tensor[]>> = {};
  for (const stage of stages) {
    replaced[stage] = [];
    for (const map of maps[stage]) replaced[stage].push(await replace(map));
  }
  return replaced as unknown as BranchMaps;
}

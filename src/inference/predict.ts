/**
 * Prediction of a whole image: the global image, the global branch, the patches, and the
 * stitching of their logits, with no more than a window of the image and a few patches on the device at a time, and of the
 * logits those that are still to be stitched.
 */
import { allModes, type Mode } from '../checkpoint/model-file';
import { checkAborted, GlnetError } from '../errors';
import { type Maps, type PyramidOutput, type Stage, stages } from '../models/fpn';
import { type Ensemble, Merger, PatchSums, shareMerged } from '../models/glnet';
import type { Levels } from '../models/resnet';
import type { Raster, Window } from '../raster/raster';
import { argmax } from '../tensor/argmax';
import type { Device, TensorData } from '../tensor/device';
import { type StitchSource, stitch } from '../tensor/stitch';
import type { Tensor } from '../tensor/tensor';
import { triangleResize } from '../tensor/triangle-resize';
import { boxGrid, type PatchGrid, patchGrid } from '../tiling';
import { type CoarseToFine, foregroundBox, type Refinement, refinedBox } from './coarse-to-fine';
import { HandOver } from './hand-over';
import { type LocalOutput, localOutputs, type Networks } from './networks';
import { rehearse, type Situation } from './rehearsal';
import {
  type BatchLogits,
  completedWith,
  halvesLeave,
  lastOf,
  logitsBytes,
  passOnce,
  patchesFrom,
  patchSource,
  type RowBatch,
  rowSums,
  rowWindow,
  runBatch,
  type SharedOutput,
  type Site,
  tensorsOf,
  turnedGlobalImage,
  turnedSize,
  unloadAfter,
  wholeSource,
} from './steps';
import { type StitchBand, Stitching, type StitchPart } from './stitching';
import { allTurns, windowInTurned } from './turns';
import { type MovingTensor, WaitingLogits } from './waiting-logits';

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
  /** `stitch`, for bands that were handed over, comes when all patches are computed. */
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
  /**
   * The most bytes that the halves of a turn's ensemble may take of the first device's memory in mode `bidirectional`, where
   * they wait for the second global pass; more of them wait in a temporary file. Default 64 MiB; for tests.
   */
  mostHalves?: number | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: Progress) => void) | undefined;
  /** Learns of each time that is charged to a stage, at its end. */
  onStage?: ((stage: TimedStage, seconds: number) => void) | undefined;
  /** Sees the logits that will be stitched, each output's in the grid's order; must not keep them. */
  onLogits?: ((output: Output, source: StitchSource) => void) | undefined;
  /** Where the bands of a single output are put together: width · height each. Without it each has memory of its own. */
  whole?: { labels: Uint8Array<ArrayBuffer>; confidence: Uint8Array<ArrayBuffer> } | undefined;
  /**
   * Receives each output from top to bottom, one band at a time; bands of several outputs come in turn. Without flips and
   * turns they come while patches further down are computed, in mode `bidirectional` while their halves are added. After an
   * error a call that has begun is waited for.
   */
  onBand: (output: Output, band: Band) => void | Promise<void>;
}

export interface PredictReport {
  /** Wall-clock seconds by stage. What is written while patches are computed takes none of its own. */
  seconds: Record<TimedStage, number>;
  patches: number;
  /** Patches at a time in the end. */
  batch: number;
  /**
   * What `Memory.peak` was planned to become, of the device where it is largest: where there is a limit, and patches are
   * computed. Exact, but for images of more than 256 batches, and calls that overlap.
   */
  plannedPeakBytes?: number;
  /** Of coarse-to-fine segmentation. */
  refinement?: Refinement;
}

/** What work ends with when another device has failed. */
const stopped = new Error('another device failed');

/** Bytes of the bands in which the image is read for the global image. */
const bandBytes = 8 << 20;
/** See {@link PredictOptions.mostHalves}. */
const defaultMostHalves = 64 << 20;
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
    await prediction.end();
  }
}

/** What another device made of a row of patches. */
interface HostRow {
  readonly batches: readonly { patches: readonly number[]; output: LocalOutput; logits: MovingTensor }[];
  readonly sums: Maps<MovingTensor> | undefined;
}

interface Held {
  dispose(): void;
}

class Prediction {
  readonly #networks: readonly Networks[];
  /** The first device's: it does what is not divided. */
  readonly #main: Networks;
  readonly #raster: Raster;
  readonly #options: PredictOptions;
  readonly #report: PredictReport;
  /** What must go when this ends, however it ends. */
  readonly #held = new Set<Held>();
  readonly #stitching: Stitching;
  readonly #bands = new HandOver();
  readonly #waiting = new WaitingLogits();
  /** The last batch of each device. */
  readonly #inFlight = new Map<Device, Promise<void>>();
  /** Batches that are queued and not done. */
  #computing = 0;
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
    this.#stitching = new Stitching(raster, options.outputs, options.coarseToFine !== undefined);
  }

  /** Ends this, wherever it is. */
  async end(): Promise<void> {
    await this.#bands.stop();
    await this.#waiting.close();
    for (const each of this.#held) each.dispose();
    this.#held.clear();
  }

  async run(): Promise<PredictReport> {
    const turns = this.#turns;
    const globalImage = await this.#readGlobalImage();
    for (const turn of turns) await this.#predictTurn(globalImage, turn, turns);
    this.#drop(globalImage);
    this.#stitching.complete(this.#raster.height);
    await this.#stitch();
    await this.#bands.end();
    return this.#report;
  }

  get #turns(): readonly number[] {
    return this.#options.flipRotate ? allTurns : [0];
  }

  get #mostHalves(): number {
    return this.#options.mostHalves ?? defaultMostHalves;
  }

  get #wantsPatches(): boolean {
    const { mode, outputs } = this.#options;
    return (
      mode === 'bidirectional' ||
      (mode === 'global-to-local' && outputs.some((output) => output !== 'global'))
    );
  }

  /** Lets a tensor, or what has some, live until it is dropped or this ends. */
  #hold<T extends Held>(held: T): T {
    this.#held.add(held);
    return held;
  }

  #drop(...all: Held[]): void {
    for (const each of all) {
      this.#held.delete(each);
      each.dispose();
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
    this.#stitching.refine(box);
  }

  async #predictTurn(globalImage: Tensor, turn: number, turns: readonly number[]): Promise<void> {
    const { mode } = this.#options;
    const { device, global } = this.#main;
    checkAborted(this.#options.signal);
    const image = this.#hold(turnedGlobalImage(this.#main, globalImage, turn));
    // Coarse to fine, it says how many patches there will be.
    const known = this.#wantsPatches && !this.#options.coarseToFine ? this.#gridOf(turn)!.count : 0;
    const first = this.#holdOutput(passOnce(this.#main, known, () => global.forward(image)));
    if (mode !== 'bidirectional' && this.#stitching.wants('global'))
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
    } else if (mode === 'bidirectional' && this.#stitching.wants('global')) {
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
    const situation: Situation = {
      mode: this.#options.mode,
      size: this.#raster,
      turns,
      gridOf: (turn) => this.#gridOf(turn)!,
      sites,
      globalImage,
      image,
      stitching: this.#stitching,
      mostHalves: this.#mostHalves,
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
    const wantsEnsemble = this.#stitching.wants('ensemble');
    unloadAfter(this.#main, grid.count, 'global');
    if (mode === 'global-to-local' && this.#wantsPatches) {
      const sites = await this.#openSites(first, grid, false);
      plan(sites);
      await this.#forEachRow(turn, grid, sites);
      this.#closeSites(sites);
    } else if (mode === 'bidirectional') {
      const wantsMerged = wantsEnsemble || this.#stitching.wants('global');
      this.#drop(first.ps3);
      const shared = { maps: first.maps, ps3: undefined };
      const sites = await this.#openSites(shared, grid, wantsMerged);
      plan(sites);
      const halves: BatchLogits[] = [];
      await this.#forEachRow(turn, grid, sites, halves);
      this.#closeSites(sites);
      if (sites[0]!.merger) {
        // Freeing memory waits for what is queued, and would hold JavaScript up.
        await device.synchronize();
        unloadAfter(this.#main, grid.count, 'local');
        const pass = (): Tensor => globalExt!.forwardTaking(image, shareMerged(first.maps));
        const ps3 = this.#hold(passOnce(this.#main, grid.count, pass));
        this.#dropOutput(first);
        if (this.#stitching.wants('global')) this.#keepGlobal('global', globalExt!.classify(ps3), turn);
        await this.#aggregate(ensemble!, halves, ps3, turn, grid);
        this.#drop(ps3);
      }
      await device.synchronize();
      this.#charge('global');
    }
  }

  /** Brings the global branch's maps to every device. */
  async #openSites(first: SharedOutput, grid: PatchGrid, merges: boolean): Promise<Site[]> {
    const sites: Site[] = [];
    for (const networks of this.#networks) {
      if (networks === this.#main) {
        const merger = merges ? this.#hold(new Merger(grid, first.maps)) : undefined;
        sites.push({ networks, first, merges, merger });
      } else {
        sites.push({ networks, first: await this.#copyOutput(first, networks.device), merges });
      }
    }
    return sites;
  }

  /** Drops what only patches needed. */
  #closeSites(sites: readonly Site[]): void {
    for (const { merger } of sites) if (merger) this.#drop(merger);
    for (const { first } of sites.slice(1)) this.#dropOutput(first);
  }

  /**
   * Completes the ensemble's logits of each batch with the global branch's half. Bands that are complete are stitched in
   * between.
   */
  async #aggregate(
    ensemble: Ensemble,
    halves: readonly BatchLogits[],
    ps3: Tensor,
    turn: number,
    grid: PatchGrid,
  ): Promise<void> {
    const { device } = this.#main;
    /** The batch before. */
    let before: Promise<void> = Promise.resolve();
    try {
      for await (const { patches, logits } of this.#takeHalves(halves)) {
        checkAborted(this.#options.signal);
        const whole = device.scope(() => ensemble.addGlobal(logits, ps3, grid, patches));
        this.#keep('ensemble', turn, grid, { patches, logits: whole });
        this.#drop(logits);
        const done = device.synchronize().then(() => this.#charge('global'));
        done.catch(() => {});
        const waited = before;
        before = done;
        await waited;
        const below = completedWith(grid, patches.at(-1)!, this.#turns);
        if (below === undefined) continue;
        this.#stitching.complete(below);
        await this.#stitch();
      }
      await before;
    } finally {
      // Nobody hears of it after the end.
      await before.catch(() => {});
    }
  }

  /** The halves of all batches, held, in the grid's order: those on the device, or those that wait elsewhere. */
  async *#takeHalves(halves: readonly BatchLogits[]): AsyncGenerator<BatchLogits> {
    yield* halves;
    const { device } = this.#main;
    for await (const { patches, shape, dtype, values } of this.#waiting.take()) {
      yield { patches, logits: this.#hold(device.upload(values, shape, dtype)) };
    }
  }

  /**
   * Runs the local branch over all patches, a batch at a time. Rows of patches go to the devices in turn, a round of them at
   * a time; bands that are complete are stitched in between.
   * @param halves in mode `bidirectional`, receives the ensemble's halves that stay on the first device, held, in the grid's
   * order; others wait outside
   */
  async #forEachRow(
    turn: number,
    grid: PatchGrid,
    sites: readonly Site[],
    halves?: BatchLogits[],
  ): Promise<void> {
    const failed = new AbortController();
    const keep = ({ patches, logits: { local, ensemble } }: RowBatch): void => {
      if (local) this.#keep('local', turn, grid, { patches, logits: local });
      if (!ensemble) return;
      if (halves) halves.push({ patches, logits: ensemble });
      else this.#keep('ensemble', turn, grid, { patches, logits: ensemble });
    };
    const leaves = (output: LocalOutput, logits: Tensor | MovingTensor): boolean =>
      halves !== undefined && output === 'ensemble' && halvesLeave(logits, grid, this.#mostHalves);
    /** By row: what the other devices compute. */
    const others = new Map<number, Promise<HostRow>>();
    const { first, merger } = sites[0]!;
    const settle = (sums: PatchSums | undefined): void => {
      if (!sums) return;
      merger!.settle(sums);
      this.#drop(sums);
    };
    const otherRows = (round: number): number[] =>
      sites
        .map((_, place) => round * sites.length + place)
        .filter((row, place) => place > 0 && grid.rows[row] !== undefined);
    const begin = (round: number): void => {
      for (const row of otherRows(round)) {
        const site = sites[row % sites.length]!;
        const before = others.get(row - sites.length) ?? Promise.resolve();
        const made = before.then(() => this.#rowToHost(site, turn, grid, row, failed.signal));
        // Not one device goes on while what it works on is taken away.
        made.catch(() => failed.abort());
        others.set(row, made);
      }
    };
    const fetch = async (round: number): Promise<void> => {
      for (const row of otherRows(round)) {
        const { batches, sums } = await others.get(row)!;
        for (const { patches, output, logits } of batches) {
          if (leaves(output, logits)) {
            await this.#waiting.room();
            this.#waiting.put(patches, logits);
          } else {
            keep({ patches, logits: { [output]: await this.#fromHost(logits) } });
          }
        }
        if (sums) {
          const maps = await mapEach(sums, (sum) => this.#fromHost(sum));
          settle(this.#hold(new PatchSums(grid, first.maps, row, row + 1, maps)));
          this.#drop(...Object.values(maps).flat());
        }
        others.delete(row);
      }
    };
    try {
      const rounds = Math.ceil(grid.rows.length / sites.length);
      begin(0);
      for (let round = 0; round < rounds; round++) {
        // The others may be a row ahead, and one behind.
        begin(round + 1);
        const row = round * sites.length;
        const own: RowBatch[] = [];
        const sums = this.#holdSums(sites[0]!, grid, row);
        for await (const batch of this.#runRow(sites[0]!, turn, grid, row, sums, failed.signal)) {
          const half = batch.logits.ensemble;
          if (half && leaves('ensemble', half)) {
            await this.#waiting.room();
            this.#waiting.put(batch.patches, toHost(half, this.#waiting.buffer(logitsBytes(half))));
            this.#drop(half);
            delete batch.logits.ensemble;
          }
          own.push(batch);
          // One after each batch, so that it is handed over while the next is computed.
          await this.#stitch(1);
        }
        await this.#stitch();
        await fetch(round - 1);
        own.forEach(keep);
        settle(sums);
        // With a second pass they are complete after it.
        const below = sites[0]!.merges ? undefined : completedWith(grid, lastOf(grid, row), this.#turns);
        if (below !== undefined) this.#stitching.complete(below);
      }
      await fetch(rounds - 1);
      await Promise.all(this.#inFlight.values());
    } catch (error) {
      failed.abort();
      const ends = await Promise.allSettled(others.values());
      const reasons = ends.flatMap((end) => (end.status === 'rejected' ? [end.reason as unknown] : []));
      // Those that stopped for another's sake have nothing to tell.
      throw [error, ...reasons].find((reason) => reason !== stopped) ?? error;
    }
  }

  /** One row of patches on another device than the first. No logits stay there. */
  async #rowToHost(
    site: Site,
    turn: number,
    grid: PatchGrid,
    row: number,
    failed: AbortSignal,
  ): Promise<HostRow> {
    const batches: HostRow['batches'][number][] = [];
    const sums = this.#holdSums(site, grid, row);
    for await (const { patches, logits } of this.#runRow(site, turn, grid, row, sums, failed)) {
      for (const [output, tensor] of Object.entries(logits) as [LocalOutput, Tensor][]) {
        batches.push({ patches, output, logits: toHost(tensor) });
        this.#drop(tensor);
      }
    }
    const summed = sums && (await mapEach(sums.maps, (sum) => toHost(sum)));
    if (sums) this.#drop(sums);
    return { batches, sums: summed };
  }

  /** Brings what comes from another device to the first. */
  async #fromHost({ shape, dtype, values }: MovingTensor): Promise<Tensor> {
    return this.#hold(this.#main.device.upload(await values, shape, dtype));
  }

  #holdSums(site: Site, grid: PatchGrid, row: number): PatchSums | undefined {
    const sums = rowSums(site, grid, row);
    return sums && this.#hold(sums);
  }

  /** One row of patches on one device: yields the logits of each batch, held, once it is queued. */
  async *#runRow(
    site: Site,
    turn: number,
    grid: PatchGrid,
    row: number,
    sums: PatchSums | undefined,
    failed: AbortSignal,
  ): AsyncGenerator<RowBatch> {
    const { device } = site.networks;
    const { mode } = this.#options;
    const wanted = localOutputs.filter((output) => this.#stitching.wants(output));
    const columns = grid.columns.length;
    const window = await this.#read(rowWindow(this.#raster, turn, grid, row), device);
    for (let column = 0; column < columns; ) {
      checkAborted(this.#options.signal);
      if (failed.aborted) throw stopped;
      const patches = patchesFrom(grid, row, column, this.#report.batch);
      let logits: RowBatch['logits'];
      try {
        logits = runBatch(site, window, { mode, turn, grid, patches, wanted, sums });
      } catch (error) {
        const again = error instanceof GlnetError && error.code === 'ERR_OUT_OF_MEMORY';
        if (!again || patches.length === 1) throw error;
        this.#report.batch = Math.ceil(patches.length / 2);
        await device.synchronize();
        continue;
      }
      for (const tensor of Object.values(logits)) this.#hold(tensor);
      column += patches.length;
      if (column === columns) this.#drop(window);
      await this.#queued(device, patches.length, failed);
      yield { patches, logits };
    }
  }

  /** Notes that a batch was queued, and waits for the one before: the device need not wait for JavaScript. */
  async #queued(device: Device, patches: number, failed: AbortSignal): Promise<void> {
    const before = this.#inFlight.get(device);
    this.#computing += 1;
    const done = device.synchronize().then(() => {
      // Nobody hears of progress after the end.
      if (failed.aborted) return;
      this.#computing -= 1;
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
    this.#stitching.keep(output, source);
    if (output !== 'coarse') this.#options.onLogits?.(output, source);
  }

  /**
   * Queues the stitching of bands that are complete, as there is room to hand them over, and drops the logits that no other
   * band needs. Waits for no band that it queues last.
   */
  async #stitch(most = Number.POSITIVE_INFINITY): Promise<void> {
    for (let count = 0; count < most; count++) {
      this.#bands.check();
      const band = this.#stitching.next();
      if (!band) return;
      await this.#bands.room();
      checkAborted(this.#options.signal);
      const whole = this.#queueStitch(band.whole, this.#options.whole);
      const fine = band.fine && this.#queueStitch(band.fine);
      this.#drop(...band.spent);
      this.#bands.add(this.#bandOf(band, whole, fine), (made) => this.#giveBand(band, made));
    }
  }

  /**
   * The memory goes back at once, so that what is in use when does not depend on the device's pace.
   * @returns labels and confidence
   */
  #queueStitch(
    { row, rows, sources }: StitchPart,
    whole?: PredictOptions['whole'],
  ): Promise<[Uint8Array, Uint8Array]> {
    const { width, height } = this.#raster;
    const band = stitch({ sources, imageHeight: height, imageWidth: width, row, rows });
    using labels = band.labels;
    using confidence = band.confidence;
    const take = (from: Tensor, to: Uint8Array<ArrayBuffer> | undefined): Promise<Uint8Array> =>
      from.data(to?.subarray(row * width, (row + rows) * width)) as Promise<Uint8Array>;
    const values = Promise.all([take(labels, whole?.labels), take(confidence, whole?.confidence)]);
    // As what follows may fail before they are awaited.
    values.catch(() => {});
    return values;
  }

  /** The patches' labels inside the refined box; outside background, as sure as the global branch is of it. */
  async #bandOf(
    { output, whole: { row, rows }, fine }: StitchBand,
    whole: Promise<[Uint8Array, Uint8Array]>,
    inside: Promise<[Uint8Array, Uint8Array]> | undefined,
  ): Promise<Band> {
    const [labels, confidence] = await whole;
    if (this.#stitching.refines && output !== 'global') labels.fill(0);
    if (fine && inside) {
      const { width } = this.#raster;
      const { left, width: columns } = this.#report.refinement!.box!;
      const planes = await inside;
      for (let y = 0; y < fine.rows; y++) {
        const source = y * width + left;
        const target = (fine.row - row + y) * width + left;
        labels.set(planes[0].subarray(source, source + columns), target);
        confidence.set(planes[1].subarray(source, source + columns), target);
      }
    }
    return { row, rows, labels, confidence };
  }

  async #giveBand({ output, last }: StitchBand, band: Band): Promise<void> {
    this.#charge('stitch');
    await this.#options.onBand(output, band);
    this.#charge(this.#computing > 0 ? 'patches' : 'write');
    if (!last || this.#report.patches < this.#patchesToDo) return;
    const { height } = this.#raster;
    this.#options.onProgress?.({ stage: 'stitch', done: band.row + band.rows, total: height });
  }

  async #copyOutput({ maps, ps3 }: SharedOutput, device: Device): Promise<SharedOutput> {
    const copy = async (tensor: Tensor) => this.#hold(await tensor.to(device));
    return { maps: await mapEach(maps, copy), ps3: ps3 && (await copy(ps3)) };
  }

  #holdOutput(output: PyramidOutput): PyramidOutput {
    for (const tensor of tensorsOf(output)) this.#hold(tensor);
    return output;
  }

  #dropOutput(output: SharedOutput): void {
    this.#drop(...tensorsOf(output));
  }
}

/** Queues the reading of a tensor, into an array if there is one. */
function toHost(tensor: Tensor, into?: TensorData): MovingTensor {
  const { shape, dtype } = tensor;
  const values = tensor.data(into);
  // Awaited later, and lost if this stops before: not an unhandled rejection then.
  values.catch(() => {});
  return { shape, dtype, values };
}

/** Each map replaced, one after the other. */
async function mapEach<T, U>(maps: Maps<T>, replace: (map: T) => U | Promise<U>): Promise<Maps<U>> {
  const replaced: Partial<Record<Stage, Levels<U>>> = {};
  for (const stage of stages) {
    const [a, b, c, d] = maps[stage];
    replaced[stage] = [await replace(a), await replace(b), await replace(c), await replace(d)];
  }
  return replaced as Maps<U>;
}

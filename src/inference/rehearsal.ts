/**
 * What the rest of an image takes of a device's memory, from its patches on, found without computing it: predict.ts's
 * steps in predict.ts's order, within a plan of the device.
 */
import type { Mode } from '../checkpoint/model-file';
import { Merger, type PatchSums, shareMerged, zerosLike } from '../models/glnet';
import type { Device, Planned } from '../tensor/device';
import { stitch } from '../tensor/stitch';
import type { Tensor } from '../tensor/tensor';
import type { PatchGrid } from '../tiling';
import { type LocalOutput, localOutputs } from './networks';
import {
  completedWith,
  halvesLeave,
  lastOf,
  passOnce,
  patchesFrom,
  patchSource,
  type RowBatch,
  rowSums,
  rowWindow,
  runBatch,
  type Site,
  tensorsOf,
  turnedGlobalImage,
  unloadAfter,
  wholeSource,
} from './steps';
import type { Stitching, StitchPart } from './stitching';

/** What there is when the first patch is about to be computed. */
export interface Situation {
  readonly mode: Mode;
  readonly size: { readonly width: number; readonly height: number };
  /** The turns to come, the one that has begun first. */
  readonly turns: readonly number[];
  readonly gridOf: (turn: number) => PatchGrid;
  readonly sites: readonly Site[];
  readonly globalImage: Tensor;
  /** Of the turn that has begun. */
  readonly image: Tensor;
  /** With what is kept already. */
  readonly stitching: Stitching;
  /** Bytes of the ensemble's halves that may wait on the device, of a turn. */
  readonly mostHalves: number;
}

/** The local branch's half of a batch's ensemble; undefined where it waits outside the device. */
interface Half {
  readonly patches: readonly number[];
  readonly logits: Tensor | undefined;
}

/**
 * Batches that are planned op by op: the first, and those around the one beside which the most logits are kept. Of others only
 * the logits are counted, so that an image of thousands of patches does not take long. They are as many bytes then, at places
 * that may differ.
 */
const planned = { first: 224, around: 32 };
/** What a block may have beyond what was asked for (native/core/pool.cc), which depends on its place. */
const spare = 4096;

/**
 * @param place of the device's site
 * @param limit of the device's pool
 */
export function rehearse(situation: Situation, place: number, batch: number, limit: number): Planned {
  const { sites, turns, gridOf } = situation;
  const batches = turns.reduce((sum, turn) => {
    const { rows, columns } = gridOf(turn);
    return sum + Math.ceil((rows.length - place) / sites.length) * Math.ceil(columns.length / batch);
  }, 0);
  let fullest = 0;
  const run = (isWhole: (batch: number) => boolean): Planned =>
    sites[place]!.networks.device.plan((drop) => {
      const rehearsal = new Rehearsal(situation, place, batch, drop, isWhole);
      rehearsal.run();
      fullest = rehearsal.fullest;
    }, limit);
  if (batches <= planned.first + planned.around) return run(() => true);
  run((i) => i === 0);
  const { first, around } = planned;
  return run((i) => i < first || Math.abs(i - fullest) <= around / 2);
}

class Rehearsal {
  /** The batch beside which the most logits are kept, of those with the most patches. */
  fullest = 0;
  readonly #situation: Situation;
  readonly #place: number;
  readonly #batch: number;
  readonly #release: (tensor: Tensor) => void;
  readonly #isWhole: (batch: number) => boolean;
  readonly #device: Device;
  readonly #wanted: readonly LocalOutput[];
  readonly #stitching: Stitching;
  /** The most patches of a batch. */
  readonly #widest: number;
  #begun = 0;
  /** Logits of a batch. */
  #like: Partial<Record<LocalOutput, Tensor>> = {};
  /** Beside the logits of batches of which these alone are counted. */
  readonly #spares = new Map<Tensor, Tensor>();
  /** Elements of logits: that are kept, and that were beside the fullest batch. */
  #kept = 0;
  #mostKept = 0;

  /** @param isWhole whether a batch is planned op by op */
  constructor(
    situation: Situation,
    place: number,
    batch: number,
    release: (tensor: Tensor) => void,
    isWhole: (batch: number) => boolean,
  ) {
    const { sites, stitching, turns, gridOf } = situation;
    this.#situation = situation;
    this.#place = place;
    this.#batch = batch;
    this.#release = release;
    this.#isWhole = isWhole;
    this.#device = sites[place]!.networks.device;
    this.#wanted = localOutputs.filter((output) => stitching.wants(output));
    this.#stitching = stitching.copy();
    this.#widest = Math.min(batch, Math.max(...turns.map((turn) => gridOf(turn).columns.length)));
  }

  run(): void {
    const { turns, sites, image, globalImage, size } = this.#situation;
    const given = sites[this.#place]!;
    // The prediction's own merges later.
    const merger = given.merger && new Merger(this.#situation.gridOf(turns[0]!), given.first.maps);
    const site = { ...given, merger };
    for (const turn of turns) {
      if (turn === turns[0]) this.#patches(turn, image, site);
      else this.#turn(turn, site);
    }
    if (this.#place > 0) return;
    this.#drop(globalImage);
    this.#stitching.complete(size.height);
    this.#stitch();
  }

  #drop(tensor: Tensor): void {
    this.#release(tensor);
    const spared = this.#spares.get(tensor);
    if (spared) this.#release(spared);
  }

  #dropAll(tensors: readonly Tensor[]): void {
    for (const tensor of tensors) this.#drop(tensor);
  }

  /** A turn from its beginning. */
  #turn(turn: number, { networks, merges, ...before }: Site): void {
    const { mode, globalImage, size, gridOf } = this.#situation;
    const grid = gridOf(turn);
    if (this.#place > 0) {
      const { maps, ps3 } = before.first;
      const first = { maps: zerosLike(maps), ps3: ps3 && this.#device.zeros(ps3.shape, ps3.dtype) };
      this.#patches(turn, undefined, { networks, first, merges });
      return;
    }
    const image = turnedGlobalImage(networks, globalImage, turn);
    const known = this.#stitching.refines ? 0 : grid.count;
    const first = passOnce(networks, known, () => networks.global.forward(image));
    const classify = () => wholeSource(size, turn, networks.global.classify(first.ps3));
    if (mode !== 'bidirectional' && this.#stitching.wants('global')) {
      this.#stitching.keep('global', classify());
    }
    if (this.#stitching.refines) this.#stitching.keep('coarse', classify());
    unloadAfter(networks, grid.count, 'global');
    if (mode !== 'bidirectional') {
      this.#patches(turn, image, { networks, first, merges });
      return;
    }
    this.#drop(first.ps3);
    const merger = merges ? new Merger(grid, first.maps) : undefined;
    this.#patches(turn, image, { networks, first: { maps: first.maps, ps3: undefined }, merges, merger });
  }

  /** A turn from its patches on. */
  #patches(turn: number, image: Tensor | undefined, site: Site): void {
    const grid = this.#situation.gridOf(turn);
    const halves = this.#rows(turn, grid, site);
    if (this.#place > 0) {
      this.#dropAll(tensorsOf(site.first));
      return;
    }
    if (site.merges) this.#secondPass(turn, grid, image!, site, halves);
    else this.#dropAll(tensorsOf(site.first));
    this.#drop(image!);
  }

  /** @returns what the second pass completes */
  #rows(turn: number, grid: PatchGrid, site: Site): Half[] {
    const { mode, sites, turns } = this.#situation;
    const halves: Half[] = [];
    const keep = ({ patches, logits }: RowBatch): void => {
      for (const output of this.#wanted) {
        const made = logits[output];
        if (output === 'ensemble' && mode === 'bidirectional') halves.push({ patches, logits: made });
        else this.#stitching.keep(output, patchSource(turn, grid, { patches, logits: made! }));
      }
    };
    for (let row = this.#place; row < grid.rows.length; row += sites.length) {
      const sums = rowSums(site, grid, row);
      const own = this.#row(turn, grid, site, row, sums);
      if (this.#place > 0) {
        // They go to the first device.
        sums?.dispose();
        continue;
      }
      this.#stitch();
      this.#fetch(grid, site, row - sites.length, keep);
      own.forEach(keep);
      if (sums) site.merger!.settle(sums);
      const below = site.merges ? undefined : completedWith(grid, lastOf(grid, row), turns);
      if (below !== undefined) this.#stitching.complete(below);
      if (row + sites.length >= grid.rows.length) this.#fetch(grid, site, row, keep);
    }
    return halves;
  }

  #row(turn: number, grid: PatchGrid, site: Site, row: number, sums: PatchSums | undefined): RowBatch[] {
    const { mode, size } = this.#situation;
    const { width, height } = rowWindow(size, turn, grid, row);
    const columns = grid.columns.length;
    const window = this.#device.zeros([height, width, 3], 'uint8');
    const batches: RowBatch[] = [];
    for (let column = 0; column < columns; ) {
      const patches = patchesFrom(grid, row, column, this.#batch);
      const i = this.#begun++;
      if (patches.length === this.#widest && this.#kept >= this.#mostKept) {
        this.fullest = i;
        this.#mostKept = this.#kept;
      }
      const logits = this.#isWhole(i)
        ? runBatch(site, window, { mode, turn, grid, patches, wanted: this.#wanted, sums })
        : this.#onlyLogits(patches.length);
      this.#like = { ...logits };
      column += patches.length;
      if (column === columns) this.#drop(window);
      if (this.#place > 0) {
        // They go to the first device.
        this.#dropAll(Object.values(logits));
      } else {
        if (this.#halvesLeave(grid)) {
          this.#drop(logits.ensemble!);
          delete logits.ensemble;
        }
        this.#count(logits);
        batches.push({ patches, logits });
        this.#stitch(1);
      }
    }
    return batches;
  }

  /** Whether the halves of the ensemble leave the device, once there is a batch. */
  #halvesLeave(grid: PatchGrid): boolean {
    const { mode, mostHalves } = this.#situation;
    const half = mode === 'bidirectional' ? this.#like.ensemble : undefined;
    return half !== undefined && halvesLeave(half, grid, mostHalves);
  }

  /** Notes logits that will be kept. */
  #count(logits: RowBatch['logits']): void {
    for (const { size } of Object.values(logits)) this.#kept += size;
  }

  #onlyLogits(patches: number): RowBatch['logits'] {
    const made = this.#wanted.map((output) => {
      const logits = this.#logits(output, patches);
      this.#spares.set(logits, this.#device.zeros([spare], 'uint8'));
      return [output, logits];
    });
    return Object.fromEntries(made);
  }

  #logits(output: LocalOutput, patches: number): Tensor {
    const { shape, dtype } = this.#like[output]!;
    return this.#device.zeros([patches, ...shape.slice(1)], dtype);
  }

  /** What comes of the rows that other devices compute beside one of the first's. */
  #fetch(grid: PatchGrid, site: Site, own: number, keep: (batch: RowBatch) => void): void {
    const end = Math.min(own + this.#situation.sites.length, grid.rows.length);
    for (let row = Math.max(own + 1, 0); row < end; row++) {
      for (let column = 0; column < grid.columns.length; column += this.#batch) {
        const patches = patchesFrom(grid, row, column, this.#batch);
        const arriving = this.#wanted.filter((output) => output !== 'ensemble' || !this.#halvesLeave(grid));
        const made = arriving.map((output) => [output, this.#logits(output, patches.length)]);
        const logits: RowBatch['logits'] = Object.fromEntries(made);
        this.#count(logits);
        keep({ patches, logits });
      }
      const sums = rowSums(site, grid, row);
      if (sums) site.merger!.settle(sums);
    }
  }

  /** The global branch with the merged maps, and the aggregation. */
  #secondPass(
    turn: number,
    grid: PatchGrid,
    image: Tensor,
    { networks, first }: Site,
    halves: readonly Half[],
  ): void {
    const { size, turns } = this.#situation;
    const { device, ensemble, globalExt } = networks;
    unloadAfter(networks, grid.count, 'local');
    const pass = (): Tensor => globalExt!.forwardTaking(image, shareMerged(first.maps));
    const ps3 = passOnce(networks, grid.count, pass);
    this.#dropAll(tensorsOf(first));
    if (this.#stitching.wants('global')) {
      this.#stitching.keep('global', wholeSource(size, turn, globalExt!.classify(ps3)));
    }
    for (const { patches, logits: waiting } of halves) {
      const half = waiting ?? this.#logits('ensemble', patches.length);
      const logits = device.scope(() => ensemble!.addGlobal(half, ps3, grid, patches));
      if (!waiting) this.#count({ ensemble: logits });
      this.#stitching.keep('ensemble', patchSource(turn, grid, { patches, logits }));
      this.#drop(half);
      const below = completedWith(grid, patches.at(-1)!, turns);
      if (below === undefined) continue;
      this.#stitching.complete(below);
      this.#stitch();
    }
    this.#drop(ps3);
  }

  #stitch(most = Number.POSITIVE_INFINITY): void {
    const { width: imageWidth, height: imageHeight } = this.#situation.size;
    const part = ({ sources, row, rows }: StitchPart) =>
      this.#device.scope(() => void stitch({ sources, imageHeight, imageWidth, row, rows }));
    for (let count = 0; count < most; count++) {
      const band = this.#stitching.next();
      if (!band) return;
      part(band.whole);
      if (band.fine) part(band.fine);
      this.#dropAll(band.spent);
      for (const { size } of band.spent) this.#kept -= size;
    }
  }
}

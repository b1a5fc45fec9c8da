/**
 * What the rest of an image takes of a device's memory, from its patches on, found without computing it: predict.ts's
 * steps in predict.ts's order, within a plan of the device.
 */
import type { Mode } from '../checkpoint/model-file';
import type { BranchMaps, PyramidOutput, Stage } from '../models/fpn';
import { Merger, shareMerged } from '../models/glnet';
import { cast } from '../tensor/cast';
import type { Device, Planned } from '../tensor/device';
import { type StitchSource, stitch } from '../tensor/stitch';
import type { Tensor } from '../tensor/tensor';
import type { PatchGrid, Rect } from '../tiling';
import { type LocalOutput, localOutputs } from './networks';
import {
  type BatchLogits,
  manyPatches,
  patchesFrom,
  patchSource,
  rowWindow,
  runBatch,
  type Site,
  stitchRows,
  tensorsOf,
  turnedGlobalImage,
  wholeSource,
} from './steps';

type Output = LocalOutput | 'global';

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
  /** What is kept already, by what is wanted. */
  readonly sources: ReadonlyMap<Output, readonly StitchSource[]>;
  /** Of coarse-to-fine segmentation. */
  readonly coarse?: { readonly sources: readonly StitchSource[]; readonly box: Rect } | undefined;
}

/**
 * Batches that are planned op by op, the first and the last; of those between only the logits are counted, so that an
 * image of thousands of patches does not take long. They are as many bytes then, at places that may differ.
 */
const planned = { first: 224, last: 32 };
/** What a block may have beyond what was asked for (native/core/pool.cc), which depends on its place. */
const spare = 4096;

/**
 * @param place of the device's site
 * @param limit of the device's pool
 */
export function rehearse(situation: Situation, place: number, batch: number, limit: number): Planned {
  const { device } = situation.sites[place]!.networks;
  return device.plan((drop) => new Rehearsal(situation, place, batch, drop).run(), limit);
}

class Rehearsal {
  readonly #situation: Situation;
  readonly #place: number;
  readonly #batch: number;
  readonly #drop: (tensor: Tensor) => void;
  readonly #device: Device;
  readonly #wanted: readonly LocalOutput[];
  readonly #sources: Map<Output, StitchSource[]>;
  readonly #coarse: StitchSource[];
  readonly #batches: number;
  #begun = 0;
  /** Logits of a batch. */
  #like: Partial<Record<LocalOutput, Tensor>> = {};

  constructor(situation: Situation, place: number, batch: number, drop: (tensor: Tensor) => void) {
    const { sites, sources, coarse, turns, gridOf } = situation;
    this.#situation = situation;
    this.#place = place;
    this.#batch = batch;
    this.#drop = drop;
    this.#device = sites[place]!.networks.device;
    this.#wanted = localOutputs.filter((output) => sources.has(output));
    this.#sources = new Map([...sources].map(([output, kept]) => [output, [...kept]]));
    this.#coarse = [...(coarse?.sources ?? [])];
    this.#batches = turns.reduce((sum, turn) => {
      const { rows, columns } = gridOf(turn);
      return sum + Math.ceil((rows.length - place) / sites.length) * Math.ceil(columns.length / batch);
    }, 0);
  }

  run(): void {
    const { turns, sites, image, globalImage } = this.#situation;
    const site = sites[this.#place]!;
    for (const turn of turns) {
      if (turn === turns[0]) this.#patches(turn, image, site);
      else this.#turn(turn, site);
    }
    if (this.#place > 0) return;
    this.#drop(globalImage);
    this.#stitch();
  }

  #dropAll(tensors: readonly Tensor[]): void {
    for (const tensor of tensors) this.#drop(tensor);
  }

  /** A turn from its beginning. */
  #turn(turn: number, { networks, ...before }: Site): void {
    const { mode, globalImage, size, gridOf } = this.#situation;
    const makesMerger = before.merger !== undefined;
    const merger = (like: BranchMaps) => (makesMerger ? new Merger(gridOf(turn), like) : undefined);
    const likeIt = (tensor: Tensor) => this.#device.zeros(tensor.shape, tensor.dtype);
    if (this.#place > 0) {
      const maps = mapped(before.first.maps, likeIt);
      const first = { maps, ps3: likeIt(before.first.ps3) };
      this.#patches(turn, undefined, { networks, first, merger: merger(maps) });
      return;
    }
    const image = turnedGlobalImage(networks, globalImage, turn);
    const first = networks.global.forward(image);
    const classify = () => wholeSource(size, turn, networks.global.classify(first.ps3));
    if (mode !== 'bidirectional') this.#sources.get('global')?.push(classify());
    if (this.#situation.coarse) this.#coarse.push(classify());
    if (gridOf(turn).count >= manyPatches) networks.unload?.('global');
    this.#patches(turn, image, { networks, first, merger: merger(first.maps) });
  }

  /** A turn from its patches on. */
  #patches(turn: number, image: Tensor | undefined, site: Site): void {
    const { mode, gridOf } = this.#situation;
    const grid = gridOf(turn);
    const logits = this.#rows(turn, grid, site);
    if (this.#place > 0) {
      // They go to the first device, and so do the merged maps.
      this.#dropAll(Object.values(logits).flatMap((batches) => batches.map((batch) => batch.logits)));
      if (site.merger) this.#dropAll(Object.values(site.merger.maps).flat());
      this.#dropAll(tensorsOf(site.first));
      return;
    }
    if (this.#wanted.includes('local')) this.#keep('local', turn, grid, logits.local);
    if (mode === 'global-to-local') {
      if (this.#wanted.includes('ensemble')) this.#keep('ensemble', turn, grid, logits.ensemble);
      this.#dropAll(tensorsOf(site.first));
    } else if (site.merger) {
      this.#secondPass(turn, grid, image!, site, site.merger, logits.ensemble);
    } else {
      this.#dropAll(tensorsOf(site.first));
    }
    this.#drop(image!);
  }

  #rows(turn: number, grid: PatchGrid, site: Site): Record<LocalOutput, BatchLogits[]> {
    const { mode, size, sites } = this.#situation;
    const logits: Record<LocalOutput, BatchLogits[]> = { local: [], ensemble: [] };
    for (let row = this.#place; row < grid.rows.length; row += sites.length) {
      const { width, height } = rowWindow(size, turn, grid, row);
      const window = this.#device.zeros([height, width, 3], 'uint8');
      for (let column = 0; column < grid.columns.length; column += this.#batch) {
        const patches = patchesFrom(grid, row, column, this.#batch);
        const i = this.#begun++;
        const whole = i < planned.first || i >= this.#batches - planned.last;
        const made = whole
          ? runBatch(site, window, { mode, turn, grid, patches, wanted: this.#wanted })
          : this.#onlyLogits(patches.length);
        this.#like = made;
        for (const output of this.#wanted) logits[output].push({ patches, logits: made[output]! });
      }
      this.#drop(window);
    }
    if (this.#place === 0) this.#fetch(grid, logits);
    return logits;
  }

  #onlyLogits(patches: number): Partial<Record<LocalOutput, Tensor>> {
    const made = this.#wanted.map((output) => {
      this.#device.zeros([spare], 'uint8');
      return [output, this.#logits(output, patches)];
    });
    return Object.fromEntries(made);
  }

  #logits(output: LocalOutput, patches: number): Tensor {
    const { shape, dtype } = this.#like[output]!;
    return this.#device.zeros([patches, ...shape.slice(1)], dtype);
  }

  /** The logits of the rows that other devices compute. */
  #fetch(grid: PatchGrid, logits: Record<LocalOutput, BatchLogits[]>): void {
    const { sites } = this.#situation;
    for (const output of this.#wanted) {
      for (let row = 0; row < grid.rows.length; row++) {
        if (row % sites.length === 0) continue;
        for (let column = 0; column < grid.columns.length; column += this.#batch) {
          const patches = patchesFrom(grid, row, column, this.#batch);
          logits[output].push({ patches, logits: this.#logits(output, patches.length) });
        }
      }
    }
  }

  #keep(output: LocalOutput, turn: number, grid: PatchGrid, batches: readonly BatchLogits[]): void {
    this.#sources.get(output)!.push(...batches.map((batch) => patchSource(turn, grid, batch)));
  }

  /** The global branch with the merged maps, and the aggregation. */
  #secondPass(
    turn: number,
    grid: PatchGrid,
    image: Tensor,
    { networks, first }: Site,
    merger: Merger,
    halves: readonly BatchLogits[],
  ): void {
    const { sites, size } = this.#situation;
    const { device, precision, ensemble, globalExt, unload } = networks;
    for (let other = 1; other < sites.length; other++) {
      const sums = mapped(merger.maps, (map) => device.zeros(map.shape, map.dtype));
      merger.join(sums);
      this.#dropAll(Object.values(sums).flat());
    }
    merger.finish();
    const merged =
      precision === 'float32'
        ? merger.maps
        : mapped(merger.maps, (map) => {
            const narrow = cast(map, precision);
            this.#drop(map);
            return narrow;
          });
    this.#dropAll(tensorsOf(first));
    const many = grid.count >= manyPatches;
    if (many) unload?.('local');
    const second: PyramidOutput = globalExt!.forward(image, shareMerged(merged));
    this.#sources.get('global')?.push(wholeSource(size, turn, globalExt!.classify(second.ps3)));
    const whole = halves.map(({ patches, logits }) => {
      const sum = device.scope(() => ensemble!.addGlobal(logits, second.ps3, grid, patches));
      this.#drop(logits);
      return { patches, logits: sum };
    });
    if (whole.length > 0) this.#keep('ensemble', turn, grid, whole);
    this.#dropAll(tensorsOf(second));
    this.#dropAll(Object.values(merged).flat());
    if (many) unload?.('globalExt');
  }

  /** The first band of each output: no other is larger. */
  #stitch(): void {
    const { size, coarse } = this.#situation;
    const { width: imageWidth, height: imageHeight } = size;
    const band = (sources: readonly StitchSource[], row: number, rows: number) =>
      this.#device.scope(() => void stitch({ sources, imageHeight, imageWidth, row, rows }));
    const rows = stitchRows(imageWidth);
    for (const [output, sources] of this.#sources) {
      if (coarse && output !== 'global') {
        band(this.#coarse, 0, Math.min(rows, imageHeight));
        band(sources, coarse.box.top, Math.min(rows, coarse.box.height));
      } else {
        band(sources, 0, Math.min(rows, imageHeight));
      }
      this.#dropAll(sources.map(({ logits }) => logits));
    }
  }
}

/** Each map replaced, one after the other. */
function mapped(maps: BranchMaps, replace: (map: Tensor) => Tensor): BranchMaps {
  const entries = Object.entries(maps) as [Stage, readonly Tensor[]][];
  return Object.fromEntries(
    entries.map(([stage, levels]) => [stage, levels.map(replace)]),
  ) as unknown as BranchMaps;
}

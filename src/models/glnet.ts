/** GLNet: two branches that share their maps, and the convolution that aggregates them (CVPR 2019). */
import { AggregateConv } from '../nn/layers';
import { Parameters } from '../nn/parameters';
import { cast } from '../tensor/cast';
import type { GridSource } from '../tensor/crop-resize';
import { mergePatches } from '../tensor/merge-patches';
import { paste } from '../tensor/paste';
import type { Tensor } from '../tensor/tensor';
import { cropOf, type PatchGrid, type Rect } from '../tiling';
import {
  type BranchMaps,
  type Head,
  Pyramid,
  type PyramidOutput,
  type Share,
  type Stage,
  stages,
  type TakeMap,
} from './fpn';
import type { Backbone, Sharing } from './parameters';
import { ResNet } from './resnet';

/** A map of the whole image, seen by some patches of a grid: a crop for each. */
export function cropsOf(map: Tensor, grid: PatchGrid, patches: readonly number[]): GridSource {
  const crops = patches.map((patch) => cropOf(grid, patch, map.dim(2), map.dim(1)));
  return {
    x: map,
    tops: crops.map((crop) => crop.top),
    lefts: crops.map((crop) => crop.left),
    cropHeight: crops[0]!.height,
    cropWidth: crops[0]!.width,
  };
}

export const sharedStages: Readonly<Record<Sharing, readonly Stage[]>> = {
  deep: stages,
  shallow: ['ps2'],
  none: [],
};

/** A backbone and a pyramid. */
export class Branch {
  readonly #resnet: ResNet;
  readonly #pyramid: Pyramid;

  /**
   * @param kind `global` alone; `global-ext`, which takes merged local maps in; `local`, which takes crops of the
   *   global maps in
   */
  constructor(
    tensors: ReadonlyMap<string, Tensor>,
    backbone: Backbone,
    kind: 'global' | 'global-ext' | 'local',
    sharing: Sharing = 'deep',
  ) {
    const parameters = new Parameters(tensors);
    const side = kind === 'local' ? 'local' : 'global';
    this.#resnet = new ResNet(parameters.at(`resnet_${side}`), backbone);
    this.#pyramid = new Pyramid(parameters.at(`fpn_${side}`), {
      ...(kind !== 'global' && { shared: sharedStages[sharing] }),
      ...(kind === 'global-ext' && { suffix: '_ext' }),
    });
  }

  /** @param x [N, H, W, 3] in [0, 1] */
  forward(x: Tensor, share?: Share): PyramidOutput {
    return x.device.scope(() => this.#pyramid.forward(this.#resnet.forward(x), share));
  }

  /**
   * As {@link forward}, of which ps3 is left: each map goes when its last reader has been called.
   * @param take sees each map before it goes
   */
  forwardTaking(x: Tensor, share: Share, take: TakeMap = () => {}): Tensor {
    return x.device.scope(() => this.#pyramid.forwardTaking(this.#resnet.forward(x), share, take));
  }

  /** As {@link forwardTaking}, with what heads make in the place of ps3; maps that nobody takes may not be made. */
  apply(heads: readonly Head[], x: Tensor, share: Share, take: TakeMap | undefined): readonly Tensor[] {
    return x.device.scope(() => this.#pyramid.apply(heads, this.#resnet.forward(x), share, take));
  }

  /** Logits of this branch alone, at 1/4 of its input. */
  classify(ps3: Tensor): Tensor {
    return this.#pyramid.classify(ps3);
  }
}

/** Sharing from global to local: the crops of the global maps that belong to some patches. */
export function shareWithPatches(maps: BranchMaps, grid: PatchGrid, patches: readonly number[]): Share {
  return (stage, level) => cropsOf(maps[stage][level]!, grid, patches);
}

/** Sharing from local to global: merged maps have the global maps' own sizes. */
export function shareMerged(merged: BranchMaps): Share {
  return (stage, level) => ({ x: merged[stage][level]! });
}

/** The aggregation of both branches' ps3 to the prediction of a patch; linear, so that it can be split in two. */
export class Ensemble {
  readonly #convolution: AggregateConv;

  constructor(tensors: ReadonlyMap<string, Tensor>) {
    this.#convolution = new AggregateConv(new Parameters(tensors).at('ensemble_conv'));
  }

  /** The local branch's part, with the bias: [N, h, w, K]. */
  local(ps3: Tensor): Tensor {
    return this.#convolution.partial([{ x: ps3 }], 0);
  }

  /**
   * Adds the global branch's part.
   * @param local from {@link local}, for these patches of the grid
   * @param global the global branch's ps3
   */
  addGlobal(local: Tensor, global: Tensor, grid: PatchGrid, patches: readonly number[]): Tensor {
    const source = { ...cropsOf(global, grid, patches), sizes: [local.dim(1), local.dim(2)] };
    return this.#convolution.partial([source], global.dim(3), local);
  }
}

/** Bilinear resize of a list of values: half-pixel centres, no corner alignment. */
function resizeLine(values: Float64Array, length: number): number[] {
  const scale = values.length / length;
  return Array.from({ length }, (_, i) => {
    const position = Math.max((i + 0.5) * scale - 0.5, 0);
    const low = Math.min(Math.floor(position), values.length - 1);
    const high = Math.min(low + 1, values.length - 1);
    return values[low]! + (values[high]! - values[low]!) * (position - low);
  });
}

/** How many patches cover each place of a map along one axis: the count of the pixel grid, resized. */
function coverage(starts: readonly number[], patch: number, length: number, mapLength: number): number[] {
  const counts = new Float64Array(length);
  for (const start of starts) for (let i = start; i < start + patch; i++) counts[i]! += 1;
  return resizeLine(counts, mapLength);
}

const allMaps = stages.flatMap((stage) => [0, 1, 2, 3].map((level) => [stage, level] as const));

function mapsOf(make: (stage: Stage, level: number) => Tensor): BranchMaps {
  const levels = (stage: Stage) => [0, 1, 2, 3].map((level) => make(stage, level));
  return Object.fromEntries(stages.map((stage) => [stage, levels(stage)])) as unknown as BranchMaps;
}

/** Maps of the same sizes and types. */
export function zerosLike(maps: BranchMaps): BranchMaps {
  return mapsOf((stage, level) => {
    const { device, shape, dtype } = maps[stage][level]!;
    return device.zeros(shape, dtype);
  });
}

/** Rows of a map of the whole image, on its memory. */
function rowsOf(map: Tensor, first: number, count: number): Tensor {
  const [, , width, channels] = map.shape as [number, number, number, number];
  return map.device.view(map, first * width * channels, [1, count, width, channels]);
}

/** Where the patches in a row of the grid lie on a map of the whole image: the first of them. */
function rowCrop(grid: PatchGrid, map: Tensor, row: number): Rect {
  return cropOf(grid, row * grid.columns.length, map.dim(2), map.dim(1));
}

/** The local branch's maps of the patches in some rows of the grid, added up where they lie on maps of the whole image. */
export class PatchSums {
  readonly #grid: PatchGrid;
  readonly #like: BranchMaps;
  /** Rows of the grid: the first, and the first after it whose patches are not meant. */
  readonly firstRow: number;
  readonly endRow: number;
  /** The sums, float32: of each map the rows that the patches lie on, over the whole width. */
  readonly maps: BranchMaps;
  /** By map: the patch that comes next. */
  readonly #next = new Map<Tensor, number>();

  /**
   * @param like maps of the whole image
   * @param firstRow of the grid; default all rows
   * @param endRow the first that is not meant
   * @param maps the sums, of a device where they were made; default zeros
   */
  constructor(
    grid: PatchGrid,
    like: BranchMaps,
    firstRow = 0,
    endRow = grid.rows.length,
    maps: BranchMaps | undefined = undefined,
  ) {
    this.#grid = grid;
    this.#like = like;
    this.firstRow = firstRow;
    this.endRow = endRow;
    const zeros = (stage: Stage, level: number): Tensor => {
      const { device, shape } = like[stage][level]!;
      const [, , width, channels] = shape as [number, number, number, number];
      const { top: lastTop, height } = rowCrop(grid, like[stage][level]!, endRow - 1);
      const top = this.top(stage, level);
      return device.zeros([1, lastTop + height - top, width, channels], 'float32');
    };
    this.maps = maps ?? like.c[0].device.scope(() => mapsOf(zeros));
  }

  /** First row on the map of the whole image. */
  top(stage: Stage, level: number): number {
    return rowCrop(this.#grid, this.#like[stage][level]!, this.firstRow).top;
  }

  /**
   * Adds the maps of patches that follow each other, and those that were added before. What was added is not added again,
   * so a batch that failed may be tried again in parts.
   */
  add(stage: Stage, level: number, x: Tensor, patches: readonly number[]): void {
    const sum = this.maps[stage][level]!;
    const done = Math.max(0, (this.#next.get(sum) ?? 0) - patches[0]!);
    const rest = patches.slice(done);
    if (rest.length === 0) return;
    const crops = cropsOf(this.#like[stage][level]!, this.#grid, rest);
    const top = this.top(stage, level);
    using added = x.device.view(x, done * (x.size / patches.length), [rest.length, ...x.shape.slice(1)]);
    mergePatches({
      sum,
      x: added,
      tops: crops.tops!.map((each) => each - top),
      lefts: crops.lefts!,
      height: crops.cropHeight!,
      width: crops.cropWidth!,
    });
    this.#next.set(sum, patches.at(-1)! + 1);
  }

  /** As {@link add}, of all maps. */
  addAll(maps: BranchMaps, patches: readonly number[]): void {
    for (const [stage, level] of allMaps) this.add(stage, level, maps[stage][level]!, patches);
  }

  dispose(): void {
    for (const sum of Object.values(this.maps).flat()) sum.dispose();
  }
}

/**
 * Merges the local branch's maps into maps of the whole image (the paper's feature map sharing), from top to bottom. Rows
 * of maps that no later row of patches lies on are written, others are left alone: these may still be read.
 */
export class Merger {
  readonly #grid: PatchGrid;
  readonly #maps: BranchMaps;
  readonly #coverages = new Map<string, number[]>();
  /** By map: the sum's rows on which the next row of patches lies, too. */
  #rests = new Map<Tensor, Tensor>();

  /** @param maps what is there is overwritten; float32 or bfloat16 */
  constructor(grid: PatchGrid, maps: BranchMaps) {
    this.#grid = grid;
    this.#maps = maps;
  }

  /** Merges the sums over the next rows of the grid, which are gone afterwards. */
  settle(sums: PatchSums): void {
    const before = this.#rests;
    const rests = this.#maps.c[0].device.scope(() => {
      return allMaps.flatMap(([stage, level]) => {
        const map = this.#maps[stage][level]!;
        const rest = this.#settle(stage, level, sums, before.get(map));
        return rest ? [[map, rest] as const] : [];
      });
    });
    this.#rests = new Map(rests);
  }

  dispose(): void {
    for (const rest of this.#rests.values()) rest.dispose();
    this.#rests.clear();
  }

  #settle(stage: Stage, level: number, sums: PatchSums, before: Tensor | undefined): Tensor | undefined {
    const map = this.#maps[stage][level]!;
    const sum = sums.maps[stage][level]!;
    const [top, height] = [sums.top(stage, level), sum.dim(1)];
    if (before) {
      paste(sum, before, 0, 0, { add: true });
      before.dispose();
    }
    const isLast = sums.endRow === this.#grid.rows.length;
    const end = isLast ? map.dim(1) : rowCrop(this.#grid, map, sums.endRow).top;
    const done = Math.min(end - top, height);
    if (sums.firstRow === 0) clearRows(map, 0, top);
    if (done > 0) {
      using merged = rowsOf(sum, 0, done);
      this.#divide(merged, map, top);
      using written = merged.dtype === map.dtype ? merged.alias() : cast(merged, map.dtype as 'bfloat16');
      paste(map, written, top, 0);
    }
    clearRows(map, top + done, end);
    if (done === height) {
      sum.dispose();
      return undefined;
    }
    using last = rowsOf(sum, done, height - done);
    const rest = sum.device.zeros(last.shape, sum.dtype);
    paste(rest, last, 0, 0);
    sum.dispose();
    return rest;
  }

  /** Divides rows of a map's sum, from row `top` on, by the number of patches at each place. */
  #divide(rows: Tensor, map: Tensor, top: number): void {
    using nothing = rows.device.zeros([1, 1, 1, rows.dim(3)], 'float32');
    mergePatches({
      sum: rows,
      x: nothing,
      tops: [0],
      lefts: [0],
      height: 1,
      width: 1,
      rowCoverage: this.#coverage('rows', map.dim(1)).slice(top, top + rows.dim(1)),
      columnCoverage: this.#coverage('columns', map.dim(2)),
    });
  }

  /** {@link coverage} along an axis of maps of some length, which several maps have. */
  #coverage(axis: 'rows' | 'columns', mapLength: number): number[] {
    const { patch, paddedHeight, paddedWidth, [axis]: starts } = this.#grid;
    const key = `${axis} ${mapLength}`;
    let found = this.#coverages.get(key);
    if (!found) {
      found = coverage(starts, patch, axis === 'rows' ? paddedHeight : paddedWidth, mapLength);
      this.#coverages.set(key, found);
    }
    return found;
  }
}

/** Rows on which no patch lies. */
function clearRows(map: Tensor, first: number, end: number): void {
  if (first >= end) return;
  using zeros = map.device.zeros([1, end - first, map.dim(2), map.dim(3)], map.dtype);
  paste(map, zeros, first, 0);
}

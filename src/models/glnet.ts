/** GLNet: two branches that share their maps, and the convolution that aggregates them (CVPR 2019). */
import { AggregateConv } from '../nn/layers';
import { Parameters } from '../nn/parameters';
import type { GridSource } from '../tensor/crop-resize';
import { mergePatches } from '../tensor/merge-patches';
import type { Tensor } from '../tensor/tensor';
import { cropOf, type PatchGrid } from '../tiling';
import {
  type BranchMaps,
  type Head,
  Pyramid,
  type PyramidOutput,
  type Share,
  type Stage,
  stages,
} from './fpn';
import type { Backbone, Sharing } from './parameters';
import { type Levels, ResNet } from './resnet';

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
   * As {@link forward}, with what heads make in the place of ps3.
   * @param keep whether the maps are wanted: without them it takes less memory
   */
  apply(
    heads: readonly Head[],
    x: Tensor,
    share: Share,
    keep: boolean,
  ): { maps: BranchMaps | undefined; outputs: readonly Tensor[] } {
    return x.device.scope(() => this.#pyramid.apply(heads, this.#resnet.forward(x), share, keep));
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

/** Collects the local branch's maps of all patches into maps of the whole image (the paper's feature map sharing). */
export class Merger {
  readonly #grid: PatchGrid;
  readonly #sums: BranchMaps;

  /** @param like the global branch's maps, whose sizes the merged ones get */
  constructor(grid: PatchGrid, like: BranchMaps) {
    this.#grid = grid;
    const zeros = (maps: Levels<Tensor>) =>
      maps.map((map) => map.device.zeros([1, map.dim(1), map.dim(2), map.dim(3)], 'float32'));
    this.#sums = Object.fromEntries(
      stages.map((stage) => [stage, zeros(like[stage])]),
    ) as unknown as BranchMaps;
  }

  /** Adds patches' maps. */
  add(maps: BranchMaps, patches: readonly number[]): void {
    for (const stage of stages) {
      for (const [level, sum] of this.#sums[stage].entries()) {
        const { tops, lefts, cropHeight, cropWidth } = cropsOf(sum, this.#grid, patches);
        mergePatches({
          sum,
          x: maps[stage][level]!,
          tops: tops!,
          lefts: lefts!,
          height: cropHeight!,
          width: cropWidth!,
        });
      }
    }
  }

  /** Adds the sums of another merger, of other patches of the grid, which were brought to this one's device. */
  join(sums: BranchMaps): void {
    for (const stage of stages) {
      for (const [level, sum] of this.#sums[stage].entries()) {
        mergePatches({
          sum,
          x: sums[stage][level]!,
          tops: [0],
          lefts: [0],
          height: sum.dim(1),
          width: sum.dim(2),
        });
      }
    }
  }

  /** Divides the sums by the number of patches at each place, once every patch was added. */
  finish(): void {
    const { rows, columns, patch, paddedHeight, paddedWidth } = this.#grid;
    for (const sum of Object.values(this.#sums).flat()) {
      using nothing = sum.device.zeros([1, 1, 1, sum.dim(3)], 'float32');
      mergePatches({
        sum,
        x: nothing,
        tops: [0],
        lefts: [0],
        height: 1,
        width: 1,
        rowCoverage: coverage(rows, patch, paddedHeight, sum.dim(1)),
        columnCoverage: coverage(columns, patch, paddedWidth, sum.dim(2)),
      });
    }
  }

  /** The sums, float32; after {@link finish} the merged maps. */
  get maps(): BranchMaps {
    return this.#sums;
  }
}

/** The steps of a prediction that are queued in one go: run by predict.ts, and planned by rehearsal.ts. */
import type { Mode } from '../checkpoint/model-file';
import type { BranchMaps, TakeMap } from '../models/fpn';
import { type Merger, PatchSums, shareWithPatches } from '../models/glnet';
import type { Window } from '../raster/raster';
import { decodePatches } from '../tensor/decode-patches';
import type { StitchSource } from '../tensor/stitch';
import type { Tensor } from '../tensor/tensor';
import { type PatchGrid, patchRect } from '../tiling';
import { type BranchName, type LocalOutput, type Networks, runLocal } from './networks';
import { swapsSides, turnedWindow } from './turns';

/** A branch's output as far as it is still read: its ps3 by the aggregation in mode `global-to-local`. */
export interface SharedOutput {
  readonly maps: BranchMaps;
  readonly ps3: Tensor | undefined;
}

/** One of the devices that patches are spread over. */
export interface Site {
  readonly networks: Networks;
  /** What patches read of the global branch, on this device. */
  readonly first: SharedOutput;
  /** Whether the local branch's maps are merged: in mode `bidirectional`, if the second global pass is wanted. */
  readonly merges: boolean;
  /** On the first device, if they are: merges into {@link first}, of which patches further down read no more. */
  readonly merger?: Merger | undefined;
}

/** Logits of one batch of patches, and where they belong. */
export interface BatchLogits {
  patches: readonly number[];
  logits: Tensor;
}

/** The logits of one batch of patches, as far as they are wanted. */
export interface RowBatch {
  patches: readonly number[];
  logits: Partial<Record<LocalOutput, Tensor>>;
}

interface Size {
  readonly width: number;
  readonly height: number;
}

/**
 * From so many patches on, what reading weights again costs the next image is little beside them (3 to 6 % of 36 patches), and
 * global branches keep none in memory while patches are computed, nor the local one while it waits for the second global pass.
 */
const manyPatches = 24;

/**
 * A pass of a global branch over the image.
 * @param patches of the image, where they are known
 */
export function passOnce<T>({ device, unload }: Networks, patches: number, pass: () => T): T {
  return unload && patches >= manyPatches ? device.unloading(pass) : pass();
}

/** Frees a branch's weights once it has run; of a global branch those that {@link passOnce} kept, not knowing the patches. */
export function unloadAfter({ unload }: Networks, patches: number, branch: BranchName): void {
  if (patches >= manyPatches) unload?.(branch);
}

/**
 * The row of the image above which logits are complete with those of a patch: where the next row of patches begins, if this
 * is the last of its own. undefined where there is no next row, and where logits wait for other turns.
 */
export function completedWith(grid: PatchGrid, patch: number, turns: readonly number[]): number | undefined {
  const next = patch + 1;
  if (turns.length > 1 || next % grid.columns.length > 0) return undefined;
  return grid.rows[next / grid.columns.length];
}

/** The last patch of a row of the grid. */
export function lastOf(grid: PatchGrid, row: number): number {
  return (row + 1) * grid.columns.length - 1;
}

/** Bytes of logits, which have a network's precision. */
export function logitsBytes({ shape, dtype }: Pick<Tensor, 'shape' | 'dtype'>): number {
  return shape.reduce((product, length) => product * length, dtype === 'float32' ? 4 : 2);
}

/**
 * Whether the halves of a turn's ensemble, one of which is given, wait for the second global pass outside the device.
 * @param most bytes that may wait on it
 */
export function halvesLeave(half: Pick<Tensor, 'shape' | 'dtype'>, grid: PatchGrid, most: number): boolean {
  return (logitsBytes(half) / half.shape[0]!) * grid.count > most;
}

/** The size of a turned image. */
export function turnedSize({ width, height }: Size, turn: number): [width: number, height: number] {
  return swapsSides(turn) ? [height, width] : [width, height];
}

/** What of an image is read for a row of patches on its turned version. */
export function rowWindow(image: Size, turn: number, grid: PatchGrid, row: number): Window {
  const [width, height] = turnedSize(image, turn);
  const top = grid.rows[row]!;
  const left = grid.columns[0]!;
  return turnedWindow(turn, image.width, image.height, {
    left,
    top,
    width: Math.min(grid.columns.at(-1)! + grid.patch, width) - left,
    height: Math.min(grid.patch, height - top),
  });
}

/** The patches of a row from a column on. */
export function patchesFrom(grid: PatchGrid, row: number, column: number, batch: number): number[] {
  const columns = grid.columns.length;
  return Array.from({ length: Math.min(batch, columns - column) }, (_, k) => row * columns + column + k);
}

/** What the global branch sees. */
export function turnedGlobalImage({ precision }: Networks, globalImage: Tensor, turn: number): Tensor {
  const [height, width] = globalImage.shape as [number, number, number];
  return decodePatches({ x: globalImage, tops: [0], lefts: [0], height, width, turn, dtype: precision });
}

/** What takes the maps of a row's patches, where they are merged. */
export function rowSums({ first, merges }: Site, grid: PatchGrid, row: number): PatchSums | undefined {
  return merges ? new PatchSums(grid, first.maps, row, row + 1) : undefined;
}

/**
 * The local branch over a batch of patches in the window of their row, and what becomes of its maps and of its part of
 * the aggregation: completed in mode `global-to-local`, merged and left as it is in mode `bidirectional`.
 * @returns the logits that are wanted
 */
export function runBatch(
  { networks, first }: Site,
  window: Tensor,
  args: {
    mode: Mode;
    turn: number;
    grid: PatchGrid;
    patches: readonly number[];
    wanted: readonly LocalOutput[];
    /** Of the row. */
    sums: PatchSums | undefined;
  },
): RowBatch['logits'] {
  const { mode, turn, grid, patches, wanted, sums } = args;
  const left = grid.columns[0]!;
  const body = (): RowBatch['logits'] => {
    const x = decodePatches({
      x: window,
      tops: patches.map(() => 0),
      lefts: patches.map((patch) => patchRect(grid, patch).left - left),
      height: grid.patch,
      width: grid.patch,
      turn,
      dtype: networks.precision,
    });
    const share = shareWithPatches(first.maps, grid, patches);
    const take: TakeMap | undefined = sums && ((stage, level, map) => sums.add(stage, level, map, patches));
    const outputs = runLocal(networks, x, share, wanted, take);
    const half = outputs.ensemble;
    if (!half || mode === 'bidirectional') return outputs;
    return { ...outputs, ensemble: networks.ensemble!.addGlobal(half, first.ps3!, grid, patches) };
  };
  const queue = () => networks.device.scope(body);
  const graph = networks.graph?.(patches.length);
  return graph ? graph.run(queue) : queue();
}

/** Logits of patches, as they will be stitched. */
export function patchSource(turn: number, grid: PatchGrid, { patches, logits }: BatchLogits): StitchSource {
  const rectangles = patches.map((patch) => patchRect(grid, patch));
  return {
    logits,
    tops: rectangles.map(({ top }) => top),
    lefts: rectangles.map(({ left }) => left),
    height: grid.patch,
    width: grid.patch,
    turn,
  };
}

/** The global branch's own logits, as one patch that covers the image. */
export function wholeSource(image: Size, turn: number, logits: Tensor): StitchSource {
  const [width, height] = turnedSize(image, turn);
  return { logits, tops: [0], lefts: [0], height, width, turn };
}

export function tensorsOf({ maps, ps3 }: SharedOutput): Tensor[] {
  return [...Object.values(maps).flat(), ...(ps3 ? [ps3] : [])];
}

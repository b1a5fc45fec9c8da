/**
 * One step of each training phase, up to the gradients: forward and backward of a batch of scenes. In phases 2 and 3
 * the gradients of all batches of patches of all scenes are summed (as in the reference implementation).
 */
import type { Mode } from '../checkpoint/model-file';
import { labelsOnGrid } from '../datasets/grid';
import type { Scene as DrawnScene } from '../datasets/scenes';
import { type Output, outputsOf } from '../inference/predict';
import { swapsSides } from '../inference/turns';
import type { BranchMaps, PyramidOutput } from '../models/fpn';
import { stages } from '../models/fpn';
import { cropsOf, Merger, PatchSums, shareMerged, shareWithPatches, zerosLike } from '../models/glnet';
import type { Levels } from '../models/resnet';
import { accumulate } from '../tensor/accumulate';
import { argmax } from '../tensor/argmax';
import type { Tape } from '../tensor/autograd';
import { cropResize } from '../tensor/crop-resize';
import { decodePatches } from '../tensor/decode-patches';
import type { Device } from '../tensor/device';
import { mse } from '../tensor/mse';
import { sumOfSquares } from '../tensor/sum-of-squares';
import type { Tensor } from '../tensor/tensor';
import { triangleResize } from '../tensor/triangle-resize';
import { type PatchGrid, patchGrid, patchRect } from '../tiling';
import { computeLoss, type LossTerm } from './losses';
import type { TrainingNetworks } from './networks';

/** An image, or a part of one, with its labels. */
export type Scene = Pick<DrawnScene, 'id' | 'width' | 'height' | 'pixels' | 'labels' | 'turn'>;

/** Which output a loss belongs to; `feature` is the regulariser. */
export type LossKind = 'global' | 'local' | 'ensemble' | 'feature';

/** What each phase minimises. */
export const defaultTerms: Readonly<Record<Mode, readonly LossKind[]>> = {
  global: ['global'],
  'global-to-local': ['local', 'ensemble', 'feature'],
  bidirectional: ['global', 'ensemble'],
};

/** A loss as it was computed: a tensor [1], to be disposed of. */
export interface ComputedLoss {
  readonly kind: LossKind;
  readonly value: Tensor;
  /** Of the phase's own output: the labels predicted, uint8, to be disposed of, and the true ones. */
  readonly predicted?: Tensor;
  readonly truth?: Uint8Array;
}

/** The output that a phase is about: the prediction of its mode, or where that is not trained, one that is. */
export function mainOutput(phase: Mode, terms: readonly LossKind[]): Output {
  const trained = outputsOf(phase).filter((output) => terms.includes(output));
  return trained[0] ?? outputsOf(phase)[0]!;
}

export interface PhaseOptions {
  /** Sides in pixels, multiples of 4. */
  readonly patch: number;
  readonly globalSize: number;
  /** The most patches at a time. */
  readonly patchBatch: number;
  readonly losses: readonly LossTerm[];
  /** The label that does not count. */
  readonly ignored: number;
  /** [K], float32. */
  readonly classWeights?: Tensor | undefined;
  /** λ of the feature regulariser. */
  readonly lambda: number;
  /** What counts, see {@link defaultTerms}. */
  readonly terms: readonly LossKind[];
  /** Chooses the patches of a scene that are trained on, in ascending order; all of them if not given. */
  readonly choosePatches?: ((scene: Scene, grid: PatchGrid) => readonly number[]) | undefined;
  /** Lays the patches; over the whole scene if not given. No patches if undefined is returned. */
  readonly layPatches?: ((scene: Scene, width: number, height: number) => PatchGrid | undefined) | undefined;
  readonly onPatches?: ((done: number) => void) | undefined;
  /** Awaited when the work of a stage is queued, for benchmarks. */
  readonly onStage?: ((stage: StepStage) => Promise<void>) | undefined;
}

/** What a step does: bring scenes to the device, run the fixed branches, and the trained one both ways. */
export const stepStages = ['data', 'fixed', 'forward', 'backward'] as const;
export type StepStage = (typeof stepStages)[number];

/** Bytes of the local branch's ps3 of all patches of a batch of scenes that phase 3 keeps rather than computes twice. */
const keptBytes = 512 << 20;

/** A scene on the device. */
interface Placed {
  readonly scene: Scene;
  /** [H, W, 3], uint8, not turned. */
  readonly pixels: Tensor;
  /** Over the turned scene; undefined if no patch is wanted. */
  readonly grid: PatchGrid | undefined;
  /** Patches that are trained on. */
  readonly patches: readonly number[];
}

export class PhaseStep {
  readonly #networks: TrainingNetworks;
  readonly #options: PhaseOptions;
  readonly #device: Device;
  readonly #tape: Tape;

  /** @param tape watches the trained parameters: their gradients are added to */
  constructor(networks: TrainingNetworks, tape: Tape, options: PhaseOptions) {
    this.#networks = networks;
    this.#options = options;
    this.#device = networks.device;
    this.#tape = tape;
  }

  /**
   * Adds the gradients of a batch of scenes to the parameters'.
   * @returns the losses in the order in which they were computed
   */
  async accumulate(scenes: readonly Scene[]): Promise<ComputedLoss[]> {
    const losses: ComputedLoss[] = [];
    try {
      if (this.#networks.phase === 'global') await this.#global(scenes, losses);
      else if (this.#networks.phase === 'global-to-local') await this.#globalToLocal(scenes, losses);
      else await this.#bidirectional(scenes, losses);
      return losses;
    } catch (error) {
      this.#tape.clear();
      disposeLosses(losses);
      throw error;
    }
  }

  /** Repeats a step to find the first layer whose output is not finite. The gradients are of no use afterwards. */
  async firstNotFinite(scenes: readonly Scene[]): Promise<string | undefined> {
    const outputs: { layer: string; squares: Tensor }[] = [];
    this.#device.probe = (layer, output) => {
      const squares = sumOfSquares([output]);
      this.#device.forget(squares);
      outputs.push({ layer, squares });
    };
    try {
      disposeLosses(await this.accumulate(scenes));
    } finally {
      this.#device.probe = undefined;
    }
    let found: string | undefined;
    for (const { layer, squares } of outputs) {
      if (!found && !Number.isFinite((await squares.data())[0]!)) found = layer;
      squares.dispose();
    }
    return found;
  }

  /** Phase 1: the global branch alone, all scenes at once. */
  async #global(scenes: readonly Scene[], losses: ComputedLoss[]): Promise<void> {
    const { global } = this.#networks.networks;
    using images = this.#globalImages(scenes);
    const labels = this.#labels(
      scenes.map((scene) => ({ scene, window: wholeOf(scene) })),
      this.#globalGrid,
    );
    await this.#options.onStage?.('data');
    const { maps, ps3 } = this.#tape.run(() => global.forward(images));
    disposeMaps(maps);
    const logits = this.#tape.run(() => global.classify(ps3));
    ps3.dispose();
    this.#seedLoss('global', logits, labels, losses);
    logits.dispose();
    labels.tensor.dispose();
    await this.#options.onStage?.('forward');
    this.#tape.backward();
    await this.#device.synchronize();
    await this.#options.onStage?.('backward');
  }

  /** Phase 2: the local branch, which takes in the maps of the fixed global branch. */
  async #globalToLocal(scenes: readonly Scene[], losses: ComputedLoss[]): Promise<void> {
    const { global, local, ensemble } = this.#networks.networks;
    const { terms, lambda, patchBatch } = this.#options;
    const tape = this.#tape;
    for (const scene of scenes) {
      const placed = this.#place(scene);
      const { grid, patches } = placed;
      if (grid && patches.length > 0) {
        using image = this.#globalImages([scene]);
        await this.#options.onStage?.('data');
        const fixed = global.forward(image);
        await this.#options.onStage?.('fixed');
        for (const batch of batches(patches, patchBatch)) {
          const x = this.#decode(placed, grid, batch);
          const labels = this.#patchLabels(scene, grid, batch);
          await this.#options.onStage?.('data');
          this.#device.scope(() => {
            const share = shareWithPatches(fixed.maps, grid, batch);
            const { maps, ps3 } = tape.run(() => local!.forward(x, share));
            disposeMaps(maps);
            if (terms.includes('local')) {
              const logits = tape.run(() => local!.classify(ps3));
              this.#seedLoss('local', logits, labels, losses);
            }
            if (terms.includes('ensemble')) {
              const logits = tape.run(() =>
                ensemble!.addGlobal(ensemble!.local(ps3), fixed.ps3, grid, batch),
              );
              this.#seedLoss('ensemble', logits, labels, losses);
            }
            if (terms.includes('feature')) {
              const target = cropResize([
                { ...cropsOf(fixed.ps3, grid, batch), sizes: [ps3.dim(1), ps3.dim(2)] },
              ]);
              const { loss, gradient } = mse(ps3, target, lambda);
              this.#device.forget(loss);
              losses.push({ kind: 'feature', value: loss });
              tape.seed(ps3, gradient);
            }
          });
          x.dispose();
          labels.tensor.dispose();
          await this.#options.onStage?.('forward');
          tape.backward();
          await this.#device.synchronize();
          await this.#options.onStage?.('backward');
          this.#options.onPatches?.(batch.length);
        }
        disposeOutput(fixed);
      }
      placed.pixels.dispose();
    }
  }

  /** Phase 3: the global branch, which takes in the merged maps of the fixed local branch. */
  async #bidirectional(scenes: readonly Scene[], losses: ComputedLoss[]): Promise<void> {
    const { global, local, globalExt, ensemble } = this.#networks.networks;
    const { terms, patchBatch } = this.#options;
    const device = this.#device;
    const tape = this.#tape;

    // The fixed branches' maps: those for sharing, the merged ones of each scene, and ps3 of its patches.
    const placed = scenes.map((scene) => this.#place(scene));
    const fixed: PyramidOutput[] = [];
    const merged: BranchMaps[] = [];
    const kept = new Map<string, Tensor>();
    const trainsOnPatches = terms.includes('ensemble');
    const localOutput = (at: number, batch: readonly number[]): PyramidOutput => {
      const { grid } = placed[at]!;
      using x = this.#decode(placed[at]!, grid!, batch);
      return local!.forward(x, shareWithPatches(fixed[at]!.maps, grid!, batch));
    };
    let bytes = 0;
    for (const [i, { grid, scene }] of placed.entries()) {
      using image = this.#globalImages([scene]);
      fixed.push(global.forward(image));
      if (!grid) {
        merged.push(zerosLike(fixed[i]!.maps));
        continue;
      }
      const sums = new PatchSums(grid, fixed[i]!.maps);
      for (const batch of batches(range(grid.count), patchBatch)) {
        const { maps, ps3 } = localOutput(i, batch);
        sums.addAll(maps, batch);
        disposeMaps(maps);
        bytes += 4 * ps3.size;
        const isKept = trainsOnPatches && placed[i]!.patches.length === grid.count && bytes <= keptBytes;
        if (isKept) kept.set(`${i} ${batch[0]}`, ps3);
        else ps3.dispose();
        await device.synchronize();
      }
      // Outside the patches they are zero.
      merged.push(zerosLike(fixed[i]!.maps));
      new Merger(grid, merged[i]!).settle(sums);
    }
    await this.#options.onStage?.('fixed');

    using images = this.#globalImages(scenes);
    const labels = this.#labels(
      scenes.map((scene) => ({ scene, window: wholeOf(scene) })),
      this.#globalGrid,
    );
    const whole = stackMaps(merged);
    if (merged.length > 1) merged.forEach(disposeMaps);
    const { maps, ps3 } = tape.run(() => globalExt!.forward(images, shareMerged(whole)));
    disposeMaps(maps);
    disposeMaps(whole);
    if (terms.includes('global')) {
      const logits = tape.run(() => globalExt!.classify(ps3));
      this.#seedLoss('global', logits, labels, losses);
      logits.dispose();
    }
    labels.tensor.dispose();
    await this.#options.onStage?.('forward');

    // The ensemble's terms, patches by patches; what they say of ps3 is collected for each scene, and then goes back
    // through the global branch once.
    const mark = tape.length;
    const gradient = device.zeros(ps3.shape, 'float32');
    for (const [i, { grid, patches, scene }] of placed.entries()) {
      const part = ps3.part(i);
      tape.watch(part);
      for (const batch of grid && trainsOnPatches ? batches(patches, patchBatch) : []) {
        const key = `${i} ${batch[0]}`;
        let own = kept.get(key);
        kept.delete(key);
        if (!own) {
          const output = localOutput(i, batch);
          disposeMaps(output.maps);
          own = output.ps3;
        }
        device.scope(() => {
          const patchLabels = this.#patchLabels(scene, grid!, batch);
          const logits = tape.run(() => ensemble!.addGlobal(ensemble!.local(own), part, grid!, batch));
          this.#seedLoss('ensemble', logits, patchLabels, losses);
        });
        own.dispose();
        tape.backward(mark);
        await device.synchronize();
        this.#options.onPatches?.(batch.length);
      }
      const sum = tape.watch(part).take();
      if (sum) {
        using target = gradient.part(i);
        accumulate(target, sum);
        sum.dispose();
      }
      part.dispose();
      disposeOutput(fixed[i]!);
    }
    tape.seed(ps3, gradient);
    ps3.dispose();
    tape.backward();
    for (const { pixels } of placed) pixels.dispose();
    await device.synchronize();
    await this.#options.onStage?.('backward');
  }

  get #globalGrid(): number {
    return this.#options.globalSize / 4;
  }

  #place(scene: Scene): Placed {
    const { patch, layPatches, choosePatches } = this.#options;
    const [width, height] = turnedSize(scene);
    const grid = layPatches ? layPatches(scene, width, height) : patchGrid(width, height, patch);
    const patches = grid ? (choosePatches?.(scene, grid) ?? range(grid.count)) : [];
    return { scene, pixels: this.#upload(scene), grid, patches };
  }

  #upload(scene: Scene): Tensor {
    return this.#device.upload(scene.pixels, [scene.height, scene.width, 3], 'uint8');
  }

  /** The scenes, whole, at the global branch's size and turned: [scenes, g, g, 3] in [0, 1]. */
  #globalImages(scenes: readonly Scene[]): Tensor {
    const { globalSize } = this.#options;
    const device = this.#device;
    return device.scope(() => {
      const images = scenes.map((scene) => {
        using x = this.#upload(scene);
        using sum = device.zeros([globalSize, globalSize, 3], 'int32');
        using small = triangleResize({ x, sum, row: 0, imageHeight: scene.height });
        return decodePatches({
          x: small,
          tops: [0],
          lefts: [0],
          height: globalSize,
          width: globalSize,
          turn: scene.turn,
        });
      });
      return stack(images);
    });
  }

  /** Patches of a scene: [patches, p, p, 3] in [0, 1]. */
  #decode({ scene, pixels }: Placed, grid: PatchGrid, patches: readonly number[]): Tensor {
    const rects = patches.map((patch) => patchRect(grid, patch));
    return decodePatches({
      x: pixels,
      tops: rects.map(({ top }) => top),
      lefts: rects.map(({ left }) => left),
      height: grid.patch,
      width: grid.patch,
      turn: scene.turn,
    });
  }

  #patchLabels(scene: Scene, grid: PatchGrid, patches: readonly number[]): Labels {
    const windows = patches.map((patch) => ({ scene, window: patchRect(grid, patch) }));
    return this.#labels(windows, grid.patch / 4);
  }

  /** Labels of windows of turned scenes, by nearest neighbour: [windows, side, side]. */
  #labels(
    windows: readonly {
      scene: Scene;
      window: { top: number; left: number; width: number; height: number };
    }[],
    side: number,
  ): Labels {
    const all = new Uint8Array(windows.length * side * side);
    for (const [i, { scene, window }] of windows.entries()) {
      const { labels, width, height, turn } = scene;
      all.set(labelsOnGrid(labels, width, height, turn, window, side, side), i * side * side);
    }
    return { values: all, tensor: this.#device.upload(all, [windows.length, side, side], 'uint8') };
  }

  #seedLoss(kind: LossKind, logits: Tensor, labels: Labels, losses: ComputedLoss[]): void {
    const { loss, gradient } = computeLoss(this.#options.losses, logits, labels.tensor, this.#options);
    this.#device.forget(loss);
    this.#tape.seed(logits, gradient);
    if (kind === mainOutput(this.#networks.phase, this.#options.terms)) {
      const predicted = argmax(logits);
      this.#device.forget(predicted);
      losses.push({ kind, value: loss, predicted, truth: labels.values });
    } else {
      losses.push({ kind, value: loss });
    }
  }
}

/** Labels on the device and on the host. */
interface Labels {
  readonly tensor: Tensor;
  readonly values: Uint8Array;
}

function disposeLosses(losses: readonly ComputedLoss[]): void {
  for (const { value, predicted } of losses) {
    value.dispose();
    predicted?.dispose();
  }
}

function turnedSize({ width, height, turn }: Scene): [number, number] {
  return swapsSides(turn) ? [height, width] : [width, height];
}

function wholeOf(scene: Scene): { top: number; left: number; width: number; height: number } {
  const [width, height] = turnedSize(scene);
  return { top: 0, left: 0, width, height };
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

function* batches(patches: readonly number[], size: number): Generator<readonly number[]> {
  for (let i = 0; i < patches.length; i += size) yield patches.slice(i, i + size);
}

/** Joins tensors of one shape, [1, …], along their first dimension; a single one is returned as it is. */
function stack(items: readonly Tensor[]): Tensor {
  const [first] = items;
  if (items.length === 1) return first!;
  const whole = first!.device.zeros([items.length, ...first!.shape.slice(1)], 'float32');
  for (const [i, item] of items.entries()) {
    using part = whole.part(i);
    accumulate(part, item);
  }
  return whole;
}

function stackMaps(items: readonly BranchMaps[]): BranchMaps {
  const levels = [0, 1, 2, 3] as const;
  return Object.fromEntries(
    stages.map((stage) => [
      stage,
      levels.map((level) => stack(items.map((maps) => maps[stage][level]))) as unknown as Levels<Tensor>,
    ]),
  ) as unknown as BranchMaps;
}

function disposeMaps(maps: BranchMaps): void {
  for (const map of Object.values(maps).flat()) map.dispose();
}

function disposeOutput({ maps, ps3 }: PyramidOutput): void {
  disposeMaps(maps);
  ps3.dispose();
}

/** Single steps of the training phases, with the golden data's weights and small scenes. */
import type { Mode, ModelConfig } from '../../src/checkpoint/model-file';
import { fromFloat32, type HostTensor, type StateDict } from '../../src/checkpoint/state-dict';
import { branchParameters, expectedParameters } from '../../src/models/parameters';
import type { Trained } from '../../src/nn/optimisers';
import { Tape } from '../../src/tensor/autograd';
import type { Device } from '../../src/tensor/device';
import { TrainingNetworks } from '../../src/training/networks';
import {
  type ComputedLoss,
  defaultTerms,
  type LossKind,
  type PhaseOptions,
  PhaseStep,
  type Scene,
} from '../../src/training/phases';
import { trainedOf } from '../../src/training/trainer';
import { goldenImage, goldenValues } from './golden';

/** ResNet-18 at 1/16 width: a step on scenes of some 100 px takes hundredths of a second. */
export const narrowConfig: ModelConfig = {
  backbone: 'resnet18',
  width: 1 / 16,
  fpn: { channels: 4, smooth: 4 },
  classes: [
    { name: 'background', color: [0, 0, 0] },
    { name: 'one', color: [255, 0, 0] },
    { name: 'two', color: [0, 255, 0] },
  ],
  patch: 64,
  global: 64,
  modes: ['global', 'global-to-local', 'bidirectional'],
};

/** A phase that is ready to step. */
export interface PreparedPhase extends Disposable {
  readonly networks: TrainingNetworks;
  readonly tape: Tape;
  readonly trained: readonly Trained[];
  readonly step: PhaseStep;
}

export interface PhaseSetup extends Partial<PhaseOptions> {
  /** Of the formula that the weights follow; default 1. */
  readonly seed?: number;
  /** Likewise for the fixed global branch; default as `seed`. */
  readonly fixedSeed?: number;
  readonly checkpointing?: boolean;
  /** Changes the values of what is trained before it goes to the device. */
  readonly change?: (parameters: StateDict) => void;
}

function goldenState(
  shapes: ReadonlyMap<string, readonly number[]>,
  seed: number,
  prefix = '',
): Map<string, HostTensor> {
  return new Map(
    Array.from(shapes, ([name, shape]) => [
      prefix + name,
      fromFloat32(shape, goldenValues(name, shape, seed)),
    ]),
  );
}

/** Builds a phase; what is not given is as in the paper, patches two at a time. */
export async function preparePhase(
  device: Device,
  config: ModelConfig,
  phase: Mode,
  { seed = 1, fixedSeed = seed, checkpointing = false, change, ...options }: PhaseSetup = {},
): Promise<PreparedPhase> {
  const weights: StateDict = new Map([
    ...goldenState(branchParameters(config, 'global'), fixedSeed, 'global.'),
    ...goldenState(branchParameters(config, 'local'), seed, 'global-to-local.'),
  ]);
  const own = goldenState(expectedParameters(config, phase), seed);
  change?.(own);
  const networks = await TrainingNetworks.create(device, config, phase, own, weights);
  const tape = new Tape(device, { checkpointing });
  const trained = trainedOf(networks, tape);
  const step = new PhaseStep(networks, tape, {
    patch: config.patch,
    globalSize: config.global,
    patchBatch: 2,
    losses: [{ type: 'focal', gamma: 6 }],
    ignored: 255,
    lambda: 0.15,
    terms: defaultTerms[phase],
    ...options,
  });
  return {
    networks,
    tape,
    trained,
    step,
    [Symbol.dispose]() {
      for (const { gradient } of trained) gradient.take()?.dispose();
      networks.dispose();
    },
  };
}

/** The golden data's image with labels of three classes and some that do not count. */
export function goldenScene(width: number, height: number, seed: number, turn = 0): Scene {
  const labels = Uint8Array.from({ length: width * height }, (_, i) => {
    const [x, y] = [i % width, Math.floor(i / width)];
    return (x + y) % 37 === 0 ? 255 : ((x >> 4) + 2 * (y >> 4) + seed) % 3;
  });
  return { id: `scene ${seed}`, pixels: goldenImage(width, height, seed), labels, width, height, turn };
}

/** The values of losses, in their order; disposes of them. */
export async function readLosses(
  losses: readonly ComputedLoss[],
): Promise<{ kind: LossKind; value: number }[]> {
  const values: { kind: LossKind; value: number }[] = [];
  for (const { kind, value, predicted } of losses) {
    values.push({ kind, value: ((await value.data()) as Float32Array)[0]! });
    value.dispose();
    predicted?.dispose();
  }
  return values;
}

/** Every gradient there is, by parameter; they stay where they are. */
export async function readGradients(trained: readonly Trained[]): Promise<Map<string, Float32Array>> {
  const gradients = new Map<string, Float32Array>();
  for (const { name, gradient } of trained) {
    if (gradient.value) gradients.set(name, (await gradient.value.data()) as Float32Array);
  }
  return gradients;
}

export function norm(values: Iterable<number>): number {
  let sum = 0;
  for (const value of values) sum += value * value;
  return Math.sqrt(sum);
}

/** The norm of the difference of two lists, as a share of the norm of the second. */
export function distance(got: ArrayLike<number>, expected: ArrayLike<number>): number {
  const difference = Float64Array.from(expected, (value, i) => got[i]! - value);
  return norm(difference) / norm(Array.from(expected));
}

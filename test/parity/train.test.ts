/** One training step of each phase against the reference's losses, gradients and parameters after the step. */
import path from 'node:path';
import type { Mode } from '../../src/checkpoint/model-file';
import { toFloat32 } from '../../src/checkpoint/state-dict';
import { Optimiser } from '../../src/nn/optimisers';
import { readIndexMask } from '../../src/raster/index-mask';
import { openRaster } from '../../src/raster/raster';
import { Device, type DeviceKind } from '../../src/tensor/device';
import type { Scene } from '../../src/training/phases';
import { gradientNorms } from '../../src/training/trainer';
import { fixtures, goldenValues, readJson } from '../support/golden';
import { norm, preparePhase, readLosses } from '../support/phases';

interface TrainCase {
  images: string[];
  labels: string[];
  patch: number;
  global: number;
  subBatch: number;
  classes: number;
  weightsSeed: number;
  fixedGlobalWeightsSeed: number;
  gamma: number;
  learningRate: number;
  weightDecay: number;
  lambda: number;
  focalLossesInOrder: number[];
  mseInOrder: number[];
  gradNorms: Record<string, number>;
  paramNormsAfterStep: Record<string, number>;
}
const cases = readJson<{ train: Record<string, TrainCase> }>('golden.json').train;
const phases: Record<string, Mode> = {
  'train-global': 'global',
  'train-local': 'global-to-local',
  'train-global-from-local': 'bidirectional',
};

// GLNET_TEST_DEVICE=cuda compares a GPU.
let device: Device;
beforeAll(() => {
  device = new Device({ kind: (process.env.GLNET_TEST_DEVICE ?? 'cpu') as DeviceKind });
});
afterAll(() => device.dispose());

async function sceneOf(image: string, label: string): Promise<Scene> {
  const raster = await openRaster(path.join(fixtures, image));
  const { width, height } = raster;
  const pixels = await raster.readWindow({ left: 0, top: 0, width, height });
  await raster.close();
  const { labels } = await readIndexMask(path.join(fixtures, label));
  return { id: image, pixels, labels, width, height, turn: 0 };
}

/** Names whose values differ by more than `limit`, relative to the expected ones, with both. */
function differing(
  got: ReadonlyMap<string, number>,
  expected: Record<string, number>,
  limit: number,
): string[] {
  return Object.entries(expected)
    .filter(([name, value]) => !(Math.abs((got.get(name) ?? Number.NaN) - value) <= limit * Math.abs(value)))
    .map(([name, value]) => `${name}: ${got.get(name)}, expected ${value}`);
}

test.each(Object.keys(cases))('%s', async (name) => {
  const golden = cases[name]!;
  const phase = phases[name]!;
  const { weightsSeed, fixedGlobalWeightsSeed, patch, global, learningRate, weightDecay } = golden;
  const config = {
    backbone: 'resnet50',
    width: 1,
    fpn: { channels: 256, smooth: 128 },
    classes: Array.from({ length: golden.classes }, (_, i) => ({
      name: `class ${i}`,
      color: [i, i, i] as const,
    })),
    patch,
    global,
    modes: [phase],
  } as const;
  using prepared = await preparePhase(device, config, phase, {
    seed: weightsSeed,
    fixedSeed: phase === 'bidirectional' ? fixedGlobalWeightsSeed : weightsSeed,
    patchBatch: golden.subBatch,
    losses: [{ type: 'focal', gamma: golden.gamma }],
    lambda: golden.lambda,
  });
  const { networks, trained, step } = prepared;
  const scenes = await Promise.all(golden.images.map((image, i) => sceneOf(image, golden.labels[i]!)));
  const losses = await readLosses(await step.accumulate(scenes));
  const focal = losses.filter(({ kind }) => kind !== 'feature').map(({ value }) => value);
  const feature = losses.filter(({ kind }) => kind === 'feature').map(({ value }) => value / golden.lambda);
  const close = (got: number[], expected: number[]) => {
    expect(got).toHaveLength(expected.length);
    got.forEach((value, i) => {
      expect(Math.abs(value / expected[i]! - 1)).toBeLessThan(1e-4);
    });
  };
  close(focal, golden.focalLossesInOrder);
  close(feature, golden.mseInOrder);
  expect(differing(await gradientNorms(trained), golden.gradNorms, 1e-2)).toEqual([]);

  const optimiser = new Optimiser({ type: 'adam', weightDecay }, device, trained);
  optimiser.step(learningRate);
  const after = new Map<string, number>();
  for (const [parameter, host] of await networks.state()) {
    after.set(parameter, norm(toFloat32(host)));
  }
  // What is not trained in this phase stays as it was.
  const shapes = readJson<Record<string, number[]>>('parameters.json');
  const expected = Object.fromEntries(
    Object.entries(golden.paramNormsAfterStep).filter(
      ([parameter]) => !parameter.endsWith('num_batches_tracked'),
    ),
  );
  for (const parameter of Object.keys(expected)) {
    if (!after.has(parameter)) {
      after.set(parameter, norm(goldenValues(parameter, shapes[parameter]!, weightsSeed)));
    }
  }
  expect(differing(after, expected, 1e-4)).toEqual([]);

  optimiser.dispose();
  prepared[Symbol.dispose]();
  await device.synchronize();
  expect(device.memory().tensors).toBe(0);
});

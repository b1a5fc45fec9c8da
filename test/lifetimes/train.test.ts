/** A training step gives back all that it takes, whatever it minimises. */
import type { Mode } from '../../src/checkpoint/model-file';
import { randomWeights, smallConfig } from '../../src/cli/self-test';
import { Tape } from '../../src/tensor/autograd';
import { Device } from '../../src/tensor/device';
import { firstWeights, TrainingNetworks } from '../../src/training/networks';
import { type LossKind, PhaseStep, type Scene } from '../../src/training/phases';
import { trainedOf } from '../../src/training/trainer';
import { goldenImage } from '../support/golden';

const [width, height] = [100, 80];
const scene: Scene = {
  id: 'scene',
  width,
  height,
  pixels: goldenImage(width, height, 1),
  labels: new Uint8Array(width * height).map((_, i) => i % 3),
  turn: 5,
};

const cases: [Mode, LossKind[]][] = [
  ['global', ['global']],
  ['global-to-local', ['local', 'ensemble', 'feature']],
  ['global-to-local', ['feature']],
  ['bidirectional', ['global', 'ensemble']],
  ['bidirectional', ['ensemble']],
  ['bidirectional', ['global']],
];

test.each(cases)('%s, %j', async (phase, terms) => {
  using device = new Device();
  const weights = randomWeights(smallConfig, 1);
  const own = firstWeights(smallConfig, phase, weights, 1);
  const networks = await TrainingNetworks.create(device, smallConfig, phase, own, weights);
  const tape = new Tape(device);
  const trained = trainedOf(networks, tape);
  const step = new PhaseStep(networks, tape, {
    patch: 64,
    globalSize: 64,
    patchBatch: 3,
    losses: [{ type: 'focal' }, { type: 'dice' }],
    ignored: 255,
    lambda: 0.15,
    terms,
  });
  const bytesAfter = async (): Promise<number> => {
    for (const { value, predicted } of await step.accumulate([scene, scene])) {
      value.dispose();
      predicted?.dispose();
    }
    for (const { gradient } of trained) gradient.take()?.dispose();
    return device.memory().active;
  };
  // The first step makes copies of weights in layouts of the kernels', which stay.
  const before = await bytesAfter();
  expect(await bytesAfter()).toBe(before);
  networks.dispose();
  expect(device.memory().active).toBe(0);
  expect(device.leaks).toBe(0);
});

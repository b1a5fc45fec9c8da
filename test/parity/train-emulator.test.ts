/**
 * One training step of each phase with the CUDA kernels, on the emulator, against the CPU's. Where rounding puts an
 * activation on the other side of a ReLU's kink, gradients of a narrow network jump by percents, on the CPU as on the
 * emulator, measured from the plain version; with these weights none does.
 */
import { allModes, type Mode } from '../../src/checkpoint/model-file';
import { toFloat32 } from '../../src/checkpoint/state-dict';
import { Optimiser } from '../../src/nn/optimisers';
import { Device, type DeviceKind } from '../../src/tensor/device';
import type { LossKind } from '../../src/training/phases';
import {
  distance,
  goldenScene,
  narrowConfig,
  preparePhase,
  readGradients,
  readLosses,
} from '../support/phases';

interface Step {
  losses: { kind: LossKind; value: number }[];
  gradients: Map<string, Float32Array>;
  parameters: Map<string, Float32Array>;
}

// Adam's first step goes by the sign of a gradient; this epsilon makes it depend on small ones smoothly.
const adam = { type: 'adam', weightDecay: 5e-4, epsilon: 1e-4 } as const;

async function stepOn(kind: DeviceKind, phase: Mode): Promise<Step> {
  using device = new Device({ kind });
  using prepared = await preparePhase(device, narrowConfig, phase, {
    seed: 3,
    fixedSeed: 4,
  });
  const { networks, step, trained } = prepared;
  const scenes = [goldenScene(90, 64, 5, 3), goldenScene(60, 70, 6)];
  const losses = await readLosses(await step.accumulate(scenes));
  const gradients = await readGradients(trained);
  const optimiser = new Optimiser(adam, device, trained);
  optimiser.step(1e-2);
  const state = await networks.state();
  optimiser.dispose();
  return {
    losses,
    gradients,
    parameters: new Map(Array.from(state, ([name, host]) => [name, toFloat32(host)])),
  };
}

/** The worst of some differences; not a number if one is not. */
function worst(differences: Iterable<number>): number {
  return Math.max(...differences);
}

test.each(allModes)('phase %s', async (phase) => {
  const expected = await stepOn('cpu', phase);
  const got = await stepOn('emulator', phase);

  expect(got.losses.map(({ kind }) => kind)).toEqual(expected.losses.map(({ kind }) => kind));
  const losses = worst(expected.losses.map(({ value }, i) => Math.abs(got.losses[i]!.value / value - 1)));
  expect(losses).toBeLessThan(1e-4);

  expect(expected.gradients.size).toBeGreaterThan(60);
  expect([...got.gradients.keys()]).toEqual([...expected.gradients.keys()]);
  const gradients = worst(
    Array.from(expected.gradients, ([name, values]) => distance(got.gradients.get(name)!, values)),
  );
  // Other kernels sum in another order; equal gradients would mean that one device was compared with itself.
  expect(gradients).toBeGreaterThan(0);
  expect(gradients).toBeLessThan(1e-2);

  const parameters = worst(
    Array.from(expected.parameters, ([name, values]) => distance(got.parameters.get(name)!, values)),
  );
  expect(parameters).toBeLessThan(5e-3);
  const found = Object.entries({ losses, gradients, parameters });
  const text = found.map(([what, difference]) => `${what} by ${difference.toExponential(1)}`).join(', ');
  console.log(`${phase}: the emulator differs in ${text}`);
});

/** The tape, against differences of whole networks in double on the reference, and what it leaves behind. */
import { Branch, Ensemble, shareWithPatches } from '../../../src/models/glnet';
import { expectedParameters, type ParameterShapes } from '../../../src/models/parameters';
import { accumulate } from '../../../src/tensor/accumulate';
import { add } from '../../../src/tensor/add';
import { type Gradient, Tape } from '../../../src/tensor/autograd';
import { cropResize } from '../../../src/tensor/crop-resize';
import { Device } from '../../../src/tensor/device';
import { mse } from '../../../src/tensor/mse';
import { relu } from '../../../src/tensor/relu';
import { resize } from '../../../src/tensor/resize';
import type { Tensor } from '../../../src/tensor/tensor';
import { patchGrid } from '../../../src/tiling';
import { goldenValues } from '../../support/golden';

const config = {
  backbone: 'resnet18',
  width: 1 / 16,
  fpn: { channels: 3, smooth: 2 },
  classes: [
    { name: 'a', color: [0, 0, 0] },
    { name: 'b', color: [255, 0, 0] },
  ],
  patch: 52,
  global: 32,
} as const;

let device: Device;
beforeEach(() => {
  device = new Device({ kind: 'reference' });
});
afterEach(() => device.dispose());

function double(values: Float32Array, shape: readonly number[]): Tensor {
  return device.upload(Float64Array.from(values), shape, 'float64');
}

function parametersOf(shapes: ParameterShapes): Map<string, Tensor> {
  return new Map(Array.from(shapes, ([name, shape]) => [name, double(goldenValues(name, shape, 3), shape)]));
}

function random(name: string, shape: readonly number[]): Tensor {
  return double(goldenValues(`${name}.weight`, shape, 5), shape);
}

const value = async (tensor: Tensor): Promise<number> => Number((await tensor.data())[0]);

/**
 * Compares the gradients of a loss with central differences, in some elements of every parameter.
 * @param forward the output that the loss, its mean square, is made of
 */
async function compare(
  tape: Tape,
  parameters: ReadonlyMap<string, Tensor>,
  forward: () => Tensor,
): Promise<void> {
  const objective = async (): Promise<number> => {
    using y = forward();
    using zeros = device.zeros(y.shape, 'float64');
    const { loss, gradient } = mse(y, zeros);
    gradient.dispose();
    const result = await value(loss);
    loss.dispose();
    return result;
  };
  const trained = new Map<string, Gradient>();
  for (const [name, tensor] of parameters) {
    if (!name.includes('running_')) trained.set(name, tape.watch(tensor));
  }
  {
    using y = tape.run(forward);
    using zeros = device.zeros(y.shape, 'float64');
    const { loss, gradient } = mse(y, zeros);
    loss.dispose();
    tape.seed(y, gradient);
  }
  tape.backward();

  const step = 1e-5;
  let compared = 0;
  for (const [name, { value: gradient }] of trained) {
    if (!gradient) continue;
    const tensor = parameters.get(name)!;
    const got = (await gradient.data()) as Float64Array;
    const i = got.length >> 1;
    const moved = async (by: number): Promise<number> => {
      const values = new Float64Array(got.length);
      values[i] = by;
      using change = device.upload(values, tensor.shape, 'float64');
      accumulate(tensor, change);
      return objective();
    };
    const above = await moved(step);
    const below = await moved(-2 * step);
    await moved(step);
    const expected = (above - below) / (2 * step);
    const scale = Math.max(...got.map(Math.abs), 1e-3);
    expect(
      `${name}: ${Math.abs(got[i]! - expected) < 1e-5 * scale ? 'right' : `${got[i]}, not ${expected}`}`,
    ).toBe(`${name}: right`);
    compared++;
    gradient.dispose();
  }
  expect(compared).toBeGreaterThan(20);
}

describe.each([false, true])('with checkpointing %s', (checkpointing) => {
  test('a global branch', async () => {
    const parameters = parametersOf(
      expectedParameters({ ...config, classes: [...config.classes] }, 'global'),
    );
    const branch = new Branch(parameters, 'resnet18', 'global');
    const x = random('x', [2, 32, 32, 3]);
    const tape = new Tape(device, { checkpointing });
    // The running statistics move with each forward pass, but have no effect on it.
    const training = new Tape(device);
    for (const [name, tensor] of parameters) if (!name.includes('running_')) training.watch(tensor);
    await compare(tape, parameters, () => {
      const { maps, ps3 } = device.tape ? branch.forward(x) : training.run(() => branch.forward(x));
      training.clear();
      for (const map of Object.values(maps).flat()) map.dispose();
      const logits = branch.classify(ps3);
      ps3.dispose();
      return logits;
    });
  });
});

test('a local branch with sharing, and the ensemble', async () => {
  const parameters = parametersOf(
    expectedParameters({ ...config, classes: [...config.classes] }, 'global-to-local'),
  );
  const fixed = parametersOf(expectedParameters({ ...config, classes: [...config.classes] }, 'global'));
  const grid = patchGrid(60, 70, config.patch);
  const global = new Branch(fixed, 'resnet18', 'global').forward(random('g', [1, 32, 32, 3]));
  const local = new Branch(parameters, 'resnet18', 'local');
  const ensemble = new Ensemble(parameters);
  const x = random('x', [2, 52, 52, 3]);
  const training = new Tape(device);
  for (const [name, tensor] of parameters) if (!name.includes('running_')) training.watch(tensor);
  const forward = (): Tensor => {
    const { maps, ps3 } = local.forward(x, shareWithPatches(global.maps, grid, [0, 3]));
    for (const map of Object.values(maps).flat()) map.dispose();
    const half = ensemble.local(ps3);
    const logits = ensemble.addGlobal(half, global.ps3, grid, [0, 3]);
    const own = local.classify(ps3);
    const sum = add(logits, own);
    for (const tensor of [ps3, half, logits, own]) tensor.dispose();
    return sum;
  };
  await compare(new Tape(device), parameters, () => {
    if (device.tape) return forward();
    const y = training.run(forward);
    training.clear();
    return y;
  });
});

test('what no watched tensor leads to is not recorded', () => {
  const tape = new Tape(device);
  using x = random('x', [1, 4, 4, 2]);
  tape.run(() => relu(x).dispose());
  expect(tape.length).toBe(0);
});

test('gradients of an op without one are refused', () => {
  const tape = new Tape(device);
  using x = random('x', [1, 4, 4, 2]);
  tape.watch(x);
  expect(() => tape.run(() => resize(x, 8, 8, 'nearest'))).toThrow('cannot be differentiated');
  expect(() => tape.run(() => cropResize([{ x }, { x }]))).toThrow('several sources together');
});

test('the walk back leaves nothing but the gradients of watched tensors', async () => {
  const tape = new Tape(device);
  const x = random('x', [1, 4, 4, 2]);
  const gradient = tape.watch(x);
  tape.run(() => {
    device.scope(() => {
      const y = relu(x);
      const z = add(y, y);
      const up = resize(z, 9, 7);
      using ones = device.zeros(up.shape, 'float64');
      const { gradient: dy } = mse(up, ones);
      tape.seed(up, dy);
    });
  });
  await device.synchronize();
  tape.backward();
  expect(gradient.value!.shape).toEqual([1, 4, 4, 2]);
  gradient.take()!.dispose();
  x.dispose();
  await device.synchronize();
  expect(device.memory().tensors).toBe(0);
});

/** Adam and gradient descent against plain versions in double, over several steps. */
import { Optimiser, type OptimiserConfig, type Trained } from '../../../src/nn/optimisers';
import { Gradient } from '../../../src/tensor/autograd';
import { Device } from '../../../src/tensor/device';
import { goldenValues } from '../../support/golden';
import { distance } from '../../support/phases';

let device: Device;
beforeEach(() => {
  device = new Device();
});
afterEach(() => device.dispose());

const shapes = { 'a.weight': [3, 2, 3, 3], 'b.bias': [5], 'c.weight': [17] } as const;
type Name = keyof typeof shapes;
const names = Object.keys(shapes) as Name[];
/** Factors on the rate and the decay of single parameters. */
const groups: Partial<Record<Name, { rate: number; decay: number }>> = { 'b.bias': { rate: 10, decay: 0 } };

function parameters(): Trained[] {
  return names.map((name) => {
    const tensor = device.upload(goldenValues(name, shapes[name], 1), shapes[name], 'float32');
    return { name, tensor, gradient: new Gradient(tensor), ...groups[name] };
  });
}

const gradientOf = (name: Name, step: number): Float32Array =>
  goldenValues(`${name}.weight`, shapes[name], 10 + step);
/** The second parameter has no gradient in the second step. */
const hasGradient = (name: Name, step: number): boolean => name !== 'b.bias' || step !== 2;

/** One number of a parameter, with its moments. */
interface Plain {
  p: number;
  first: number;
  second: number;
}
type Update = (plain: Plain, g: number, rate: number, step: number) => void;

function plainAdam([beta1, beta2]: readonly [number, number], epsilon: number): Update {
  return (plain, g, rate, step) => {
    plain.first = beta1 * plain.first + (1 - beta1) * g;
    plain.second = beta2 * plain.second + (1 - beta2) * g * g;
    const mean = plain.first / (1 - beta1 ** step);
    const square = plain.second / (1 - beta2 ** step);
    plain.p -= (rate * mean) / (Math.sqrt(square) + epsilon);
  };
}

function plainSgd(momentum: number, nesterov: boolean): Update {
  return (plain, g, rate) => {
    plain.first = momentum * plain.first + g;
    plain.p -= rate * (nesterov ? g + momentum * plain.first : plain.first);
  };
}

const cases: [string, OptimiserConfig, Update][] = [
  ['Adam', { type: 'adam', weightDecay: 0.1 }, plainAdam([0.9, 0.999], 1e-8)],
  [
    'Adam with other constants',
    { type: 'adam', betas: [0.5, 0.8], epsilon: 0.1, weightDecay: 0 },
    plainAdam([0.5, 0.8], 0.1),
  ],
  ['SGD', { type: 'sgd', weightDecay: 0.1 }, plainSgd(0.9, false)],
  ['SGD without momentum', { type: 'sgd', momentum: 0, weightDecay: 0 }, plainSgd(0, false)],
  [
    'SGD with Nesterov’s momentum',
    { type: 'sgd', momentum: 0.7, nesterov: true, weightDecay: 0.01 },
    plainSgd(0.7, true),
  ],
];
const steps = 5;
const rateOf = (step: number): number => 0.1 / step;
const scaleOf = (step: number): number => (step === 3 ? 0.5 : 1);

function take(optimiser: Optimiser, trained: readonly Trained[], step: number): void {
  for (const { name, gradient, tensor } of trained) {
    if (!hasGradient(name as Name, step)) continue;
    gradient.add(device.upload(gradientOf(name as Name, step), tensor.shape, 'float32'));
  }
  optimiser.step(rateOf(step), scaleOf(step));
}

async function valuesOf(trained: readonly Trained[]): Promise<Float32Array[]> {
  const values: Float32Array[] = [];
  for (const { tensor } of trained) values.push((await tensor.data()) as Float32Array);
  return values;
}

test.each(cases)('%s', async (_, config, update) => {
  const trained = parameters();
  const optimiser = new Optimiser(config, device, trained);
  const plain = names.map((name) =>
    Array.from(goldenValues(name, shapes[name], 1), (p) => ({ p, first: 0, second: 0 })),
  );
  for (let step = 1; step <= steps; step++) {
    const before = await valuesOf(trained);
    take(optimiser, trained, step);
    expect(optimiser.steps).toBe(step);
    const after = await valuesOf(trained);
    names.forEach((name, k) => {
      if (!hasGradient(name, step)) {
        expect(after[k]).toEqual(before[k]);
        return;
      }
      const { rate = 1, decay = 1 } = groups[name] ?? {};
      gradientOf(name, step).forEach((gradient, i) => {
        const each = plain[k]![i]!;
        const g = scaleOf(step) * gradient + config.weightDecay * decay * each.p;
        update(each, g, rateOf(step) * rate, step);
      });
      expect(
        distance(
          after[k]!,
          plain[k]!.map(({ p }) => p),
        ),
      ).toBeLessThan(1e-5);
      // It has moved by far more than that.
      expect(distance(after[k]!, before[k]!)).toBeGreaterThan(1e-3);
    });
    expect(trained.every(({ gradient }) => gradient.value === undefined)).toBe(true);
  }
  optimiser.dispose();
  for (const { tensor } of trained) tensor.dispose();
  expect(device.memory().tensors).toBe(0);
});

test.each(cases)('%s goes on where another one was, bit by bit', async (_, config) => {
  const whole = parameters();
  const first = new Optimiser(config, device, whole);
  const other = parameters();
  const begun = new Optimiser(config, device, other);
  for (const step of [1, 2]) take(begun, other, step);
  const moments = new Map(Array.from(begun.moments, ([name, tensor]) => [name, tensor.alias()]));
  expect([...moments.keys()].sort()).toEqual(
    names
      .flatMap((name) =>
        config.type === 'adam' ? [`first.${name}`, `second.${name}`] : [`momentum.${name}`],
      )
      .sort(),
  );
  const resumed = new Optimiser(config, device, other);
  resumed.restore(2, moments);
  begun.dispose();
  for (let step = 1; step <= steps; step++) {
    take(first, whole, step);
    if (step > 2) take(resumed, other, step);
  }
  expect(resumed.steps).toBe(steps);
  expect(await valuesOf(other)).toEqual(await valuesOf(whole));
});

test('moments of a parameter that is not trained are refused', () => {
  const optimiser = new Optimiser({ type: 'adam', weightDecay: 0 }, device, parameters());
  const moments = new Map([['first.d.weight', device.zeros([1], 'float32')]]);
  expect(() => optimiser.restore(1, moments)).toThrow(
    expect.objectContaining({
      code: 'ERR_CHECKPOINT',
      message: "the optimiser's state has first.d.weight, and no parameter d.weight is trained",
    }),
  );
});

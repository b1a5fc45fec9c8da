/** Weighted sums of losses. */
import { Device } from '../../../src/tensor/device';
import type { Tensor } from '../../../src/tensor/tensor';
import { computeLoss, type LossName, type LossTerm, lossNames } from '../../../src/training/losses';
import { goldenValues } from '../../support/golden';

const shape = [2, 3, 4, 3];
const [pixels, classes] = [24, 3];
const values = goldenValues('logits.weight', shape, 1).map((value) => 3 * value);
// Every fifth pixel does not count; 9 is no class.
const truth = Uint8Array.from({ length: pixels }, (_, i) => (i % 5 === 0 ? 255 : i === 7 ? 9 : (i * i) % 3));

let device: Device;
let logits: Tensor;
let labels: Tensor;
beforeEach(() => {
  device = new Device();
  logits = device.upload(values, shape, 'float32');
  labels = device.upload(truth, shape.slice(0, 3), 'uint8');
});
afterEach(() => device.dispose());

async function compute(
  terms: readonly LossTerm[],
  { weights, ignored = 255 }: { weights?: readonly number[]; ignored?: number } = {},
): Promise<{ loss: number; gradient: number[] }> {
  using classWeights = device.upload(Float32Array.from(weights ?? [1, 1, 1]), [classes], 'float32');
  const before = device.memory().tensors;
  const { loss, gradient } = computeLoss(terms, logits, labels, {
    ignored,
    ...(weights && { classWeights }),
  });
  expect(device.memory().tensors).toBe(before + 2);
  const result = { loss: (await loss.data())[0]!, gradient: Array.from(await gradient.data()) };
  loss.dispose();
  gradient.dispose();
  return result;
}

/** Softmax probability of the label; undefined where it does not count. */
function probability(pixel: number, ignored = 255): number | undefined {
  const label = truth[pixel]!;
  if (label === ignored || label >= classes) return undefined;
  const exponentials = Array.from(values.subarray(pixel * classes, (pixel + 1) * classes), Math.exp);
  return exponentials[label]! / exponentials.reduce((sum, each) => sum + each, 0);
}

test.each([
  ['focal', 2, [1, 1, 1]],
  ['focal', undefined, [1, 1, 1]],
  ['focal', 2, [0.5, 2, 0]],
  ['cross-entropy', undefined, [0.5, 2, 0]],
] as const)('%s with γ %s and class weights %j', async (type, gamma, weights) => {
  let [sum, count] = [0, 0];
  for (let i = 0; i < pixels; i++) {
    const p = probability(i);
    if (p === undefined) continue;
    const power = type === 'cross-entropy' ? 0 : (gamma ?? 6);
    sum -= weights[truth[i]!]! * (1 - p) ** power * Math.log(p);
    count += 1;
  }
  const { loss, gradient } = await compute([{ type, gamma }], { weights });
  expect(loss).toBeCloseTo(sum / count, 5);
  truth.forEach((label, i) => {
    const part = gradient.slice(i * classes, (i + 1) * classes);
    const counts = label < classes && weights[label]! > 0;
    expect(part.some((value) => value !== 0)).toBe(counts);
  });
});

test('a sum is that of its parts, each with its weight', async () => {
  const terms: LossTerm[] = [
    { type: 'focal', gamma: 1, weight: 0.25 },
    { type: 'cross-entropy', weight: 2 },
    { type: 'dice' },
    { type: 'lovasz', weight: 3 },
  ];
  const parts: Awaited<ReturnType<typeof compute>>[] = [];
  for (const { weight, ...term } of terms) parts.push(await compute([term]));
  const whole = await compute(terms);
  const factors = terms.map(({ weight = 1 }) => weight);
  expect(whole.loss).toBeCloseTo(
    parts.reduce((sum, { loss }, k) => sum + factors[k]! * loss, 0),
    5,
  );
  whole.gradient.forEach((value, i) => {
    expect(value).toBeCloseTo(
      parts.reduce((sum, { gradient }, k) => sum + factors[k]! * gradient[i]!, 0),
      6,
    );
  });
});

test.each(lossNames.filter((name): name is Exclude<LossName, 'lovasz'> => name !== 'lovasz'))(
  'class weights reach %s',
  async (type) => {
    const even = await compute([{ type }]);
    const other = await compute([{ type }], { weights: [3, 1, 0.1] });
    expect(Math.abs(other.loss - even.loss)).toBeGreaterThan(1e-3);
  },
);

test.each(lossNames)(
  '%s: what does not count has no gradient, and nothing that counts is a loss of 0',
  async (type) => {
    const { gradient } = await compute([{ type }]);
    for (const pixel of [0, 5, 7])
      expect(gradient.slice(pixel * classes, (pixel + 1) * classes)).toEqual([0, 0, 0]);
    // With another ignored label fewer pixels count.
    const fewer = await compute([{ type }], { ignored: 1 });
    const first = truth.indexOf(1);
    expect(fewer.gradient.slice(first * classes, (first + 1) * classes)).toEqual([0, 0, 0]);

    labels.dispose();
    labels = device.upload(
      truth.map(() => 255),
      shape.slice(0, 3),
      'uint8',
    );
    const none = await compute([{ type }]);
    expect(none.loss).toBe(0);
    expect(none.gradient.every((value) => value === 0)).toBe(true);
  },
);

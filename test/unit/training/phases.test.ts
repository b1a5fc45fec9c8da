/** Steps of the phases: which patches they take, what they leave behind, and what checkpointing changes. */
import { allModes, type Mode } from '../../../src/checkpoint/model-file';
import { toFloat32 } from '../../../src/checkpoint/state-dict';
import { Device } from '../../../src/tensor/device';
import { boxGrid } from '../../../src/tiling';
import { type ComputedLoss, type LossKind, mainOutput, type Scene } from '../../../src/training/phases';
import {
  distance,
  goldenScene,
  narrowConfig,
  type PhaseSetup,
  preparePhase,
  readGradients,
  readLosses,
} from '../../support/phases';

let device: Device;
beforeEach(() => {
  device = new Device();
});
afterEach(() => device.dispose());

type Losses = { kind: LossKind; value: number }[];
interface Outcome {
  losses: Losses;
  gradients: Map<string, Float32Array>;
}

/** One step of a phase; nothing of it stays on the device. */
async function step(phase: Mode, scenes: readonly Scene[], setup: PhaseSetup = {}): Promise<Outcome> {
  using prepared = await preparePhase(device, narrowConfig, phase, { seed: 3, fixedSeed: 4, ...setup });
  const losses = await readLosses(await prepared.step.accumulate(scenes));
  return { losses, gradients: await readGradients(prepared.trained) };
}

const count = (losses: Losses, wanted: LossKind): number =>
  losses.filter(({ kind }) => kind === wanted).length;
const sumOf = (losses: Losses): number => losses.reduce((sum, { value }) => sum + value, 0);

function expectClose(got: Outcome['gradients'], expected: Outcome['gradients'], limit: number): void {
  expect([...got.keys()]).toEqual([...expected.keys()]);
  const far = Array.from(expected, ([name, values]) => [name, distance(got.get(name)!, values)] as const);
  expect(far.filter(([, difference]) => !(difference < limit))).toEqual([]);
}

const small = goldenScene(50, 40, 5);
const wide = goldenScene(150, 64, 6, 1);
const square = goldenScene(100, 100, 7, 6);

test.each(allModes)(
  'phase %s takes scenes of different sizes, turned and smaller than a patch',
  async (phase) => {
    const { losses, gradients } = await step(phase, [small, wide, square]);
    // 1, 1 x 8 and 4 x 4 patches, two at a time.
    const batches = { small: 1, wide: 4, square: 8 };
    const patches = batches.small + batches.wide + batches.square;
    expect(losses.map(({ kind }) => kind).sort()).toEqual(
      {
        global: ['global'],
        'global-to-local': ['ensemble', 'feature', 'local'].flatMap((kind) => Array(patches).fill(kind)),
        bidirectional: [...Array(patches).fill('ensemble'), 'global'],
      }[phase],
    );
    expect(losses.every(({ value }) => Number.isFinite(value) && value > 0)).toBe(true);
    expect([...gradients.values()].every((values) => values.every(Number.isFinite))).toBe(true);
  },
);

test.each(['global-to-local', 'bidirectional'] as const)(
  'phase %s sums the gradients of the scenes and patches',
  async (phase) => {
    // Phase 3 normalises a batch of scenes together, so that only patches can be told apart.
    const parts =
      phase === 'global-to-local'
        ? [await step(phase, [small]), await step(phase, [square])]
        : [
            await step(phase, [square], { choosePatches: () => [0, 1, 2, 3] }),
            await step(phase, [square], {
              choosePatches: () => [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
              terms: ['ensemble'],
            }),
          ];
    const whole = await step(phase, phase === 'global-to-local' ? [small, square] : [square]);
    expect(whole.losses.length).toBe(parts[0]!.losses.length + parts[1]!.losses.length);
    expect(sumOf(whole.losses)).toBeCloseTo(sumOf(parts[0]!.losses) + sumOf(parts[1]!.losses), 4);
    const sums = new Map(
      Array.from(parts[0]!.gradients, ([name, values]) => [
        name,
        values.map((value, i) => value + (parts[1]!.gradients.get(name)?.[i] ?? 0)),
      ]),
    );
    expectClose(whole.gradients, sums, 1e-3);
  },
);

test.each(['global-to-local', 'bidirectional'] as const)(
  'phase %s trains on chosen patches only',
  async (phase) => {
    const seen: number[] = [];
    const { losses } = await step(phase, [square, wide], {
      choosePatches: ({ id }, grid) => {
        expect(grid.count).toBe(id === square.id ? 16 : 8);
        return id === square.id ? [1, 6, 15] : [];
      },
      onPatches: (done) => seen.push(done),
    });
    expect(seen).toEqual([2, 1]);
    expect(count(losses, 'ensemble')).toBe(2);
  },
);

test('without chosen patches phase 3 still trains the global branch', async () => {
  const { losses, gradients } = await step('bidirectional', [square], { choosePatches: () => [] });
  expect(losses.map(({ kind }) => kind)).toEqual(['global']);
  expect(gradients.has('resnet_global.conv1.weight')).toBe(true);
  expect(gradients.has('ensemble_conv.weight')).toBe(false);
});

describe('patches over a box', () => {
  test('none, in phase 2: no loss and no gradient', async () => {
    const { losses, gradients } = await step('global-to-local', [square, wide], {
      layPatches: () => undefined,
    });
    expect(losses).toEqual([]);
    expect(gradients.size).toBe(0);
  });

  test('none, in phase 3: the global branch by itself, with merged maps of zeros', async () => {
    const { losses, gradients } = await step('bidirectional', [square, wide], {
      layPatches: () => undefined,
    });
    expect(losses.map(({ kind }) => kind)).toEqual(['global']);
    expect(Number.isFinite(losses[0]!.value)).toBe(true);
    expect([...gradients.values()].every((values) => values.every(Number.isFinite))).toBe(true);
    // What the local maps are multiplied with gets a gradient of nothing.
    const weight = gradients.get('fpn_global.toplayer_ext.weight')!;
    const inputs = weight.length / narrowConfig.fpn.channels;
    const local = weight.filter((_, i) => i % inputs >= inputs / 2);
    const own = weight.filter((_, i) => i % inputs < inputs / 2);
    expect(Math.max(...local.map(Math.abs))).toBe(0);
    expect(Math.max(...own.map(Math.abs))).toBeGreaterThan(0);
  });

  test.each(['global-to-local', 'bidirectional'] as const)(
    'some, beside a scene with none: phase %s',
    async (phase) => {
      const layPatches: PhaseSetup['layPatches'] = ({ id }, width, height) =>
        id === square.id
          ? boxGrid(width, height, 64, { left: 10, top: 20, width: 70, height: 30 })
          : undefined;
      const { losses, gradients } = await step(phase, [wide, square], { layPatches });
      expect(count(losses, 'ensemble')).toBe(1);
      expect(losses.every(({ value }) => Number.isFinite(value))).toBe(true);
      expect([...gradients.values()].every((values) => values.every(Number.isFinite))).toBe(true);
      if (phase === 'global-to-local') {
        const alone = await step(phase, [square], { layPatches });
        expectClose(gradients, alone.gradients, 1e-6);
      }
    },
  );
});

test('several losses are added up', async () => {
  const focal = await step('global', [square], { losses: [{ type: 'focal', gamma: 2 }] });
  const dice = await step('global', [square], { losses: [{ type: 'dice' }] });
  const both = await step('global', [square], {
    losses: [
      { type: 'focal', gamma: 2, weight: 0.5 },
      { type: 'dice', weight: 3 },
    ],
  });
  expect(sumOf(both.losses)).toBeCloseTo(0.5 * sumOf(focal.losses) + 3 * sumOf(dice.losses), 5);
  const sums = new Map(
    Array.from(focal.gradients, ([name, values]) => [
      name,
      values.map((value, i) => 0.5 * value + 3 * dice.gradients.get(name)![i]!),
    ]),
  );
  expectClose(both.gradients, sums, 1e-3);
});

test('what a term leads to alone gets a gradient', async () => {
  const { losses, gradients } = await step('global-to-local', [square], { terms: ['local'] });
  expect(new Set(losses.map(({ kind }) => kind))).toEqual(new Set(['local']));
  expect(gradients.has('fpn_local.classify.weight')).toBe(true);
  expect(gradients.has('ensemble_conv.weight')).toBe(false);
});

test('a phase is about the prediction of its mode, or what of it is trained', () => {
  expect(mainOutput('global', ['global'])).toBe('global');
  expect(mainOutput('global-to-local', ['local', 'ensemble', 'feature'])).toBe('ensemble');
  expect(mainOutput('global-to-local', ['local'])).toBe('local');
  expect(mainOutput('global-to-local', ['feature'])).toBe('ensemble');
  expect(mainOutput('bidirectional', ['global'])).toBe('global');
});

test('labels that all do not count give a loss of zero and no NaN', async () => {
  const unlabelled = { ...square, labels: square.labels.map(() => 255) };
  for (const phase of allModes) {
    const { losses, gradients } = await step(phase, [unlabelled], { choosePatches: () => [0] });
    for (const { kind, value } of losses) if (kind !== 'feature') expect(value).toBe(0);
    expect([...gradients.values()].every((values) => values.every(Number.isFinite))).toBe(true);
  }
});

describe.each(allModes)('memory, phase %s', (phase) => {
  test.each([false, true])('a step leaves nothing, with checkpointing %s', async (checkpointing) => {
    using prepared = await preparePhase(device, narrowConfig, phase, { seed: 3, checkpointing });
    const before = device.memory().tensors;
    for (let i = 0; i < 2; i++) {
      for (const { value, predicted } of await prepared.step.accumulate([small, square])) {
        value.dispose();
        predicted?.dispose();
      }
      const gradients = prepared.trained.filter(({ gradient }) => gradient.value).length;
      expect(device.memory().tensors).toBe(before + gradients);
      for (const { gradient } of prepared.trained) gradient.take()?.dispose();
    }
    expect(prepared.tape.length).toBe(0);
    expect(device.memory().tensors).toBe(before);
  });

  test('checkpointing: the same gradients and statistics, a lower peak', async () => {
    // The plain version takes no scratch memory, which outweighs the activations of a network as small as this.
    using plain = new Device({ kind: 'reference' });
    const outcomes = [];
    for (const checkpointing of [false, true]) {
      using prepared = await preparePhase(plain, { ...narrowConfig, global: 96 }, phase, {
        seed: 3,
        checkpointing,
        patchBatch: 4,
      });
      await plain.synchronize();
      plain.resetPeak();
      const before = plain.memory().active;
      const losses: ComputedLoss[] = await prepared.step.accumulate([small, square]);
      const peak = plain.memory().peak - before;
      const gradients = await readGradients(prepared.trained);
      const statistics = Array.from(await prepared.networks.state()).filter(([name]) =>
        name.includes('.running_'),
      );
      outcomes.push({
        losses: await readLosses(losses),
        gradients,
        peak,
        statistics: statistics.map(([name, host]) => [name, [...toFloat32(host)]]),
      });
    }
    const [saved, recomputed] = outcomes;
    expect(recomputed!.losses).toEqual(saved!.losses);
    expectClose(recomputed!.gradients, saved!.gradients, 1e-5);
    expect(recomputed!.statistics).toEqual(saved!.statistics);
    expect(recomputed!.peak).toBeLessThan(0.9 * saved!.peak);
  });
});

describe('the first layer that is not finite', () => {
  test.each<[Mode, string, string]>([
    ['global', 'resnet_global.layer2.1.conv1.weight', 'resnet_global.layer2.1.conv1'],
    ['global', 'fpn_global.smooth3_1.weight', 'fpn_global.smooth3_1'],
    ['global-to-local', 'resnet_local.conv1.weight', 'resnet_local.conv1'],
    ['global-to-local', 'ensemble_conv.bias', 'ensemble_conv'],
    ['bidirectional', 'resnet_global.layer4.0.downsample.1.weight', 'resnet_global.layer4.0.downsample.0'],
    ['bidirectional', 'fpn_global.latlayer2_ext.bias', 'fpn_global.latlayer2_ext'],
  ])('phase %s, NaN in %s', async (phase, parameter, layer) => {
    const change: PhaseSetup['change'] = (parameters) => {
      const { data } = parameters.get(parameter)!;
      // The first value of the little-endian float32 ones becomes NaN.
      data.set([0, 0, 0xc0, 0x7f]);
    };
    using prepared = await preparePhase(device, narrowConfig, phase, { change });
    const before = device.memory().tensors;
    const losses = await readLosses(await prepared.step.accumulate([square]));
    expect(losses.some(({ value }) => Number.isNaN(value))).toBe(true);
    expect(await prepared.step.firstNotFinite([square])).toBe(layer);
    for (const { gradient } of prepared.trained) gradient.take()?.dispose();
    expect(device.memory().tensors).toBe(before);
    expect(device.probe).toBeUndefined();
  });

  test('is none where all are finite', async () => {
    using prepared = await preparePhase(device, narrowConfig, 'global');
    expect(await prepared.step.firstNotFinite([square])).toBeUndefined();
  });
});

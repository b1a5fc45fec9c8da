/** Settings of a training: defaults, what overrides what, and every wrong field named. */
import {
  learningRate,
  lengthOf,
  type PhaseConfig,
  parseTrainConfig,
  phaseConfig,
  phaseProblems,
} from '../../../src/training/config';

const of = (settings: object, phase: Parameters<typeof phaseConfig>[1]): PhaseConfig =>
  phaseConfig(parseTrainConfig(settings), phase);

test('nothing given is the reference implementation, with the paper’s γ', () => {
  const config = parseTrainConfig({});
  expect(config.model).toEqual({
    backbone: 'resnet50',
    width: 1,
    fpn: { channels: 256, smooth: 128 },
    patch: 508,
    global: 508,
    sharing: 'deep',
  });
  expect(config).toMatchObject({ scene: 'image', augment: true, seed: 0, phases: {} });
  const common = {
    batch: 6,
    patchBatch: 6,
    schedule: { kind: 'polynomial' },
    optimiser: { type: 'adam', weightDecay: 5e-4 },
    losses: [{ type: 'focal', gamma: 6 }],
    lambda: 0.15,
  };
  expect(phaseConfig(config, 'global')).toMatchObject({
    ...common,
    learningRate: 5e-5,
    epochs: 120,
    terms: ['global'],
  });
  expect(phaseConfig(config, 'global-to-local')).toMatchObject({
    ...common,
    learningRate: 2e-5,
    epochs: 50,
    terms: ['local', 'ensemble', 'feature'],
  });
  expect(phaseConfig(config, 'bidirectional')).toMatchObject({
    ...common,
    learningRate: 5e-5,
    epochs: 120,
    terms: ['global', 'ensemble'],
  });
  // 454 images in batches of 6: 76 steps an epoch.
  expect(lengthOf(phaseConfig(config, 'global'), 454)).toEqual({ steps: 120 * 76, epoch: 76 });
  const phase = phaseConfig(config, 'global');
  expect(learningRate(phase, 0, 100)).toBe(5e-5);
  expect(learningRate(phase, 99, 100)).toBeCloseTo(5e-5 * 0.01 ** 0.9, 15);
});

test('a phase’s own settings go before the common ones, these before the defaults', () => {
  const settings = { batch: 4, lambda: 0, clip: 1, phases: { bidirectional: { batch: 2, clip: 5 } } };
  expect(of(settings, 'global')).toMatchObject({ batch: 4, lambda: 0, clip: 1 });
  expect(of(settings, 'bidirectional')).toMatchObject({ batch: 2, lambda: 0, clip: 5, patchBatch: 6 });
  const optimiser = of({ optimiser: { type: 'sgd', momentum: 0.5 } }, 'global').optimiser;
  expect(optimiser).toEqual({ type: 'sgd', momentum: 0.5, weightDecay: 5e-4 });
});

test.each<[object, number]>([
  [{ steps: 7 }, 7],
  [{ epochs: 2 }, 10],
  [{ epochs: 0.5 }, 3],
  [{ epochs: 0.01 }, 1],
  [{ epochs: 2, phases: { global: { steps: 3 } } }, 3],
  [{ steps: 7, phases: { global: { epochs: 1 } } }, 5],
  [{ steps: 7, phases: { bidirectional: { epochs: 1 } } }, 7],
])('%j makes %i steps of 9 images in batches of 2', (settings, steps) => {
  expect(lengthOf(of({ batch: 2, ...settings }, 'global'), 9)).toEqual({ steps, epoch: 5 });
});

const wrong: [string, unknown][] = [
  ['batch', 0],
  ['batch', 1.5],
  ['patchBatch', '6'],
  ['patchesPerScene', -1],
  ['steps', 0],
  ['epochs', -1],
  ['learningRate', 0],
  ['learningRate', Number.NaN],
  ['seed', -1],
  ['seed', 2 ** 32],
  ['clip', 0],
  ['lambda', -0.1],
  ['patience', 0],
  ['saveEvery', 0],
  ['evaluateEvery', -1],
  ['checkpointing', 'yes'],
  ['augment', 1],
  ['scene', 'half'],
  ['classWeights.1', [1, -1]],
  ['classWeights', [0, 0]],
  ['losses', []],
  ['losses.0.type', [{ type: 'hinge' }]],
  ['losses.0.gamma', [{ type: 'focal', gamma: -1 }]],
  ['losses.0', [{ type: 'dice', power: 2 }]],
  ['terms.0', ['merged']],
  ['optimiser.type', { type: 'rmsprop' }],
  ['optimiser.betas.1', { type: 'adam', betas: [0.9, 1] }],
  ['optimiser.momentum', { type: 'sgd', momentum: 1 }],
  ['optimiser', { type: 'sgd', betas: [0.9, 0.9] }],
  ['schedule.kind', { kind: 'linear' }],
  ['schedule.power', { kind: 'polynomial', power: 0 }],
  ['coarseToFine.margin', { margin: -1 }],
  ['model.backbone', { backbone: 'vgg16' }],
  ['model.patch', { patch: 48 }],
  ['model.patch', { patch: 510 }],
  ['model.global', { global: 66 }],
  ['model.sharing', { sharing: 'some' }],
  ['model.fpn.smooth', { fpn: { smooth: 0 } }],
];
test.each(wrong)('%s: %j is refused', (where, value) => {
  const field = where.split('.')[0]!;
  expect(() => parseTrainConfig({ [field]: value }, 'settings.json')).toThrow(
    expect.objectContaining({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(
        new RegExp(`^settings\\.json is wrong:\\n {2}${where.replaceAll('.', '\\.')}: `),
      ),
    }),
  );
});

test('all wrong fields are named at once, those of phases and unknown ones too', () => {
  const settings = { batch: 0, optimizer: {}, phases: { 'global-to-local': { lambda: -1 }, local: {} } };
  for (const part of [/batch: /, /"optimizer"/, /phases\.global-to-local\.lambda: /, /phases.*"?local"?/]) {
    expect(() => parseTrainConfig(settings)).toThrow(part);
  }
});

test('what fits neither phase nor data is told', () => {
  const problems = (settings: object) => phaseProblems('global', of(settings, 'global'), 10, 3);
  expect(problems({})).toEqual([]);
  expect(
    problems({
      classWeights: [1, 2, 3],
      schedule: { kind: 'step', at: [0.5, 0.7] },
      terms: ['local', 'global'],
    }),
  ).toEqual([]);
  expect(problems({ classWeights: [1, 2] })).toEqual([
    'phase global: classWeights has 2 numbers, expected 3, one for each class',
  ]);
  expect(problems({ learningRate: 1e-3, schedule: { kind: 'cosine', floor: 0.5 } })).toEqual([
    'phase global: schedule.floor is 0.5, expected a number from 0 to the rate',
  ]);
  expect(problems({ schedule: { kind: 'constant', warmup: 10 } })).toEqual([
    'phase global: schedule.warmup is 10, expected fewer than its 10 steps',
  ]);
  // The global branch has one loss; what is said for the other phases does not concern it.
  expect(problems({ terms: ['feature', 'local'] })).toEqual([]);
  expect(phaseProblems('bidirectional', of({ terms: ['feature', 'local'] }, 'bidirectional'), 10, 3)).toEqual(
    ['phase bidirectional: terms is ["feature","local"], expected at least one of global, ensemble'],
  );
});

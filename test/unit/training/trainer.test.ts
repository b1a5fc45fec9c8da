/** Whole runs of the trainer on scenes of the test's own. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { allModes, openModel } from '../../../src/checkpoint/model-file';
import type { StateDict } from '../../../src/checkpoint/state-dict';
import { randomWeights } from '../../../src/cli/self-test';
import { Device } from '../../../src/tensor/device';
import { parseTrainConfig } from '../../../src/training/config';
import type { Scene } from '../../../src/training/phases';
import {
  runFiles,
  type StepReport,
  type TrainingData,
  type TrainOptions,
  train,
} from '../../../src/training/trainer';
import { goldenScene, narrowConfig } from '../../support/phases';

const folder = mkdtempSync(path.join(tmpdir(), 'glnet-trainer-'));
afterAll(() => rmSync(folder, { recursive: true }));
let runs = 0;

const { backbone, width, fpn, patch, global, classes } = narrowConfig;
const settings = {
  model: { backbone, width, fpn, patch, global },
  steps: 2,
  batch: 2,
  patchBatch: 3,
  learningRate: 1e-3,
};

function dataOf(scenes: readonly Scene[]): TrainingData {
  return {
    images: scenes.length,
    classes,
    ignored: 255,
    async *batches({ from, to, batch }) {
      for (let step = from; step < to; step++)
        yield Array.from({ length: batch }, (_, i) => scenes[i % scenes.length]!);
    },
  };
}

/** Trains on a device of its own, on which nothing must be left. */
async function run(
  scenes: readonly Scene[],
  { config = {}, ...options }: Omit<Partial<TrainOptions>, 'config'> & { config?: object } = {},
): Promise<{ reports: StepReport[]; patches: number; out: string }> {
  const out = path.join(folder, `run ${runs++}`);
  const reports: StepReport[] = [];
  let patches = 0;
  using device = new Device({ threads: 1 });
  try {
    await train({
      out,
      config: parseTrainConfig({ ...settings, ...config }),
      phases: allModes,
      device,
      data: dataOf(scenes),
      onStep: (report) => reports.push(report),
      onPatches: (done) => {
        patches += done;
      },
      ...options,
    });
  } finally {
    expect(device.memory().tensors).toBe(0);
  }
  return { reports, patches, out };
}

const square = goldenScene(100, 100, 7, 6);
const wide = goldenScene(150, 64, 6, 1);
const withoutForeground = (scene: Scene): Scene => ({
  ...scene,
  labels: scene.labels.map((label) => (label === 255 ? 255 : 0)),
});
/** Foreground in one corner, of so many pixels. */
const corner = (scene: Scene, columns: number, rows: number): Scene => ({
  ...scene,
  labels: scene.labels.map((_, i) => (i % scene.width < columns && i < rows * scene.width ? 1 : 0)),
});

describe('coarse to fine', () => {
  const config = { coarseToFine: { margin: 0.1 } };

  test('scenes without foreground train no patches, and stop nothing', async () => {
    const { reports, patches, out } = await run([withoutForeground(square), withoutForeground(wide)], {
      config,
    });
    expect(patches).toBe(0);
    expect(reports.map(({ phase, losses }) => [phase, Object.keys(losses)])).toEqual([
      ['global', ['global']],
      ['global', ['global']],
      ['global-to-local', []],
      ['global-to-local', []],
      ['bidirectional', ['global']],
      ['bidirectional', ['global']],
    ]);
    for (const { loss, mIoU, gradientNorm } of reports) {
      expect([loss, mIoU, gradientNorm].every(Number.isFinite)).toBe(true);
    }
    expect(existsSync(path.join(out, runFiles.model))).toBe(true);
  });

  test('patches are laid over the foreground only, turned as the scene is', async () => {
    // One patch, and a column of eight of a scene that lies on its side, in two steps of two phases.
    const { patches, reports } = await run([corner(square, 20, 10), corner(wide, 150, 10)], { config });
    expect(patches).toBe(2 * 2 * (1 + 8));
    expect(reports.every(({ loss }) => Number.isFinite(loss))).toBe(true);
  });
});

test('patchesPerScene limits the patches, and the same seed draws the same', async () => {
  const config = { patchesPerScene: 3 };
  const first = await run([square, wide], { config });
  expect(first.patches).toBe(2 * 2 * 2 * 3);
  const again = await run([square, wide], { config });
  const losses = ({ reports }: typeof first) => reports.map(({ losses: each }) => each);
  expect(losses(again)).toEqual(losses(first));
  const other = await run([square, wide], { config: { ...config, seed: 1 } });
  expect(losses(other)).not.toEqual(losses(first));
});

test.each([
  ['global', 'resnet_global.layer3.0.conv2.weight', 'resnet_global.layer3.0.conv2'],
  ['global-to-local', 'fpn_local.smooth2_2.bias', 'fpn_local.smooth2_2'],
  ['bidirectional', 'ensemble_conv.weight', 'ensemble_conv'],
] as const)(
  'NaN in a weight of phase %s: the error names step, layer and scenes',
  async (phase, parameter, layer) => {
    const weights: StateDict = randomWeights(narrowConfig, 3);
    // The first value of the little-endian float32 ones becomes NaN.
    weights.get(`${phase}.${parameter}`)!.data.set([0, 0, 0xc0, 0x7f]);
    await expect(run([square], { phases: [phase], weights })).rejects.toMatchObject({
      code: 'ERR_DIVERGED',
      message: expect.stringMatching(
        `^phase ${phase}, step 1: the loss is NaN; the first layer whose output is not finite is ${layer.replaceAll('.', '\\.')} \\(scenes: scene 7, scene 7\\)`,
      ),
    });
  },
);

test('the best weights are kept, and a phase that gets no better stops', async () => {
  const scores = [0.2, 0.5, 0.4, 0.3, 0.6];
  const states: StateDict[] = [];
  const ended: unknown[] = [];
  const { reports, out } = await run([square], {
    phases: ['global'],
    config: { steps: 20, evaluateEvery: 1, patience: 2 },
    evaluate: async (networks) => {
      states.push(await networks.state());
      return { mIoU: { global: scores[states.length - 1]! }, iou: [], seconds: 0 };
    },
    onPhaseEnd: (...end) => ended.push(end),
  });
  expect(reports).toHaveLength(4);
  expect(ended).toEqual([['global', 4, { step: 2, score: 0.5 }, true]]);
  const model = await openModel(path.join(out, runFiles.model));
  const name = 'fpn_global.classify.weight';
  const stored = Buffer.from((await model.read(`global.${name}`)).data);
  await model.close();
  const same = states.map((state) => Buffer.compare(Buffer.from(state.get(name)!.data), stored) === 0);
  expect(same).toEqual([false, true, false, false]);
});

/** A run's folder: what it is begun with, what is refused before it is made, and how it goes on. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type Mode, openModel, writeModel } from '../../../src/checkpoint/model-file';
import type { StateDict } from '../../../src/checkpoint/state-dict';
import { randomWeights } from '../../../src/cli/self-test';
import { parseTrainConfig } from '../../../src/training/config';
import { trainModel } from '../../../src/training/run';
import { modelConfigOf, runFiles, type TrainEvents } from '../../../src/training/trainer';
import { tinyTraining, writeTinyDataset } from '../../support/tiny-dataset';

const folder = mkdtempSync(path.join(tmpdir(), 'glnet-trainer-'));
const at = (...names: string[]): string => path.join(folder, ...names);
const classes = Array.from({ length: 7 }, (_, i) => ({ name: `class ${i}`, color: [40 * i, 0, 0] as const }));
const settings = { ...tinyTraining, steps: 2, patchesPerScene: 1 };

/** A model of all phases, as the settings want it but for `changes`. */
async function writeGiven(file: string, changes: { smooth?: number } = {}): Promise<void> {
  const { model } = parseTrainConfig(settings);
  const fpn = { ...model.fpn, ...changes };
  const config = modelConfigOf({ ...parseTrainConfig(settings), model: { ...model, fpn } }, classes, [
    'global',
    'global-to-local',
    'bidirectional',
  ]);
  await writeModel(at(file), config, randomWeights(config, 1));
}

beforeAll(async () => {
  await writeTinyDataset(at('data'));
  await writeGiven('given.safetensors');
  await writeGiven('narrow.safetensors', { smooth: 3 });
});
afterAll(() => rmSync(folder, { recursive: true }));

interface Run extends TrainEvents {
  phases?: readonly Mode[];
  weights?: string;
  resume?: boolean;
  changes?: object;
}

function train(out: string, { changes, weights, ...run }: Run): Promise<string> {
  return trainModel({
    data: at('data'),
    out: at(out),
    config: parseTrainConfig({ ...settings, ...changes }),
    device: { threads: 1 },
    ...(weights !== undefined && { weights: at(weights) }),
    ...run,
  });
}

async function tensorsOf(file: string): Promise<StateDict> {
  const model = await openModel(file);
  const tensors: StateDict = new Map();
  for (const name of model.tensors.keys()) tensors.set(name, await model.read(name));
  await model.close();
  return tensors;
}

test('what a later phase lacks is refused before the folder is made', async () => {
  const refused: [Run, RegExp][] = [
    [
      { changes: { phases: { bidirectional: { terms: ['local'] } } } },
      /terms is \["local"\], expected at least one of global, ensemble/,
    ],
    [{ phases: ['bidirectional'] }, /phase bidirectional needs the weights of phase global/],
    [{ phases: ['global', 'bidirectional'] }, /bidirectional needs the weights of phase global-to-local/],
    [
      { phases: ['global-to-local', 'global'], weights: 'given.safetensors' },
      /needs the weights of phase global/,
    ],
    [
      { changes: { phases: { bidirectional: { classWeights: [1] } } } },
      /classWeights has 1 numbers, expected 7/,
    ],
    [
      { changes: { schedule: { kind: 'constant', warmup: 2 } } },
      /warmup is 2, expected fewer than its 2 steps/,
    ],
    [
      { phases: ['global-to-local'], weights: 'narrow.safetensors' },
      /narrow\.safetensors: its fpn has 4 channels and 3 after smoothing; the configuration's model has 4 and 4/,
    ],
  ];
  for (const [run, message] of refused) {
    await expect(train('refused', run)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    });
    expect(existsSync(at('refused'))).toBe(false);
  }
});

test('a model that is no run’s is not overwritten', async () => {
  mkdirSync(at('other'));
  writeFileSync(at('other', runFiles.model), 'a model');
  await expect(train('other', { phases: ['global'] })).rejects.toMatchObject({
    message: expect.stringContaining('another origin'),
  });
});

test('a phase with given weights that has not begun is trained after a resume', async () => {
  const phases = ['global', 'global-to-local'] as const;
  const weights = 'given.safetensors';
  const whole = await train('whole', { phases, weights });
  const stop = new Error('stop');
  const stopped = train('stopped', {
    phases,
    weights,
    onPhase(phase) {
      if (phase === 'global-to-local') throw stop;
    },
  });
  await expect(stopped).rejects.toBe(stop);
  const begun: Mode[] = [];
  const resumed = await train('stopped', {
    phases,
    weights,
    resume: true,
    onPhase: (phase) => void begun.push(phase),
  });
  expect(begun).toEqual(['global-to-local']);
  expect(await tensorsOf(resumed)).toEqual(await tensorsOf(whole));
});

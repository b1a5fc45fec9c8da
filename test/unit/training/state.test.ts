/** The state of a phase on disk: what is read is what was written, and files that are none are named. */
import { createHash } from 'node:crypto';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { openSafetensors, writeSafetensors } from '../../../src/checkpoint/safetensors';
import type { StateDict } from '../../../src/checkpoint/state-dict';
import { Optimiser } from '../../../src/nn/optimisers';
import { Device } from '../../../src/tensor/device';
import {
  checkState,
  loadState,
  type Position,
  restoreOptimiser,
  saveState,
} from '../../../src/training/state';
import { fixtures } from '../../support/golden';
import { goldenScene, narrowConfig, preparePhase, readLosses } from '../../support/phases';
import { writeTinyModel } from '../../support/tiny-model';

const folder = mkdtempSync(path.join(tmpdir(), 'glnet-state-'));
const at = (name: string) => path.join(folder, name);
afterAll(() => rmSync(folder, { recursive: true }));

const position: Position = {
  phase: 'global',
  step: 2,
  best: { step: 1, score: 0.25 },
  stale: 3,
};
const adam = { type: 'adam', weightDecay: 5e-4 } as const;
const scenes = [goldenScene(64, 64, 5)];
const state = at('global.state.safetensors');

/** A digest of each tensor, by name. */
const digests = (tensors: StateDict): Record<string, string> =>
  Object.fromEntries(
    Array.from(tensors, ([name, { data }]) => [
      name,
      createHash('sha256').update(data).digest('hex').slice(0, 12),
    ]),
  );

test('a phase that is saved and loaded steps as if it had not been', async () => {
  using device = new Device({ threads: 1 });
  using prepared = await preparePhase(device, narrowConfig, 'global');
  const optimiser = new Optimiser(adam, device, prepared.trained);
  const stepWith = async ({ step }: typeof prepared, by: Optimiser): Promise<void> => {
    await readLosses(await step.accumulate(scenes));
    by.step(1e-3);
  };
  for (let i = 0; i < 2; i++) await stepWith(prepared, optimiser);
  await saveState(state, position, prepared.networks, optimiser);

  const loaded = await loadState(state);
  expect(loaded.position).toEqual(position);
  expect(() => checkState(state, loaded, 'global', narrowConfig)).not.toThrow();
  expect(digests(loaded.parameters)).toEqual(digests(await prepared.networks.state()));
  using again = await preparePhase(device, narrowConfig, 'global', {
    change: (parameters) => {
      for (const [name, host] of loaded.parameters) parameters.set(name, host);
    },
  });
  const other = new Optimiser(adam, device, again.trained);
  restoreOptimiser(other, again.networks, loaded);
  expect(other.steps).toBe(2);

  await stepWith(prepared, optimiser);
  await stepWith(again, other);
  expect(digests(await again.networks.state())).toEqual(digests(await prepared.networks.state()));
  optimiser.dispose();
  other.dispose();
});

test('a phase without an evaluation yet', async () => {
  using device = new Device();
  using prepared = await preparePhase(device, narrowConfig, 'global');
  const optimiser = new Optimiser(adam, device, prepared.trained);
  await saveState(at('first'), { ...position, best: undefined }, prepared.networks, optimiser);
  const { position: read, moments } = await loadState(at('first'));
  expect(read.best).toBeUndefined();
  expect(moments.size).toBe(0);
});

/** Writes the saved state with other metadata or tensors. */
async function rewrite(
  name: string,
  change: (tensors: StateDict, metadata: Map<string, string>) => void,
): Promise<string> {
  const file = await openSafetensors(state);
  const tensors: StateDict = new Map();
  for (const key of file.tensors.keys()) tensors.set(key, await file.read(key));
  const metadata = new Map(file.metadata);
  await file.close();
  change(tensors, metadata);
  await writeSafetensors(at(name), tensors, metadata);
  return at(name);
}

describe('a file that is no state of the phase is named', () => {
  const load = async (file: string): Promise<void> => {
    checkState(file, await loadState(file), 'global', narrowConfig);
  };
  const refuses = async (file: string, code: string, message: RegExp): Promise<void> => {
    await expect(load(file)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    await expect(load(file)).rejects.toMatchObject({ message: expect.stringContaining(file) });
  };

  test('missing, cut short, an image, a model', async () => {
    await refuses(at('nope'), 'ERR_FILE', /no such file/);
    const bytes = readFileSync(state);
    writeFileSync(at('short'), bytes.subarray(0, bytes.length - 100));
    await refuses(at('short'), 'ERR_CHECKPOINT', /./);
    writeFileSync(at('shorter'), bytes.subarray(0, 100));
    await refuses(at('shorter'), 'ERR_CHECKPOINT', /./);
    copyFileSync(path.join(fixtures, 'wide.image.png'), at('image'));
    await refuses(at('image'), 'ERR_CHECKPOINT', /not a valid safetensors file/);
    await writeTinyModel(at('model'));
    await refuses(at('model'), 'ERR_CHECKPOINT', /not the state of a training run of glnet/);
  });

  test('of a later version, or with a position that is none', async () => {
    const key = 'glnet-training';
    const later = await rewrite('later', (_, metadata) => metadata.set(key, '{"format":2}'));
    await refuses(later, 'ERR_CHECKPOINT', /format 2, this version of glnet reads 1/);
    const broken = await rewrite('broken', (_, metadata) => metadata.set(key, '{"format":1'));
    await refuses(broken, 'ERR_CHECKPOINT', /its position is not JSON/);
    const nowhere = await rewrite('nowhere', (_, metadata) =>
      metadata.set(key, '{"format":1,"phase":"global","step":-1}'),
    );
    await refuses(nowhere, 'ERR_CHECKPOINT', /its step is -1/);
  });

  test('of another phase, or of another network', async () => {
    expect(() =>
      checkState(state, { position, parameters: new Map(), moments: new Map() }, 'global', narrowConfig),
    ).toThrow(/missing \(\d+\): resnet_global\.conv1\.weight/);
    const other = await rewrite('other', (_, metadata) => {
      metadata.set('glnet-training', JSON.stringify({ format: 1, ...position, phase: 'bidirectional' }));
    });
    await refuses(other, 'ERR_CHECKPOINT', /its phase is bidirectional/);
    const without = await rewrite('without', (tensors) =>
      tensors.delete('parameter.resnet_global.conv1.weight'),
    );
    await refuses(without, 'ERR_CHECKPOINT', /missing \(1\): resnet_global\.conv1\.weight/);
    const loaded = await loadState(state);
    const wider = { ...narrowConfig, fpn: { channels: 8, smooth: 4 } };
    expect(() => checkState(state, loaded, 'global', wider)).toThrow(/misshapen \(\d+\): fpn_global/);
  });
});

/** The state of a phase, so that a run that stopped goes on as if it had not: one file, written whole or not at all. */

import { checkpointError } from '../checkpoint/file';
import { type Mode, type ModelConfig, parameterProblems } from '../checkpoint/model-file';
import { openSafetensors, writeSafetensors } from '../checkpoint/safetensors';
import { fromFloat32, type StateDict, toFloat32 } from '../checkpoint/state-dict';
import { expectedParameters } from '../models/parameters';
import type { Optimiser } from '../nn/optimisers';
import type { TrainingNetworks } from './networks';

/** The best evaluation of a phase. */
export interface Best {
  /** Steps that were taken before it. */
  readonly step: number;
  /** Mean IoU. */
  readonly score: number;
}

/** How far a phase is. What it draws at random depends on the seed and the step alone. */
export interface Position {
  readonly phase: Mode;
  /** Steps taken. */
  readonly step: number;
  readonly best: Best | undefined;
  /** Evaluations in a row that brought nothing better. */
  readonly stale: number;
}

const metadataKey = 'glnet-training';
/** Rises when older versions of the package could no longer read the file. */
const formatVersion = 1;
const parameterPrefix = 'parameter.';
const momentPrefix = 'moment.';

export async function saveState(
  path: string,
  position: Position,
  networks: TrainingNetworks,
  optimiser: Optimiser,
): Promise<void> {
  const tensors: StateDict = new Map();
  for (const [name, host] of await networks.state()) tensors.set(parameterPrefix + name, host);
  for (const [name, tensor] of optimiser.moments) {
    tensors.set(momentPrefix + name, fromFloat32(tensor.shape, (await tensor.data()) as Float32Array));
  }
  const text = JSON.stringify({ format: formatVersion, ...position });
  await writeSafetensors(path, tensors, new Map([[metadataKey, text]]));
}

export interface LoadedState {
  readonly position: Position;
  /** By the reference's names. */
  readonly parameters: StateDict;
  /** By the names of {@link Optimiser.moments}. */
  readonly moments: StateDict;
}

/** @throws GlnetError ERR_FILE, ERR_CHECKPOINT. */
export async function loadState(path: string): Promise<LoadedState> {
  const file = await openSafetensors(path);
  try {
    const text = file.metadata.get(metadataKey);
    if (text === undefined) throw checkpointError(path, 'not the state of a training run of glnet');
    let parsed: Position & { format: number };
    try {
      parsed = JSON.parse(text);
    } catch (cause) {
      throw checkpointError(path, `its position is not JSON (${(cause as Error).message})`, cause);
    }
    const { format, ...position } = parsed;
    if (format !== formatVersion) {
      throw checkpointError(
        path,
        `it has format ${format}, this version of glnet reads ${formatVersion}; go on with the version that wrote it`,
      );
    }
    const take = async (prefix: string): Promise<StateDict> => {
      const tensors: StateDict = new Map();
      for (const name of file.tensors.keys()) {
        if (name.startsWith(prefix)) tensors.set(name.slice(prefix.length), await file.read(name));
      }
      return tensors;
    };
    return { position, parameters: await take(parameterPrefix), moments: await take(momentPrefix) };
  } finally {
    await file.close();
  }
}

/**
 * Whether a state belongs to a phase of a model.
 * @throws GlnetError ERR_CHECKPOINT with everything that is wrong.
 */
export function checkState(
  path: string,
  { position, parameters }: LoadedState,
  phase: Mode,
  model: ModelConfig,
): void {
  const { step } = position;
  const problems = parameterProblems(expectedParameters(model, phase), parameters);
  if (position.phase !== phase) problems.push(`its phase is ${position.phase}`);
  if (!Number.isSafeInteger(step) || step < 0) problems.push(`its step is ${step}`);
  if (problems.length === 0) return;
  throw checkpointError(
    path,
    [`not the state of phase ${phase} of this run; delete it to begin the phase anew:`, ...problems].join(
      '\n  ',
    ),
  );
}

/** Puts an optimiser where a saved one was. */
export function restoreOptimiser(
  optimiser: Optimiser,
  { device }: TrainingNetworks,
  state: LoadedState,
): void {
  const moments = new Map(
    Array.from(state.moments, ([name, host]) => [
      name,
      device.upload(toFloat32(host), host.shape, 'float32'),
    ]),
  );
  optimiser.restore(state.position.step, moments);
}

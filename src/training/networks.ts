/** The networks of a training phase: what is trained, what is fixed, on one device. */
import { inheritance, type Mode, type ModelConfig } from '../checkpoint/model-file';
import { fromFloat32, type StateDict, toFloat32 } from '../checkpoint/state-dict';
import { GlnetError } from '../errors';
import type { Networks } from '../inference/networks';
import { Branch, Ensemble } from '../models/glnet';
import { branchParameters, expectedParameters } from '../models/parameters';
import { initialise } from '../nn/initialise';
import type { Device } from '../tensor/device';
import type { Tensor } from '../tensor/tensor';

/** The phases whose weights a phase needs before it can begin. */
export const prerequisites: Readonly<Record<Mode, readonly Mode[]>> = {
  global: [],
  'global-to-local': ['global'],
  bidirectional: ['global', 'global-to-local'],
};

/**
 * Where a phase's parameters come from when it begins: its own if the weights have them (to go on with them), else
 * those that an earlier phase trained (the global branch of phase 1, the aggregation of phase 2), else they are new: a backbone as `pretrained`,
 * by torchvision's names, if that is given, and all else at random.
 */
export function firstWeights(
  config: ModelConfig,
  phase: Mode,
  weights: StateDict,
  seed: number,
  pretrained?: StateDict,
): StateDict {
  const shapes = expectedParameters(config, phase);
  const sources = [phase, ...[...prerequisites[phase]].reverse()];
  const first: StateDict = new Map();
  const missing: typeof shapes = new Map();
  for (const [name, shape] of shapes) {
    const source = sources.find((from) => weights.has(`${from}.${name}`));
    const own = source
      ? weights.get(`${source}.${name}`)
      : pretrained?.get(name.replace(/^resnet_(global|local)\./, ''));
    if (own) first.set(name, own);
    else missing.set(name, shape);
  }
  for (const [name, values] of initialise(missing, seed)) {
    first.set(name, fromFloat32(missing.get(name)!, values));
  }
  return first;
}

export class TrainingNetworks {
  readonly device: Device;
  readonly phase: Mode;
  /** What is trained, running statistics too, by the reference's names; float32. */
  readonly trained: ReadonlyMap<string, Tensor>;
  /** All of it, ready for a forward pass. */
  readonly networks: Networks;
  readonly #fixed: readonly Tensor[];

  /**
   * @param own the phase's parameters, by the reference's names
   * @param weights of the earlier phases, by names in a model file
   * @throws GlnetError ERR_INVALID_ARGUMENT if an earlier phase's weights are missing.
   */
  static async create(
    device: Device,
    config: ModelConfig,
    phase: Mode,
    own: StateDict,
    weights: StateDict,
  ): Promise<TrainingNetworks> {
    const upload = (tensors: StateDict): Map<string, Tensor> =>
      new Map(
        Array.from(tensors, ([name, host]) => [name, device.upload(toFloat32(host), host.shape, 'float32')]),
      );
    const fixed = (from: Mode, branch: 'global' | 'local'): Map<string, Tensor> => {
      const tensors: StateDict = new Map();
      // What the phase inherits it may have a copy of. Its other names are those of what it trains: the backbone of
      // phase 3 has the name of phase 1's.
      const copied = inheritance(config, phase)?.from === from;
      for (const name of branchParameters(config, branch).keys()) {
        const copy = copied ? weights.get(`${phase}.${name}`) : undefined;
        const host = copy ?? weights.get(`${from}.${name}`);
        if (!host) {
          throw new GlnetError(
            'ERR_INVALID_ARGUMENT',
            `phase ${phase} needs the weights of phase ${from}, and there are none: train it first, or give ` +
              `weights that have it (${name} is missing)`,
          );
        }
        tensors.set(name, host);
      }
      return upload(tensors);
    };
    const global = phase === 'global' ? undefined : fixed('global', 'global');
    const local = phase === 'bidirectional' ? fixed('global-to-local', 'local') : undefined;
    // In the order of the list, wherever they come from: sums over all of them have the same bits every time.
    const names = [...expectedParameters(config, phase).keys()];
    const trained = upload(new Map(names.map((name) => [name, own.get(name)!])));
    await device.synchronize();
    return new TrainingNetworks(device, config, phase, trained, global, local);
  }

  private constructor(
    device: Device,
    config: ModelConfig,
    phase: Mode,
    trained: Map<string, Tensor>,
    global: Map<string, Tensor> | undefined,
    local: Map<string, Tensor> | undefined,
  ) {
    this.device = device;
    this.phase = phase;
    this.trained = trained;
    this.#fixed = [...(global?.values() ?? []), ...(local?.values() ?? [])];
    const { backbone, sharing } = config;
    this.networks = {
      device,
      precision: 'float32',
      global: new Branch(global ?? trained, backbone, 'global'),
      ...(phase !== 'global' && {
        local: new Branch(local ?? trained, backbone, 'local', sharing),
        ensemble: new Ensemble(trained),
      }),
      ...(phase === 'bidirectional' && { globalExt: new Branch(trained, backbone, 'global-ext', sharing) }),
    };
  }

  /** What is trained, as it is now, on the host. */
  async state(): Promise<StateDict> {
    const state: StateDict = new Map();
    for (const [name, tensor] of this.trained) {
      state.set(name, fromFloat32(tensor.shape, (await tensor.data()) as Float32Array));
    }
    return state;
  }

  dispose(): void {
    for (const tensor of [...this.trained.values(), ...this.#fixed]) tensor.dispose();
  }
}

/** The networks of a model file, loaded as modes ask for them. */
import type { Mode, ModelConfig, ModelFile } from '../checkpoint/model-file';
import { toFloat32 } from '../checkpoint/state-dict';
import { Branch, Ensemble } from '../models/glnet';
import { cast } from '../tensor/cast';
import type { Device } from '../tensor/device';
import type { Tensor } from '../tensor/tensor';

/** What a mode computes with. */
export interface Networks {
  /** Gives the maps that the local branch takes in; in mode `global`, the prediction. Phase-1 weights. */
  readonly global: Branch;
  readonly local?: Branch;
  readonly ensemble?: Ensemble;
  /** Takes merged local maps in; mode `bidirectional`. */
  readonly globalExt?: Branch;
}

export class NetworkStore {
  readonly #file: ModelFile;
  readonly #device: Device;
  /** By the names in the file, so that what modes share is on the device once. */
  readonly #tensors = new Map<string, Promise<Tensor>>();
  readonly #networks = new Map<Mode, Promise<Networks>>();

  constructor(file: ModelFile, device: Device) {
    this.#file = file;
    this.#device = device;
  }

  get config(): ModelConfig {
    return this.#file.config;
  }

  /** @throws GlnetError ERR_INVALID_ARGUMENT if the file lacks the mode; ERR_CHECKPOINT, ERR_FILE. */
  get(mode: Mode): Promise<Networks> {
    let networks = this.#networks.get(mode);
    if (!networks) {
      networks = this.#build(mode);
      this.#networks.set(mode, networks);
      // A failure is not remembered: the next call may fare better.
      networks.catch(() => this.#networks.delete(mode));
    }
    return networks;
  }

  /** Closes the file and frees the weights. */
  async dispose(): Promise<void> {
    const tensors = await Promise.allSettled(this.#tensors.values());
    for (const tensor of tensors) if (tensor.status === 'fulfilled') tensor.value.dispose();
    this.#tensors.clear();
    this.#networks.clear();
    await this.#file.close();
  }

  async #build(mode: Mode): Promise<Networks> {
    const { backbone } = this.config;
    const own = await this.#load(mode);
    if (mode === 'global') return { global: new Branch(own, backbone, 'global') };
    const networks = { local: new Branch(own, backbone, 'local'), ensemble: new Ensemble(own) };
    if (mode === 'global-to-local') return { ...networks, global: new Branch(own, backbone, 'global') };
    return {
      ...networks,
      global: new Branch(await this.#load('global'), backbone, 'global'),
      globalExt: new Branch(own, backbone, 'global-ext'),
    };
  }

  async #load(mode: Mode): Promise<Map<string, Tensor>> {
    const tensors = new Map<string, Tensor>();
    for (const [name, stored] of this.#file.locate(mode)) tensors.set(name, await this.#tensor(stored));
    await this.#device.synchronize();
    return tensors;
  }

  #tensor(stored: string): Promise<Tensor> {
    let tensor = this.#tensors.get(stored);
    if (!tensor) {
      tensor = this.#upload(stored);
      this.#tensors.set(stored, tensor);
      tensor.catch(() => this.#tensors.delete(stored));
    }
    return tensor;
  }

  async #upload(stored: string): Promise<Tensor> {
    const host = await this.#file.read(stored);
    const { dtype, shape } = host;
    if (dtype === 'float16' || dtype === 'bfloat16') {
      using narrow = this.#device.upload(host.data, shape, dtype);
      return cast(narrow, 'float32');
    }
    return this.#device.upload(dtype === 'float32' ? host.data : toFloat32(host), shape, 'float32');
  }
}

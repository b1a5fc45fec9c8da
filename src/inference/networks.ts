/** The networks of a model file, loaded as modes ask for them. */
import type { Mode, ModelConfig, ModelFile } from '../checkpoint/model-file';
import { toFloat32 } from '../checkpoint/state-dict';
import { Branch, Ensemble } from '../models/glnet';
import { cast } from '../tensor/cast';
import type { Device } from '../tensor/device';
import type { Tensor } from '../tensor/tensor';

/** What convolutions store their weights and maps in; they sum in float32 either way. */
export type Precision = 'float32' | 'bfloat16';
export const allPrecisions: readonly Precision[] = ['float32', 'bfloat16'];

/** What a mode computes with, on one device. */
export interface Networks {
  readonly device: Device;
  readonly precision: Precision;
  /** Gives the maps that the local branch takes in; in mode `global`, the prediction. Phase-1 weights. */
  readonly global: Branch;
  readonly local?: Branch;
  readonly ensemble?: Ensemble;
  /** Takes merged local maps in; mode `bidirectional`. */
  readonly globalExt?: Branch;
}

export class NetworkStore {
  readonly #file: ModelFile;
  readonly device: Device;
  readonly #precision: Precision;
  /** By the names in the file, so that what modes share is on the device once. */
  readonly #tensors = new Map<string, Promise<Tensor>>();
  readonly #networks = new Map<Mode, Promise<Networks>>();

  /** The file stays the caller's. */
  constructor(file: ModelFile, device: Device, precision: Precision = 'float32') {
    this.#file = file;
    this.device = device;
    this.#precision = precision;
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

  /** Frees the weights. */
  async dispose(): Promise<void> {
    const tensors = await Promise.allSettled(this.#tensors.values());
    for (const tensor of tensors) if (tensor.status === 'fulfilled') tensor.value.dispose();
    this.#tensors.clear();
    this.#networks.clear();
  }

  async #build(mode: Mode): Promise<Networks> {
    const { backbone, sharing } = this.config;
    const own = await this.#load(mode);
    const common = { device: this.device, precision: this.#precision };
    if (mode === 'global') return { ...common, global: new Branch(own, backbone, 'global') };
    const networks = {
      ...common,
      local: new Branch(own, backbone, 'local', sharing),
      ensemble: new Ensemble(own),
    };
    if (mode === 'global-to-local') return { ...networks, global: new Branch(own, backbone, 'global') };
    return {
      ...networks,
      global: new Branch(await this.#load('global'), backbone, 'global'),
      globalExt: new Branch(own, backbone, 'global-ext', sharing),
    };
  }

  async #load(mode: Mode): Promise<Map<string, Tensor>> {
    const tensors = new Map<string, Tensor>();
    for (const [name, stored] of this.#file.locate(mode)) tensors.set(name, await this.#tensor(stored));
    await this.device.synchronize();
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

  async #upload(name: string): Promise<Tensor> {
    const host = await this.#file.read(name);
    const { shape } = host;
    // Biases and statistics are added in float32 in any case.
    const dtype = shape.length === 4 ? this.#precision : 'float32';
    const known = host.dtype === 'float16' || host.dtype === 'bfloat16' || host.dtype === 'float32';
    const stored = known ? host.dtype : 'float32';
    const tensor = this.device.upload(known ? host.data : toFloat32(host), shape, stored);
    if (stored === dtype) return tensor;
    using other = tensor;
    return cast(other, dtype);
  }
}

/** The networks of a model file, loaded as modes ask for them and composed for inference. */
import { binding } from '../binding';
import type { Mode, ModelConfig, ModelFile } from '../checkpoint/model-file';
import { dtypeBytes, elementCount, type HostTensor, toFloat32 } from '../checkpoint/state-dict';
import { type BranchMaps, type Head, type Share, sides } from '../models/fpn';
import { Branch, Ensemble } from '../models/glnet';
import { ComposedConv } from '../nn/layers';
import { Parameters } from '../nn/parameters';
import { cast } from '../tensor/cast';
import type { Device, DeviceKind } from '../tensor/device';
import type { Tensor } from '../tensor/tensor';
import {
  compose,
  type FoldedConv,
  foldBatchNorm,
  foldLevel,
  type Norm,
  normAfter,
  normFields,
  sampleLevel,
} from './fold';

const smoothLayer = 'fpn_local.smooth';
const lastSmooth = ['fpn_local.smooth4_1', 'fpn_local.smooth4_2'] as const;
/** Layers of which only their compositions are needed. */
const headLayers = [`${smoothLayer}.`, 'fpn_local.classify.'];

/** What convolutions store their weights and maps in; they sum in float32 either way. */
export type Precision = 'float32' | 'bfloat16';
export const allPrecisions: readonly Precision[] = ['float32', 'bfloat16'];
/** `auto`: bfloat16 where the device has units for it, else float32. */
export type PrecisionChoice = Precision | 'auto';
export const precisionChoices: readonly PrecisionChoice[] = [...allPrecisions, 'auto'];

/** What a choice means on a device. GPUs since the Ampere generation have the units; older ones save memory all the same. */
export function choosePrecision(choice: PrecisionChoice, kind: DeviceKind): Precision {
  if (choice !== 'auto') return choice;
  const hasUnits = kind === 'cuda' || (kind === 'cpu' && binding().machine().bfloat16);
  return hasUnits ? 'bfloat16' : 'float32';
}

/** What a mode computes with, on one device. */
export interface Networks {
  readonly device: Device;
  readonly precision: Precision;
  /** Gives the maps that the local branch takes in; in mode `global`, the prediction. Phase-1 weights. */
  readonly global: Branch;
  readonly local?: Branch;
  readonly ensemble?: Ensemble;
  /** What the local branch's last maps become, without ps3; where there are none, ps3 is made. */
  readonly heads?: Readonly<Partial<Record<LocalOutput, Head>>>;
  /** Takes merged local maps in; mode `bidirectional`. */
  readonly globalExt?: Branch;
}

/** What is wanted of the local branch: its own logits, or its part of the aggregation. */
export const localOutputs = ['local', 'ensemble'] as const;
export type LocalOutput = (typeof localOutputs)[number];

/**
 * Runs the local branch over patches; only what is wanted is computed.
 * @param keep whether the maps are wanted, too
 */
export function runLocal(
  { local, ensemble, heads }: Networks,
  x: Tensor,
  share: Share,
  wanted: readonly LocalOutput[],
  keep: boolean,
): { maps: BranchMaps | undefined; outputs: Partial<Record<LocalOutput, Tensor>> } {
  const named = (tensors: readonly Tensor[]): Partial<Record<LocalOutput, Tensor>> =>
    Object.fromEntries(wanted.map((output, i) => [output, tensors[i]!]));
  if (heads) {
    const { maps, outputs } = local!.apply(
      wanted.map((output) => heads[output]!),
      x,
      share,
      keep,
    );
    return { maps, outputs: named(outputs) };
  }
  return x.device.scope(() => {
    const { maps, ps3 } = local!.forward(x, share);
    const outputs = wanted.map((output) =>
      output === 'local' ? local!.classify(ps3) : ensemble!.local(ps3),
    );
    return { maps: keep ? maps : undefined, outputs: named(outputs) };
  });
}

/** Made when it is first asked for. */
function lazily<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

export class NetworkStore {
  readonly #file: ModelFile;
  readonly device: Device;
  readonly precision: Precision;
  /** By what they hold, so that what modes share is on the device once. */
  readonly #tensors = new Map<string, Promise<Tensor>>();
  readonly #networks = new Map<string, Promise<Networks>>();
  /** Where a weight lies between the file and the device. One at a time: freed, they would fill the process's heap. */
  #weight = new ArrayBuffer(0);
  /** Ends when the networks that were asked for so far are built. */
  #built: Promise<unknown> = Promise.resolve();

  /** The file stays the caller's. */
  constructor(file: ModelFile, device: Device, precision: Precision = 'float32') {
    this.#file = file;
    this.device = device;
    this.precision = precision;
  }

  get config(): ModelConfig {
    return this.#file.config;
  }

  /**
   * @param outputs what will be wanted; what others need is not loaded
   * @throws GlnetError ERR_INVALID_ARGUMENT if the file lacks the mode; ERR_CHECKPOINT, ERR_FILE.
   */
  get(mode: Mode, outputs: readonly (LocalOutput | 'global')[] = localOutputs): Promise<Networks> {
    const wanted = mode === 'global' ? [] : localOutputs.filter((output) => outputs.includes(output));
    const key = [mode, ...wanted].join(' ');
    let networks = this.#networks.get(key);
    if (!networks) {
      networks = this.#built.then(() => this.#build(mode, wanted));
      this.#built = networks.catch(() => {});
      this.#networks.set(key, networks);
      // A failure is not remembered: the next call may fare better.
      networks.catch(() => this.#networks.delete(key));
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

  /** Whether the products of all classes and taps are fewer than the channels that they replace. */
  get #composes(): boolean {
    const { classes, fpn } = this.config;
    return 9 * classes.length < 4 * fpn.smooth;
  }

  /** Whether the last level's folded kernels are fewer multiply-adds than its layers, of which the margin remains. */
  get #foldsLastLevel(): boolean {
    const { classes, fpn } = this.config;
    return 81 * classes.length < 6 * (fpn.channels + fpn.smooth);
  }

  async #build(mode: Mode, wanted: readonly LocalOutput[]): Promise<Networks> {
    const { backbone, sharing } = this.config;
    const heads: Partial<Record<LocalOutput, Head>> = {};
    if (this.#composes) for (const output of wanted) heads[output] = await this.#head(mode, output);
    const own = await this.#load(mode);
    const deep = (this.config.sharing ?? 'deep') === 'deep';
    if (mode === 'bidirectional' && deep && this.#composes && this.#foldsLastLevel)
      await this.#addSampled(own, mode);
    const common = { device: this.device, precision: this.precision };
    if (mode === 'global') return { ...common, global: new Branch(own, backbone, 'global') };
    const networks = {
      ...common,
      local: new Branch(own, backbone, 'local', sharing),
      ensemble: new Ensemble(own),
      ...(this.#composes && { heads }),
    };
    if (mode === 'global-to-local') return { ...networks, global: new Branch(own, backbone, 'global') };
    return {
      ...networks,
      global: new Branch(await this.#load('global'), backbone, 'global'),
      globalExt: new Branch(own, backbone, 'global-ext', sharing),
    };
  }

  /** The parameters of a mode, batch normalisation folded, without those that only heads are composed of. */
  async #load(mode: Mode): Promise<Map<string, Tensor>> {
    const located = this.#file.locate(mode);
    const tensors = new Map<string, Tensor>();
    const read = (name: string) => this.#file.read(located.get(name)!);
    const readWeight = (stored: string) => {
      const { dtype, shape } = this.#file.tensors.get(stored)!;
      const bytes = elementCount(shape) * dtypeBytes[dtype];
      if (this.#weight.byteLength < bytes) this.#weight = new ArrayBuffer(bytes);
      return this.#file.read(stored, this.#weight);
    };
    for (const [name, stored] of located) {
      if (/\.(bn\d|downsample\.1)\.\w+$/.test(name)) continue;
      if (this.#composes && headLayers.some((layer) => name.startsWith(layer))) continue;
      const norm = normAfter(name);
      if (!norm) {
        tensors.set(name, await this.#tensor(stored, () => readWeight(stored)));
        continue;
      }
      // Statistics may have moved where weights did not, so both decide what is the same.
      const fields = normFields.map((field) => `${norm}.${field}`);
      const key = [name, ...fields].map((each) => located.get(each)).join(' ');
      await this.#conv(tensors, name.replace(/\.weight$/, ''), key, async () => {
        const [weight, ...statistics] = await Promise.all([readWeight(stored), ...fields.map(read)]);
        const entries = normFields.map((field, i) => [field, statistics[i]!] as const);
        return foldBatchNorm(weight!, Object.fromEntries(entries) as Norm);
      });
    }
    return tensors;
  }

  /** Puts the last level's sampled layers among the local branch's parameters. */
  async #addSampled(tensors: Map<string, Tensor>, mode: Mode): Promise<void> {
    const { layer, keyOf } = this.#layers(mode);
    const { channels } = this.config.fpn;
    const sampled = lazily(async () =>
      sampleLevel(await layer(lastSmooth[0]), await layer(lastSmooth[1]), channels),
    );
    const key = `${keyOf(...lastSmooth)} sampled`;
    for (const [i, stage] of (['smooth1', 'smooth2'] as const).entries()) {
      // p and ps0, and for the second ps1.
      for (let part = 0; part < 2 + i; part++) {
        await this.#conv(
          tensors,
          `${lastSmooth[i]}_sampled.${part}`,
          `${key} ${stage} ${part}`,
          async () => (await sampled())[stage][part]!,
        );
      }
    }
  }

  /** Reads a mode's layers, and names what they hold. */
  #layers(mode: Mode): {
    layer: (name: string) => Promise<FoldedConv>;
    keyOf: (...layers: readonly string[]) => string;
  } {
    const located = this.#file.locate(mode);
    return {
      layer: async (name) => ({
        weight: await this.#file.read(located.get(`${name}.weight`)!),
        bias: await this.#file.read(located.get(`${name}.bias`)!),
      }),
      // A phase may share the weights of another and not its biases.
      keyOf: (...layers) =>
        layers.flatMap((each) => [located.get(`${each}.weight`), located.get(`${each}.bias`)]).join(' '),
    };
  }

  /** The local branch's `smooth`, composed with what follows it. */
  async #head(mode: Mode, output: LocalOutput): Promise<Head> {
    const { layer, keyOf } = this.#layers(mode);
    const name = output === 'local' ? 'fpn_local.classify' : 'ensemble_conv';
    const key = keyOf(smoothLayer, name);
    const composed = lazily(async () => compose(await layer(smoothLayer), await layer(name)));
    const parameters = new Map<string, Tensor>();
    for (const step of ['taps', 'sum'] as const) {
      await this.#conv(parameters, step, `${key} ${step}`, async () => (await composed())[step]);
    }
    if (this.#foldsLastLevel) {
      const folded = lazily(async () => {
        const [smooth1, smooth2] = [await layer(lastSmooth[0]), await layer(lastSmooth[1])];
        const { fpn, sharing } = this.config;
        const lastChannels = sharing === 'none' ? fpn.smooth : 2 * fpn.smooth;
        return foldLevel((await composed()).products, smooth1, smooth2, lastChannels);
      });
      const last = `${key} ${keyOf(...lastSmooth)} last`;
      await this.#conv(parameters, 'last', last, async () => (await folded()).whole);
      for (const side of sides)
        await this.#conv(
          parameters,
          `last.${side}`,
          `${last} ${side}`,
          async () => (await folded()).edges[side],
        );
    }
    return new ComposedConv(new Parameters(parameters));
  }

  /**
   * Puts a convolution's weight and bias among some tensors, as `name.weight` and `name.bias`.
   * @param key names what they hold
   * @param make is called once, unless both are on the device
   */
  async #conv(
    tensors: Map<string, Tensor>,
    name: string,
    key: string,
    make: () => Promise<FoldedConv>,
  ): Promise<void> {
    const made = lazily(make);
    for (const part of ['weight', 'bias'] as const) {
      tensors.set(`${name}.${part}`, await this.#tensor(`${key} ${part}`, async () => (await made())[part]));
    }
  }

  /** @param key names what the tensor holds */
  #tensor(key: string, read: () => Promise<HostTensor>): Promise<Tensor> {
    let tensor = this.#tensors.get(key);
    if (!tensor) {
      tensor = read().then(async (host) => {
        const uploaded = this.#upload(host);
        try {
          // The memory that it was read into may be the next one's.
          await this.device.synchronize();
        } catch (error) {
          uploaded.dispose();
          throw error;
        }
        return uploaded;
      });
      this.#tensors.set(key, tensor);
      tensor.catch(() => this.#tensors.delete(key));
    }
    return tensor;
  }

  #upload(host: HostTensor): Tensor {
    const { shape } = host;
    // Biases and statistics are added in float32 in any case.
    const dtype = shape.length === 4 ? this.precision : 'float32';
    const known = host.dtype === 'float16' || host.dtype === 'bfloat16' || host.dtype === 'float32';
    const stored = known ? host.dtype : 'float32';
    const tensor = this.device.upload(known ? host.data : toFloat32(host), shape, stored);
    if (stored === dtype) return tensor;
    using other = tensor;
    return cast(other, dtype);
  }
}

/** The networks of a model file, loaded as modes ask for them and composed for inference. */
import { binding, type WeightPlace } from '../binding';
import type { Mode, ModelConfig, ModelFile } from '../checkpoint/model-file';
import { fromFloat32, type HostTensor, toFloat32 } from '../checkpoint/state-dict';
import { type Head, type Share, sides, type TakeMap } from '../models/fpn';
import { Branch, Ensemble } from '../models/glnet';
import { ComposedConv } from '../nn/layers';
import { Parameters } from '../nn/parameters';
import { cast } from '../tensor/cast';
import type { Device, DeviceKind, Graph } from '../tensor/device';
import type { Tensor } from '../tensor/tensor';
import {
  compose,
  type FoldedConv,
  foldBatchNorm,
  foldLevel,
  foldOthers,
  type Norm,
  normAfter,
  normFields,
  sampleLevel,
} from './fold';
import { Scratch } from './scratch';

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
  /** In which batches of so many patches are queued, where they are queued in graphs. */
  readonly graph?: (patches: number) => Graph;
  /** Gives the maps that the local branch takes in; in mode `global`, the prediction. Phase-1 weights. */
  readonly global: Branch;
  readonly local?: Branch;
  readonly ensemble?: Ensemble;
  /** What the local branch's last maps become, without ps3; where there are none, ps3 is made. */
  readonly heads?: Readonly<Partial<Record<LocalOutput, Head>>>;
  /** Takes merged local maps in; mode `bidirectional`. */
  readonly globalExt?: Branch;
  /** Frees a branch's weights, which it reads anew when it runs again. With it, steps.ts's passOnce keeps none. */
  readonly unload?: (branch: BranchName) => void;
}

export type BranchName = 'global' | 'local';

/** What is wanted of the local branch: its own logits, or its part of the aggregation. */
export const localOutputs = ['local', 'ensemble'] as const;
export type LocalOutput = (typeof localOutputs)[number];

/**
 * Runs the local branch over patches; only what is wanted is computed.
 * @param take sees the branch's maps, if they are wanted, too; each goes as soon as it can
 */
export function runLocal(
  { local, ensemble, heads }: Networks,
  x: Tensor,
  share: Share,
  wanted: readonly LocalOutput[],
  take: TakeMap | undefined,
): Partial<Record<LocalOutput, Tensor>> {
  const named = (tensors: readonly Tensor[]): Partial<Record<LocalOutput, Tensor>> =>
    Object.fromEntries(wanted.map((output, i) => [output, tensors[i]!]));
  if (heads) {
    const used = wanted.map((output) => heads[output]!);
    return named(local!.apply(used, x, share, take));
  }
  return x.device.scope(() => {
    const ps3 = local!.forwardTaking(x, share, take);
    return named(wanted.map((output) => (output === 'local' ? local!.classify(ps3) : ensemble!.local(ps3))));
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
  readonly #graphsMade: Graph[] = [];
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

  /** Frees the weights, and the graphs. */
  async dispose(): Promise<void> {
    for (const graph of this.#graphsMade.splice(0)) graph.dispose();
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
    if (this.#composes) {
      for (const output of wanted)
        heads[output] = await this.#composing((scratch) => this.#head(scratch, mode, output));
    }
    const own = await this.#load(mode);
    const fixed = mode === 'bidirectional' ? await this.#load('global') : own;
    const deep = (sharing ?? 'deep') === 'deep';
    const samples = mode === 'bidirectional' && deep && this.#composes && this.#foldsLastLevel;
    const sampled = samples ? await this.#composing((scratch) => this.#sampled(scratch, mode)) : [];
    const common = {
      device: this.device,
      precision: this.precision,
      ...(this.device.cudaGraphs && { graph: this.#graphs() }),
    };
    if (mode === 'global') return { ...common, global: new Branch(own, backbone, 'global') };
    const networks = {
      ...common,
      local: new Branch(new Map([...own, ...sampled]), backbone, 'local', sharing),
      ensemble: new Ensemble(own),
      ...(this.#composes && { heads }),
      global: new Branch(fixed, backbone, 'global'),
      // Elsewhere weights go a long way, and go only where there is a limit.
      ...((this.device.kind === 'cpu' || this.device.memory().limit > 0) && {
        unload: (branch: BranchName) => {
          const side = branch === 'local' ? '_local.' : '_global.';
          for (const [name, tensor] of branch === 'global' ? fixed : own) {
            if (name.includes(side)) this.device.unload(tensor);
          }
          // The global branch's last pass wants other memory. A GPU's comes in segments, which are dear to get again.
          if (branch === 'local' && this.device.kind === 'cpu') this.device.trim();
        },
      }),
    };
    if (mode === 'global-to-local') return networks;
    return {
      ...networks,
      globalExt: new Branch(own, backbone, 'global-ext', sharing),
    };
  }

  /** A graph for each number of patches, made when it is first asked for. */
  #graphs(): (patches: number) => Graph {
    const graphs = new Map<number, Graph>();
    return (patches) => {
      let graph = graphs.get(patches);
      if (!graph) {
        graph = this.device.makeGraph();
        graphs.set(patches, graph);
        this.#graphsMade.push(graph);
      }
      return graph;
    };
  }

  /** The parameters of a mode, batch normalisation folded, without those that only heads are composed of. */
  async #load(mode: Mode): Promise<Map<string, Tensor>> {
    const located = this.#file.locate(mode);
    const tensors = new Map<string, Tensor>();
    const read = (name: string) => this.#file.read(located.get(name)!);
    for (const [name, stored] of located) {
      if (/\.(bn\d|downsample\.1)\.\w+$/.test(name)) continue;
      if (this.#composes && headLayers.some((layer) => name.startsWith(layer))) continue;
      const norm = normAfter(name);
      if (!norm) {
        const make = async () =>
          name.endsWith('.weight') ? this.#weight(stored) : this.#upload(await this.#file.read(stored));
        tensors.set(name, await this.#tensor(stored, make));
        continue;
      }
      // Statistics may have moved where weights did not, so both decide what is the same.
      const fields = normFields.map((field) => `${norm}.${field}`);
      const key = [name, ...fields].map((each) => located.get(each)).join(' ');
      const folded = lazily(async () => {
        const statistics = await Promise.all(fields.map(read));
        const entries = normFields.map((field, i) => [field, statistics[i]!] as const);
        // Of a weight of ones, its factors are left.
        const outputs = this.#file.tensors.get(stored)!.shape[0]!;
        const ones = fromFloat32([outputs], new Float32Array(outputs).fill(1));
        return foldBatchNorm(ones, Object.fromEntries(entries) as Norm);
      });
      tensors.set(
        name,
        await this.#tensor(`${key} weight`, async () =>
          this.#weight(stored, toFloat32((await folded()).weight)),
        ),
      );
      const bias = async () => this.#upload((await folded()).bias);
      tensors.set(name.replace(/weight$/, 'bias'), await this.#tensor(`${key} bias`, bias));
    }
    return tensors;
  }

  /** Lets weights be composed in a scratch, which goes when the device has what was uploaded of it. */
  async #composing<T>(make: (scratch: Scratch) => Promise<T>): Promise<T> {
    const scratch = new Scratch();
    try {
      return await make(scratch);
    } finally {
      await this.device.synchronize().finally(() => scratch.free());
    }
  }

  /** The local branch's last level for few pixels, see models/fpn.ts. */
  async #sampled(scratch: Scratch, mode: Mode): Promise<Map<string, Tensor>> {
    const tensors = new Map<string, Tensor>();
    const { layer, keyOf } = this.#layers(scratch, mode);
    const { channels } = this.config.fpn;
    const sampled = lazily(async () =>
      sampleLevel(scratch, await layer(lastSmooth[0]), await layer(lastSmooth[1]), channels),
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
    return tensors;
  }

  /** Reads a mode's layers into a scratch, and names what they hold. */
  #layers(
    scratch: Scratch,
    mode: Mode,
  ): {
    layer: (name: string) => Promise<FoldedConv>;
    keyOf: (...layers: readonly string[]) => string;
  } {
    const located = this.#file.locate(mode);
    const read = async (name: string): Promise<HostTensor> => {
      const stored = await this.#file.read(located.get(name)!);
      scratch.own(stored.data);
      return fromFloat32(stored.shape, scratch.own(toFloat32(stored)));
    };
    return {
      layer: async (name) => ({ weight: await read(`${name}.weight`), bias: await read(`${name}.bias`) }),
      // A phase may share the weights of another and not its biases.
      keyOf: (...layers) =>
        layers.flatMap((each) => [located.get(`${each}.weight`), located.get(`${each}.bias`)]).join(' '),
    };
  }

  /** The local branch's `smooth`, composed with what follows it. */
  async #head(scratch: Scratch, mode: Mode, output: LocalOutput): Promise<Head> {
    const { layer, keyOf } = this.#layers(scratch, mode);
    const name = output === 'local' ? 'fpn_local.classify' : 'ensemble_conv';
    const key = keyOf(smoothLayer, name);
    const composed = lazily(async () => compose(scratch, await layer(smoothLayer), await layer(name)));
    const parameters = new Map<string, Tensor>();
    for (const step of ['taps', 'sum'] as const) {
      await this.#conv(parameters, step, `${key} ${step}`, async () => (await composed())[step]);
    }
    if (this.#foldsLastLevel) {
      const { fpn, sharing } = this.config;
      const lastChannels = sharing === 'none' ? fpn.smooth : 2 * fpn.smooth;
      const last = lazily(async () => {
        const [smooth1, smooth2] = [await layer(lastSmooth[0]), await layer(lastSmooth[1])];
        return foldLevel(scratch, (await composed()).products, smooth1, smooth2, lastChannels);
      });
      const others = lazily(async () => foldOthers(scratch, await composed(), lastChannels));
      for (const [name, layers, folded] of [
        ['last', lastSmooth, last],
        ['others', [], others],
      ] as const) {
        const holds = `${key} ${keyOf(...layers)} ${name}`;
        await this.#conv(parameters, name, holds, async () => (await folded()).whole);
        for (const side of sides)
          await this.#conv(
            parameters,
            `${name}.${side}`,
            `${holds} ${side}`,
            async () => (await folded()).edges[side],
          );
      }
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
      const upload = async () => this.#upload((await made())[part]);
      tensors.set(`${name}.${part}`, await this.#tensor(`${key} ${part}`, upload));
    }
  }

  /** @param key names what the tensor holds */
  #tensor(key: string, make: () => Promise<Tensor>): Promise<Tensor> {
    let tensor = this.#tensors.get(key);
    if (!tensor) {
      tensor = make();
      this.#tensors.set(key, tensor);
      tensor.catch(() => this.#tensors.delete(key));
    }
    return tensor;
  }

  /**
   * A convolution's weight, left in the file until a kernel wants it: many kernels pack it, and plain values would take
   * as much memory again.
   */
  #weight(stored: string, factors?: Float32Array): Tensor {
    const { dtype, shape, start } = this.#file.tensors.get(stored)!;
    const place = {
      file: this.#file.descriptor,
      position: start,
      dtype: dtype as WeightPlace['dtype'],
      ...(factors && { factors }),
    };
    return this.device.weight(place, shape, this.precision);
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

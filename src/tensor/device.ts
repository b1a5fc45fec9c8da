/** Devices: where tensors live and ops run, in the order in which they are called. */
import {
  binding,
  type DType,
  type Handle,
  type Memory,
  type NativeDevice,
  native,
  nativeAsync,
  type Ops,
  type Planned,
  type TraceEvent,
  type WeightPlace,
} from '../binding';
import { GlnetError } from '../errors';
import { CallBuffer, layoutOf } from './arguments';
import type { Tape } from './autograd';
import { Tensor } from './tensor';

export type { Memory, Planned, TraceEvent };

/**
 * Kinds of devices. For tests: `emulator` runs the CUDA kernels on the CPU, `reference` is slow and exact. What is
 * there beside `cpu` and `reference` depends on the build and the machine.
 */
export const deviceKinds = ['cpu', 'cuda', 'emulator', 'reference'] as const;
export type DeviceKind = (typeof deviceKinds)[number];

export interface DeviceOptions {
  /** Default `cpu`. */
  kind?: DeviceKind;
  /** Which of the kind's devices, counted from 0; default 0. */
  index?: number;
  /** Threads that compute; default one for each core. */
  threads?: number;
  /** The most bytes that the device's pool may take from the system; default no limit. */
  memoryLimit?: number;
  /** Whether work that comes again and again is queued in a {@link Graph}; default false. */
  cudaGraphs?: boolean;
}

/**
 * How many devices of a kind there are.
 * @throws GlnetError ERR_NATIVE if there are none, with the reason and what can be done about it.
 */
export function deviceCount(kind: DeviceKind): number {
  return native(() => binding().deviceCount(kind));
}

/**
 * Work that is queued again and again, the same ops on tensors of the same shapes: a GPU gets it in one piece, as a CUDA
 * graph that is updated each time, instead of kernel by kernel. Other devices get it as ever.
 */
export interface Graph {
  /** Calls `body`, which must be synchronous, and queues its ops. While the device is traced they come one by one. */
  run<T>(body: () => T): T;
  dispose(): void;
}

/** What an op takes, with tensors for handles. */
type WithTensors<T> = T extends Handle
  ? Tensor
  : T extends readonly (infer Item)[]
    ? readonly WithTensors<Item>[]
    : T extends object
      ? { readonly [Key in keyof T]: WithTensors<T[Key]> }
      : T;
export type OpArguments<Name extends keyof Ops> = WithTensors<Ops[Name]>;

/** Element types that a typed array of JavaScript's holds as they are. */
const arrayTypes = {
  float32: Float32Array,
  int32: Int32Array,
  uint8: Uint8Array,
  float64: Float64Array,
  // Bits, as JavaScript has no arrays of these.
  bfloat16: Uint16Array,
  float16: Uint16Array,
} as const;
export type TensorData = InstanceType<(typeof arrayTypes)[DType]>;

/**
 * An in-order device. Calls return at once; the work runs on the device's own thread, and only reading values
 * waits. Memory comes from the device's pool and goes back to it in stream order.
 */
export class Device {
  readonly kind: DeviceKind;
  readonly index: number;
  readonly cudaGraphs: boolean;
  readonly #native: NativeDevice;
  readonly #calls = new CallBuffer();
  readonly #scopes: Set<Tensor>[] = [];
  /** Watches tensors that are in no scope; those in one cannot be collected. */
  readonly #leaks = new FinalizationRegistry<Handle>((handle) => {
    this.leaks += 1;
    this.#native.release(handle);
  });
  /** Graphs made so far. */
  #graphs = 0;
  #unloads = false;
  /** Tensors that were collected without having been disposed of: a bug of the caller's, counted for tests. */
  leaks = 0;
  /** Records the ops that run here, while it is set. */
  tape: Tape | undefined;
  /** Sees the output of every layer, while it is set; must not keep it. */
  probe: ((layer: string, output: Tensor) => void) | undefined;

  /** @throws GlnetError ERR_INVALID_ARGUMENT, or ERR_NATIVE if there is no such device or no addon. */
  constructor(options: DeviceOptions = {}) {
    const { kind = 'cpu', index = 0, threads = 0, memoryLimit = 0, cudaGraphs = false } = options;
    if (!deviceKinds.includes(kind)) {
      throw new GlnetError(
        'ERR_INVALID_ARGUMENT',
        `device is ${kind}; expected one of ${deviceKinds.join(', ')}`,
      );
    }
    if (!Number.isInteger(threads) || threads < 0 || threads > 1024) {
      throw new GlnetError(
        'ERR_INVALID_ARGUMENT',
        `threads is ${threads}; expected 1 to 1024, or 0 for all cores`,
      );
    }
    if (!Number.isSafeInteger(memoryLimit) || memoryLimit < 0) {
      throw new GlnetError(
        'ERR_INVALID_ARGUMENT',
        `memoryLimit is ${memoryLimit}; expected bytes, or 0 for none`,
      );
    }
    if (!Number.isInteger(index) || index < 0) {
      throw new GlnetError('ERR_INVALID_ARGUMENT', `device index is ${index}; expected a number from 0`);
    }
    if (typeof cudaGraphs !== 'boolean') {
      throw new GlnetError('ERR_INVALID_ARGUMENT', `cudaGraphs is ${cudaGraphs}; expected true or false`);
    }
    this.kind = kind;
    this.index = index;
    this.cudaGraphs = cudaGraphs;
    this.#native = native(() => new (binding().Device)({ kind, index, threads, memoryLimit }));
  }

  /** Such as `cuda:0`. */
  get name(): string {
    return `${this.kind}:${this.index}`;
  }

  /** What computes: a line for people. */
  get description(): string {
    return native(() => this.#native.description());
  }

  /** Queues an op; returns its outputs. Throws at once if its arguments do not fit. */
  run<Name extends keyof Ops>(name: Name, args: OpArguments<Name>): Tensor[] {
    const layout = layoutOf(name);
    const numbers = this.#calls.write(layout, args);
    native(() => this.#native.run(layout.number, numbers));
    return this.#calls.outputs((handle, shape, dtype) => this.#adopt(handle, shape, dtype));
  }

  /** As {@link run}, for ops with one output. */
  run1<Name extends keyof Ops>(name: Name, args: OpArguments<Name>): Tensor {
    return this.run(name, args)[0]!;
  }

  /**
   * Copies data to the device, in stream order: the data must not change before the next {@link synchronize}.
   * @param data little-endian, row-major; as many bytes as the shape and dtype say.
   */
  upload(data: NodeJS.TypedArray, shape: readonly number[], dtype: DType): Tensor {
    return this.#adopt(
      native(() => this.#native.upload(data, shape, dtype)),
      shape,
      dtype,
    );
  }

  /**
   * A convolution's weight whose values stay in a file: it takes memory where a kernel wants it, and in the layout that
   * the kernel wants. The file must keep its bytes. What cannot be read fails the device.
   */
  weight(place: WeightPlace, shape: readonly number[], dtype: DType): Tensor {
    return this.#adopt(
      native(() => this.#native.weight(place, shape, dtype)),
      shape,
      dtype,
    );
  }

  /** Frees what is made again when it is wanted: a weight's packed copies, and the plain values of a {@link weight}. */
  unload(weight: Tensor): void {
    native(() => this.#native.unload(weight.handle));
  }

  /** Whether layers {@link unload} a weight as soon as they have read it. */
  get unloads(): boolean {
    return this.#unloads;
  }

  /** Lets layers keep no weights while `body` runs, which must be synchronous: for what reads each once. */
  unloading<T>(body: () => T): T {
    const before = this.#unloads;
    this.#unloads = true;
    try {
      return body();
    } finally {
      this.#unloads = before;
    }
  }

  /** A graph, which lives until it is disposed of. */
  makeGraph(): Graph {
    const number = this.#graphs++;
    return {
      run: (body) => {
        native(() => this.#native.beginGraph(number));
        try {
          return body();
        } finally {
          native(() => this.#native.endGraph());
        }
      },
      dispose: () => this.#native.dropGraph(number),
    };
  }

  /** How often graphs were launched: 0 where the device has none. */
  graphLaunches(): number {
    return native(() => this.#native.graphLaunches());
  }

  zeros(shape: readonly number[], dtype: DType): Tensor {
    return this.#adopt(
      native(() => this.#native.zeros(shape, dtype)),
      shape,
      dtype,
    );
  }

  /** A tensor on the memory of another; see {@link Tensor.part}. */
  view(tensor: Tensor, first: number, shape: readonly number[]): Tensor {
    return this.#adopt(
      native(() => this.#native.view(tensor.handle, first, shape)),
      shape,
      tensor.dtype,
    );
  }

  /** Reads a tensor's values; bfloat16 and float16 as their bits. */
  async download(
    tensor: Tensor,
    target: TensorData = new arrayTypes[tensor.dtype](tensor.size),
  ): Promise<TensorData> {
    await nativeAsync(() => this.#native.download(tensor.handle, target));
    return target;
  }

  /** Resolves when all that was queued has run; rejects with the first error of it. */
  synchronize(): Promise<void> {
    return nativeAsync(() => this.#native.synchronize());
  }

  /**
   * Calls `body` and disposes of every tensor made in it, but for those in what it returns (a tensor, or arrays
   * and plain objects of such). `body` must be synchronous.
   */
  scope<T>(body: () => T): T {
    const outer = this.#scopes.at(-1);
    const made = new Set<Tensor>();
    this.#scopes.push(made);
    try {
      const result = body();
      for (const tensor of tensorsIn(result)) {
        if (!made.delete(tensor)) continue;
        if (outer) outer.add(tensor);
        else this.#watch(tensor);
      }
      return result;
    } finally {
      for (const tensor of made) tensor.dispose();
      this.#scopes.pop();
    }
  }

  /**
   * What `body` would take of the pool, to the byte, without doing it: its ops are checked and memory is counted as if
   * they ran, but nothing runs and none is taken. Tensors made in it go at its end; they have no values.
   * @param body synchronous; may pass tensors that were there before to `drop`, as if it disposed of them
   * @param limit of the pool, 0 for none; default the device's. `reserved` is above it where the work would not fit.
   */
  plan(body: (drop: (tensor: Tensor) => void) => void, limit: number = this.memory().limit): Planned {
    if (this.tape)
      throw new GlnetError('ERR_INVALID_ARGUMENT', 'nothing can be planned while a tape records');
    const { probe } = this;
    const outer = this.#scopes.length;
    const drop = (tensor: Tensor): void => {
      if (this.#scopes.slice(outer).some((scope) => scope.has(tensor))) tensor.dispose();
      else native(() => this.#native.planRelease(tensor.handle));
    };
    native(() => this.#native.beginPlan(limit));
    let planned: Planned;
    this.probe = undefined;
    try {
      this.scope(() => body(drop));
    } finally {
      this.probe = probe;
      planned = native(() => this.#native.endPlan());
    }
    return planned;
  }

  /** Takes a tensor out of the scope that it was made in: it lives until it is disposed of. */
  forget(tensor: Tensor): void {
    if (this.#leaveScope(tensor)) this.#watch(tensor);
  }

  /** Bytes of the device's pool. */
  memory(): Memory {
    return native(() => this.#native.memory());
  }

  /** Gives what the pool caches back to the system. */
  trim(): void {
    native(() => this.#native.trim());
  }

  /** Of all ops that were called: what the plan of the work costs, counted as the ops compute it. */
  multiplyAdds(): number {
    return native(() => this.#native.multiplyAdds());
  }

  /** Begins to record what runs, anew. Meanwhile a GPU is waited for after each op. */
  startTrace(): void {
    native(() => this.#native.startTrace());
  }

  /** Stops recording; what ran since {@link startTrace}, in its order. */
  stopTrace(): TraceEvent[] {
    return native(() => this.#native.stopTrace());
  }

  /** Lets the peak counters start anew from what is in use. */
  resetPeak(): void {
    native(() => this.#native.resetPeak());
  }

  /** Stops the device; its tensors are gone. Idempotent. */
  dispose(): void {
    this.#native.close();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #adopt(handle: Handle, shape: readonly number[], dtype: DType): Tensor {
    const tensor = new Tensor(this, handle, shape, dtype, this.#release);
    const scope = this.#scopes.at(-1);
    if (scope) scope.add(tensor);
    else this.#watch(tensor);
    return tensor;
  }

  #watch(tensor: Tensor): void {
    this.#leaks.register(tensor, tensor.handle, tensor);
  }

  readonly #release = (tensor: Tensor, handle: Handle): void => {
    if (!this.#leaveScope(tensor)) this.#leaks.unregister(tensor);
    this.#native.release(handle);
  };

  #leaveScope(tensor: Tensor): boolean {
    return this.#scopes.some((scope) => scope.delete(tensor));
  }
}

function* tensorsIn(value: unknown): Generator<Tensor> {
  if (value instanceof Tensor) yield value;
  else if (typeof value === 'object' && value !== null)
    for (const item of Object.values(value)) yield* tensorsIn(item);
}

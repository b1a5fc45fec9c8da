// The native addon as JavaScript sees it. Made by scripts/generate-binding.js from the ops' own declarations
// (native/ops); change those, not this file. Only src/binding.ts may use it.

declare const handle: unique symbol;
/** A tensor of a device: a number that is never used twice. */
export type Handle = number & { readonly [handle]: true };

export type DType = 'float32' | 'bfloat16' | 'float16' | 'float64' | 'int32' | 'uint8';

/** Bytes of a device's pool; see native/core/pool.h. */
export interface Memory {
  /** In tensors that are alive. */
  active: number;
  /** Kept for the next request. */
  cached: number;
  /** The most that were active at once. */
  peak: number;
  /** The most that were taken from the system at once. */
  reserved: number;
  /** The most that may be taken from the system; 0 means no limit. */
  limit: number;
  /** Beside the pool: buffers through which data goes to the device and back. */
  staging: number;
  /** Tensors that are alive. */
  tensors: number;
}

/** What work would take. */
export interface Planned {
  /** The most bytes that would be in tensors at once. */
  peak: number;
  /** The most that would be taken from the system at once. */
  reserved: number;
}

/** An op that ran. */
export interface TraceEvent {
  op: string;
  /** Of what it read and wrote. */
  shapes: string;
  /** In seconds, on the clock of process.hrtime. */
  begin: number;
  end: number;
  multiplyAdds: number;
}

export interface DeviceOptions {
  kind: string;
  /** Which of the kind's devices, counted from 0. */
  index: number;
  /** 0 means one for each core. */
  threads: number;
  /** In bytes; 0 means no limit. */
  memoryLimit: number;
}

/** Where values lie in a file, which must keep them. */
export interface WeightPlace {
  /** Descriptor of the open file; it may be closed when the call has returned. */
  file: number;
  /** Of the first byte. */
  position: number;
  /** What the file holds, of a floating type. */
  dtype: DType;
  /** The values are times one of these each, in equal parts. */
  factors?: Float32Array;
}

/** The arguments of each op, by its name. */
export interface Ops {
  accumulate: { sum: Handle; x: Handle };
  adam: { parameters: readonly Handle[]; firstMoments: readonly Handle[]; secondMoments: readonly Handle[]; gradients: readonly Handle[]; learningRates?: readonly number[]; weightDecays?: readonly number[]; beta1?: number; beta2?: number; epsilon?: number; gradientScale?: number; step?: number };
  add: { a: Handle; b: Handle };
  aggregate_conv: { sources: readonly { x: Handle; tops?: readonly number[]; lefts?: readonly number[]; cropHeight?: number; cropWidth?: number; sizes?: readonly number[]; windowTop?: number; windowLeft?: number; windowHeight?: number; windowWidth?: number; windowSkipRows?: number; windowSkipColumns?: number }[]; weight: Handle; bias?: Handle; addend?: Handle; first?: number; relu?: boolean; overwrite?: boolean };
  aggregate_conv_backward_data: { dy: Handle; weight: Handle; source: { batch?: number; height?: number; width?: number; channels?: number; tops?: readonly number[]; lefts?: readonly number[]; cropHeight?: number; cropWidth?: number; sizes?: readonly number[] }; first?: number; addend?: Handle };
  aggregate_conv_backward_weights: { dy: Handle; source: { x: Handle; tops?: readonly number[]; lefts?: readonly number[]; cropHeight?: number; cropWidth?: number; sizes?: readonly number[]; windowTop?: number; windowLeft?: number; windowHeight?: number; windowWidth?: number; windowSkipRows?: number; windowSkipColumns?: number }; first?: number; dweight: Handle };
  argmax: { x: Handle };
  batch_norm: { x: Handle; weight: Handle; bias: Handle; mean: Handle; variance: Handle; residual?: Handle; epsilon?: number; relu?: boolean };
  batch_norm_backward: { dy: Handle; x: Handle; weight: Handle; mean: Handle; inverseDeviation: Handle; y?: Handle; dweight: Handle; dbias: Handle };
  batch_norm_train: { x: Handle; weight: Handle; bias: Handle; runningMean: Handle; runningVar: Handle; residual?: Handle; epsilon?: number; momentum?: number; relu?: boolean };
  cast: { x: Handle; dtype?: 'float32' | 'bfloat16' | 'float16' | 'float64' | 'int32' | 'uint8' };
  channel_sum: { x: Handle; sum: Handle };
  concat: { inputs: readonly Handle[] };
  conv2d: { x: Handle; weight: Handle; bias?: Handle; residual?: Handle; stride?: number; padding?: number; relu?: boolean; overwrite?: boolean; pool?: boolean };
  conv2d_backward_data: { dy: Handle; weight: Handle; addend?: Handle; height?: number; width?: number; stride?: number; padding?: number };
  conv2d_backward_weights: { x: Handle; dy: Handle; stride?: number; padding?: number; dweight: Handle };
  crop_resize: { sources: readonly { x: Handle; tops?: readonly number[]; lefts?: readonly number[]; cropHeight?: number; cropWidth?: number; sizes?: readonly number[]; windowTop?: number; windowLeft?: number; windowHeight?: number; windowWidth?: number; windowSkipRows?: number; windowSkipColumns?: number }[] };
  crop_resize_backward: { dy: Handle; source: { batch?: number; height?: number; width?: number; channels?: number; tops?: readonly number[]; lefts?: readonly number[]; cropHeight?: number; cropWidth?: number; sizes?: readonly number[] }; addend?: Handle };
  decode_patches: { x: Handle; tops?: readonly number[]; lefts?: readonly number[]; height?: number; width?: number; turn?: number; dtype?: 'float32' | 'bfloat16' | 'float16' | 'float64' | 'int32' | 'uint8' };
  dice_loss: { logits: Handle; labels: Handle; classWeights?: Handle; ignored?: number; smooth?: number; scale?: number };
  focal_loss: { logits: Handle; labels: Handle; classWeights?: Handle; gamma?: number; ignored?: number; scale?: number };
  lovasz_loss: { logits: Handle; labels: Handle; ignored?: number; scale?: number };
  max_pool: { x: Handle; kernel?: number; stride?: number; padding?: number };
  max_pool_backward: { dy: Handle; x: Handle; kernel?: number; stride?: number; padding?: number };
  merge_patches: { sum: Handle; x: Handle; tops?: readonly number[]; lefts?: readonly number[]; height?: number; width?: number; rowCoverage?: readonly number[]; columnCoverage?: readonly number[] };
  mse: { a: Handle; b: Handle; scale?: number };
  paste: { y: Handle; x: Handle; top?: number; left?: number; skipRows?: number; skipColumns?: number; add?: boolean; transposed?: boolean };
  relu: { x: Handle };
  relu_backward: { dy: Handle; y: Handle };
  resize: { x: Handle; height?: number; width?: number; interpolation?: 'bilinear' | 'nearest' };
  sgd: { parameters: readonly Handle[]; momenta: readonly Handle[]; gradients: readonly Handle[]; learningRates?: readonly number[]; weightDecays?: readonly number[]; momentum?: number; nesterov?: boolean; gradientScale?: number };
  slice: { x: Handle; first?: number; count?: number };
  softmax: { x: Handle };
  stitch: { sources: readonly { logits: Handle; tops?: readonly number[]; lefts?: readonly number[]; height?: number; width?: number; turn?: number }[]; imageHeight?: number; imageWidth?: number; row?: number; rows?: number };
  sum_of_squares: { inputs: readonly Handle[] };
  triangle_resize: { x: Handle; sum: Handle; row?: number; imageHeight?: number };
  unfold_resize: { source: { x: Handle; tops?: readonly number[]; lefts?: readonly number[]; cropHeight?: number; cropWidth?: number; sizes?: readonly number[]; windowTop?: number; windowLeft?: number; windowHeight?: number; windowWidth?: number; windowSkipRows?: number; windowSkipColumns?: number }; kernel?: number; height?: number; width?: number };
}

/** What an argument is, and how it is written as numbers: see native/addon/arguments.h. */
export type Layout =
  | { kind: 'tensor' | 'boolean' | 'number' }
  | { kind: 'name'; names: readonly string[] }
  | { kind: 'array'; items: Layout }
  | StructLayout;

export interface StructLayout {
  kind: 'struct';
  fields: readonly { name: string; required: boolean; type: Layout }[];
}

export declare class Device {
  constructor(options: DeviceOptions);
  /**
   * Queues an op, whose number is its place in {@link describeOps}. Over its arguments go its outputs: how many there
   * are, and of each the handle, the place of its dtype, the number of its dimensions and these.
   */
  run(op: number, numbers: Float64Array): void;
  /** Queues a copy to the device; the data must not change until the queue has passed it. */
  upload(data: NodeJS.TypedArray, shape: readonly number[], dtype: DType): Handle;
  /** A tensor, as float32 or bfloat16, that takes memory only where a kernel wants it, in the layout that it wants. */
  weight(place: WeightPlace, shape: readonly number[], dtype: DType): Handle;
  /** Frees what can be made again: packed copies, and plain values that lie in a file. */
  unload(tensor: Handle): void;
  zeros(shape: readonly number[], dtype: DType): Handle;
  /** A tensor on the memory of another: the elements from `first` on, in a shape of their own. */
  view(tensor: Handle, first: number, shape: readonly number[]): Handle;
  /** Resolves when the tensor's bytes are in `target`. */
  download(tensor: Handle, target: NodeJS.TypedArray): Promise<void>;
  /** Resolves when all that is queued has run; rejects with the first error since the last time. */
  synchronize(): Promise<void>;
  release(tensor: Handle): void;
  memory(): Memory;
  /** Gives cached memory back to the system. */
  trim(): void;
  resetPeak(): void;
  /** Of all ops that were run. */
  multiplyAdds(): number;
  /**
   * What is queued from here to {@link endGraph} comes to a GPU in one piece, what was made for the same number the time
   * before being updated.
   */
  beginGraph(number: number): void;
  endGraph(): void;
  dropGraph(number: number): void;
  /** How often graphs were launched. */
  graphLaunches(): number;
  /** From here on nothing runs and nothing takes memory; under a limit of the pool's, 0 for none. */
  beginPlan(limit: number): void;
  /** Within a plan: as {@link release}, but a tensor that was there before the plan stays. */
  planRelease(tensor: Handle): void;
  /** What the pool would have had at most since the beginning of the plan, whose tensors go. */
  endPlan(): Planned;
  /** Begins to record what runs, anew. */
  startTrace(): void;
  /** Stops, and returns what was recorded since. */
  stopTrace(): TraceEvent[];
  /** What computes: a line for people. */
  description(): string;
  /** Stops; what is queued and not begun is dropped. Idempotent. */
  close(): void;
}

export declare function describeOps(): Record<keyof Ops, StructLayout>;
/** How many devices of a kind there are. Throws, saying why, if there are none. */
export declare function deviceCount(kind: string): number;
/** Stops the devices that work in queues of their own, before the process exits. */
export declare function closeQueues(): void;
/**
 * A kernel over the outputs of a convolution, as one over its inputs, computed in double precision beside JavaScript: adds to
 * `to` [at least K, h + kh - 1, w + kw - 1, C] the transposed convolution of `from` [K, h, w, at least M], of
 * which the first M channels count, with `weight` [M, C, plane], of which `taps` [kh, kw] names places in the plane.
 */
export declare function addThrough(
  to: Float64Array,
  from: Float64Array,
  fromShape: readonly [number, number, number, number],
  weight: Float32Array,
  weightShape: readonly [number, number, number],
  taps: Int32Array,
  tapRows: number,
): Promise<void>;
/**
 * Frees the memory of buffers, which are empty from here on, and so are the arrays on them. What is free in the process's heap
 * goes back to the system, too.
 */
export declare function detach(buffers: readonly ArrayBuffer[]): void;
export declare function machine(): { oneDNN: string; isa: string; bfloat16: boolean };

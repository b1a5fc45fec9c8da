/**
 * What of a network can be composed before it is run, for inference, when weights no longer change. Composed in double
 * precision; the result is the same up to rounding. Results lie in the scratch that was given, and go with it.
 */
import { addThrough } from '../binding';
import { fromFloat32, type HostTensor, toFloat32 } from '../checkpoint/state-dict';
import { type Side, sides } from '../models/fpn';
import { batchNormEpsilon } from '../tensor/batch-norm';
import type { Scratch } from './scratch';

/** A convolution: weight [K, C, k, k] and bias [K], float32. */
export interface FoldedConv {
  readonly weight: HostTensor;
  readonly bias: HostTensor;
}

/** The fields of a batch normalisation, in the order of its running statistics' use. */
export const normFields = ['weight', 'bias', 'running_mean', 'running_var'] as const;
export type Norm = Readonly<Record<(typeof normFields)[number], HostTensor>>;

/**
 * The batch normalisation that follows a backbone's convolution: `layer1.0.bn2` of `layer1.0.conv2.weight`, both as in
 * torchvision.
 * @returns undefined for what is no such weight
 */
export function normAfter(name: string): string | undefined {
  const match = /^(resnet_(?:global|local)\..*?)(conv(\d)|downsample\.0)\.weight$/.exec(name);
  if (!match) return undefined;
  const [, place, , number] = match;
  return place! + (number ? `bn${number}` : 'downsample.1');
}

/** `norm(conv(x))` as one convolution. The convolution has no bias; its weight, if it is float32, is overwritten. */
export function foldBatchNorm(weight: HostTensor, norm: Norm): FoldedConv {
  const values = toFloat32(weight);
  const [scale, shift, mean, variance] = normFields.map((field) => toFloat32(norm[field])) as [
    Float32Array,
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  const outputs = weight.shape[0]!;
  const size = values.length / outputs;
  const bias = new Float32Array(outputs);
  for (let k = 0; k < outputs; k++) {
    const factor = scale[k]! / Math.sqrt(variance[k]! + batchNormEpsilon);
    for (let i = k * size; i < (k + 1) * size; i++) values[i]! *= factor;
    bias[k] = shift[k]! - mean[k]! * factor;
  }
  return { weight: fromFloat32(weight.shape, values), bias: fromFloat32([outputs], bias) };
}

/**
 * Two convolutions in a row, each with "same" zero padding, as one whose outputs are few and a sum of shifted maps.
 *
 * With E of k x k taps after S: `y(p) = e + Σ_δ [p + δ inside] E_δ s(p + δ)`, `s = S t + b`. The channels that E_δ mixes
 * can be mixed before: the maps `u_δ = E_δ S t + E_δ b`, of K channels each, take the place of s, which may have
 * hundreds. What is left of E is to add them up, shifted; a tap that steps outside finds no map there, as before, so
 * borders are exact.
 */
export interface ComposedWeights {
  /** Makes u: [k·k·K, C, kernel of S], channel δ·K + i. */
  readonly taps: FoldedConv;
  /** Adds up: [K, k·k·K, k, k], a one for each tap. */
  readonly sum: FoldedConv;
}

/** A kernel in double precision: how outputs depend on the maps around them, [K, h, w, C]. */
interface Kernel {
  readonly values: Float64Array;
  readonly outputs: number;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
}

/**
 * How the outputs in the three lines along a side depend on one line of a map: [3·K, 1, width, C], output j·K + k for
 * class k in line j. Those of the last lines may be missing.
 */
type LineKernel = Kernel;

function emptyKernel(
  scratch: Scratch,
  outputs: number,
  height: number,
  width: number,
  channels: number,
): Kernel {
  return {
    values: scratch.float64(outputs * height * width * channels),
    outputs,
    height,
    width,
    channels,
  };
}

/** The composed kernels of {@link compose} before they are rounded: [k·k·K, l, l, C]. */
interface Products {
  readonly kernels: Kernel;
  /** K, k. */
  readonly outputs: number;
  readonly kernel: number;
}

/**
 * `second(first(x))` for few outputs: see {@link ComposedWeights}.
 * @param first S: weight [M, C, l, l], bias [M]
 * @param second E: weight [K, at least M, k, k], bias [K]; its first M input channels count
 */
export async function compose(
  scratch: Scratch,
  first: FoldedConv,
  second: FoldedConv,
): Promise<ComposedWeights & { products: Products }> {
  const [middle, channels, side] = first.weight.shape as [number, number, number, number];
  const [outputs, inputs, kernel] = second.weight.shape as [number, number, number, number];
  const taps = kernel * kernel;
  const weight = toFloat32(second.weight);
  const outer = emptyKernel(scratch, taps * outputs, 1, 1, middle);
  for (let tap = 0; tap < taps; tap++) {
    for (let k = 0; k < outputs; k++) {
      const to = (tap * outputs + k) * middle;
      for (let m = 0; m < middle; m++) outer.values[to + m] = weight[(k * inputs + m) * taps + tap]!;
    }
  }
  const bias = new Float64Array(taps * outputs);
  addConstant(bias, outer, toFloat32(first.bias));
  const kernels = await through(scratch, outer, first);
  const sum = scratch.float32(outputs * taps * outputs * taps);
  for (let k = 0; k < outputs; k++) {
    for (let tap = 0; tap < taps; tap++) sum[(k * taps * outputs + tap * outputs + k) * taps + tap] = 1;
  }
  return {
    taps: {
      weight: fromFloat32([taps * outputs, channels, side, side], weightOf(scratch, kernels)),
      bias: fromFloat32([taps * outputs], Float32Array.from(bias)),
    },
    sum: { weight: fromFloat32([outputs, taps * outputs, kernel, kernel], sum), bias: second.bias },
    products: { kernels, outputs, kernel },
  };
}

/**
 * Writes a kernel's channels from `from` on into a weight, where x lies next to x.
 * @param start where a row of the kernel begins
 * @param channel from one channel to the next
 * @param line from one line to the next
 */
function put(
  weight: Float32Array,
  { values, outputs, height, width, channels }: Kernel,
  start: (row: number) => number,
  [channel, line]: readonly [channel: number, line: number],
  { from = 0, factor = 1 } = {},
): void {
  for (let row = 0, at = 0; row < outputs; row++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++, at += channels) {
        const to = start(row) + y * line + x;
        for (let c = from; c < channels; c++) weight[to + (c - from) * channel] = factor * values[at + c]!;
      }
    }
  }
}

/** A kernel as a convolution's weight, [K, C, h, w]. */
function weightOf(scratch: Scratch, kernel: Kernel, factor = 1): Float32Array {
  const { outputs, height, width, channels } = kernel;
  const weight = scratch.float32(outputs * channels * height * width);
  put(weight, kernel, (k) => k * channels * height * width, [height * width, width], { factor });
  return weight;
}

/** The products' kernels over some of their input channels, each where its tap has it. */
function gatherProducts(
  scratch: Scratch,
  { kernels, outputs, kernel }: Products,
  first: number,
  count: number,
): Kernel {
  const { values, width: size, channels } = kernels;
  const side = kernel + size - 1;
  const whole = emptyKernel(scratch, outputs, side, side, count);
  for (let tap = 0, row = 0; tap < kernel * kernel; tap++) {
    const [dy, dx] = [Math.floor(tap / kernel), tap % kernel];
    for (let k = 0; k < outputs; k++, row++) {
      for (let i = 0; i < size * size; i++) {
        const to = ((k * side + dy + Math.floor(i / size)) * side + dx + (i % size)) * count;
        const from = (row * size * size + i) * channels + first;
        for (let c = 0; c < count; c++) whole.values[to + c]! += values[from + c]!;
      }
    }
  }
  return whole;
}

/** The kernel over the outputs of a convolution, as one over its inputs. The first of the kernel's channels are meant. */
async function through(scratch: Scratch, kernel: Kernel, conv: FoldedConv): Promise<Kernel> {
  const [, channels, side] = conv.weight.shape as [number, number, number, number];
  const { outputs, height, width } = kernel;
  const whole = emptyKernel(scratch, outputs, height + side - 1, width + side - 1, channels);
  await addThroughTaps(
    whole,
    kernel,
    conv,
    Int32Array.from({ length: side * side }, (_, i) => i),
    side,
  );
  return whole;
}

/** @param taps of the convolution's weight that count, `rows` of them */
function addThroughTaps(
  to: Kernel,
  { values, outputs, height, width, channels }: Kernel,
  { weight }: FoldedConv,
  taps: Int32Array,
  rows: number,
): Promise<void> {
  const [middle, inputs, side] = weight.shape as [number, number, number, number];
  const shape = [outputs, height, width, channels] as const;
  return addThrough(to.values, values, shape, toFloat32(weight), [middle, inputs, side * side], taps, rows);
}

/** Where a kernel of n x n has the element at some depth (0 is furthest out of the map) and place along a side. */
function tapAt(side: Side, n: number, depth: number, along: number): number {
  const inwards = side === 'top' || side === 'left' ? depth : n - 1 - depth;
  return side === 'top' || side === 'bottom' ? inwards * n + along : along * n + inwards;
}

/** Adds up what a constant in each of the first channels adds to each output. */
function addConstant(
  to: Float64Array,
  { values, outputs, height, width, channels }: Kernel,
  constant: Float32Array,
): void {
  for (let i = 0; i < outputs * height * width; i++) {
    let sum = 0;
    for (let m = 0; m < constant.length; m++) sum += values[i * channels + m]! * constant[m]!;
    to[Math.floor(i / (height * width))]! += sum;
  }
}

/** Of a kernel over a map, the line that output line j of each of the first `lines` reads at depth `line`. */
function linesOf(
  scratch: Scratch,
  kernel: Kernel,
  side: Side,
  lines: number,
  line: number,
  channels: number,
): LineKernel {
  const { outputs, width } = kernel;
  const whole = emptyKernel(scratch, lines * outputs, 1, width, channels);
  for (let j = 0, to = 0; j < lines; j++) {
    const depth = (width - 1) / 2 + line - j;
    for (let k = 0; k < outputs; k++) {
      for (let place = 0; place < width; place++, to += channels) {
        const from = (k * width * width + tapAt(side, width, depth, place)) * kernel.channels;
        whole.values.set(kernel.values.subarray(from, from + channels), to);
      }
    }
  }
  return whole;
}

/**
 * A line of a convolution's inputs, by what its outputs make of it.
 * @param parts lines of outputs, and how much further inwards than each the line of inputs lies (-1, 0, 1)
 */
async function throughLines(
  scratch: Scratch,
  conv: FoldedConv,
  side: Side,
  ...parts: readonly (readonly [LineKernel, step: number])[]
): Promise<LineKernel> {
  const [, channels, size] = conv.weight.shape as [number, number, number, number];
  const rows = Math.max(...parts.map(([{ outputs }]) => outputs));
  const whole = emptyKernel(scratch, rows, 1, parts[0]![0].width + size - 1, channels);
  for (const [line, step] of parts) {
    const taps = Int32Array.from({ length: size }, (_, along) => tapAt(side, size, step + 1, along));
    await addThroughTaps(whole, line, conv, taps, 1);
  }
  return whole;
}

/**
 * smooth*_1, and smooth*_2 after it, as sums of 1x1 convolutions over neighbourhoods (tensor/unfold-resize.ts): for maps
 * that are wanted at few pixels. The second leaves out that smooth*_1's result is padded with zeros, so it holds from
 * the second pixel on.
 * @param channels of each source
 * @returns for each source a weight [K, k·k·channels, 1, 1]: of smooth1 over p and ps0, of smooth2 over p, ps0 and
 *   ps1, as far as they are there; the biases, [K], add up
 */
export async function sampleLevel(
  scratch: Scratch,
  smooth1: FoldedConv,
  smooth2: FoldedConv,
  channels: number,
): Promise<{ smooth1: FoldedConv[]; smooth2: FoldedConv[] }> {
  const [own, outer] = [kernelOf(scratch, smooth1), kernelOf(scratch, smooth2)];
  const both = await through(scratch, outer, smooth1);
  const [bias1, bias2] = [toFloat32(smooth1.bias), toFloat32(smooth2.bias)];
  const bias = Float64Array.from(bias2);
  addConstant(bias, outer, bias1);
  return {
    smooth1: unfold(scratch, own, bias1, channels),
    smooth2: [
      ...unfold(scratch, both, Float32Array.from(bias), channels),
      ...unfold(scratch, outer, new Float32Array(outer.outputs), channels).slice(1),
    ],
  };
}

function kernelOf(scratch: Scratch, { weight }: FoldedConv): Kernel {
  const [outputs, channels, side] = weight.shape as [number, number, number, number];
  const kernel = emptyKernel(scratch, outputs, side, side, channels);
  const values = toFloat32(weight);
  for (let k = 0; k < outputs; k++) {
    for (let c = 0; c < channels; c++) {
      const from = (k * channels + c) * side * side;
      for (let tap = 0; tap < side * side; tap++)
        kernel.values[(k * side * side + tap) * channels + c] = values[from + tap]!;
    }
  }
  return kernel;
}

/** A kernel by parts of its input channels; the first has the bias. */
function unfold(
  scratch: Scratch,
  { values, outputs, height, width, channels }: Kernel,
  bias: Float32Array,
  size: number,
): FoldedConv[] {
  const taps = height * width;
  return Array.from({ length: channels / size }, (_, part) => {
    const weight = scratch.float32(outputs * taps * size);
    for (let i = 0; i < outputs * taps; i++) {
      const from = i * channels + part * size;
      weight.set(values.subarray(from, from + size), i * size);
    }
    return {
      weight: fromFloat32([outputs, taps * size, 1, 1], weight),
      bias: fromFloat32([outputs], part === 0 ? bias : new Float32Array(outputs)),
    };
  });
}

/** Kernels of s x s that stand for several layers, which make a difference in the outermost m lines: see {@link foldLevel}. */
export interface FoldedLevel {
  /** [K, C, s, s], bias [K]. */
  readonly whole: FoldedConv;
  /**
   * What the whole has too much or too little of in the outermost m lines, to be added: over the same channels of
   * these lines, valid along them. At the top and the bottom [m·K, C, m, s], output j·K + k for row j and class k; at
   * the left and the right, where the columns lie side by side, [m·K, m·C, 1, s], column j. Bias [m·K].
   */
  readonly edges: Readonly<Record<Side, FoldedConv>>;
}

/**
 * The composed head over the channels of the other levels as one convolution to the classes: what {@link foldLevel} does for
 * the last level, with a margin of one pixel.
 * @param lastChannels the last of the head's input channels, which are not meant
 */
export function foldOthers(
  scratch: Scratch,
  { taps, sum, products }: ComposedWeights & { products: Products },
  lastChannels: number,
): FoldedLevel {
  const { kernels, outputs, kernel } = products;
  const count = kernels.channels - lastChannels;
  const head = gatherProducts(scratch, products, 0, count);
  // Of u, which each of the shifted maps has, where it lies inside.
  const inner = toFloat32(taps.bias);
  const bias = Float32Array.from(toFloat32(sum.bias));
  for (const [i, value] of inner.entries()) bias[i % outputs]! += value;
  const edgeOf = (each: Side): FoldedConv => {
    const line = productsAtEdge(scratch, products, each, 0, count);
    const outside = new Float32Array(outputs);
    for (let k = 0; k < outputs; k++) {
      for (let along = 0; along < kernel; along++)
        outside[k]! -= inner[tapAt(each, kernel, 0, along) * outputs + k]!;
    }
    return {
      weight: fromFloat32([outputs, count, 1, line.width], weightOf(scratch, line, -1)),
      bias: fromFloat32([outputs], outside),
    };
  };
  return {
    whole: {
      weight: fromFloat32([outputs, count, head.height, head.width], weightOf(scratch, head)),
      bias: fromFloat32([outputs], bias),
    },
    edges: { top: edgeOf('top'), bottom: edgeOf('bottom'), left: edgeOf('left'), right: edgeOf('right') },
  };
}

/**
 * A level of the pyramid and what follows it, as one convolution from its laterals' sums to the classes: smooth*_1,
 * smooth*_2 and the composed head. It leaves out that each of these layers pads with zeros: paths that step outside
 * after one of them come in again with the next. So it is exact where no path steps outside, three pixels from the
 * border. Along a side, the paths that leave the map there are a convolution, too, over the three lines next to it:
 * that is what an edge takes away. At a corner paths leave at either side, or both, and an edge is not exact.
 * The kernels of 9x9 are over p and the other branch's ps0, ps1 and ps2, as far as they are there.
 * @param products of the head, whose last input channels are the level's
 */
export async function foldLevel(
  scratch: Scratch,
  products: Products,
  smooth1: FoldedConv,
  smooth2: FoldedConv,
  lastChannels: number,
): Promise<FoldedLevel> {
  const head = gatherProducts(scratch, products, products.kernels.channels - lastChannels, lastChannels);
  const second = await through(scratch, head, smooth2);
  const first = await through(scratch, second, smooth1);
  const [own1, own2] = [smooth1.weight.shape[0]!, smooth2.weight.shape[0]!];
  const parts = [
    { kernel: first, from: 0 },
    { kernel: second, from: own1 },
    { kernel: head, from: own2 },
  ];
  const channels = parts.reduce((sum, { kernel, from }) => sum + kernel.channels - from, 0);
  const { width: side, outputs } = first;
  const weight = scratch.float32(outputs * channels * side * side);
  let at = 0;
  for (const { kernel, from } of parts) {
    const [channel, edge] = [at, (side - kernel.width) / 2];
    const start = (k: number) => ((k * channels + channel) * side + edge) * side + edge;
    put(weight, kernel, start, [side * side, side], { from });
    at += kernel.channels - from;
  }
  const bias = new Float64Array(outputs);
  addConstant(bias, head, toFloat32(smooth2.bias));
  addConstant(bias, second, toFloat32(smooth1.bias));
  const edges: Partial<Record<Side, FoldedConv>> = {};
  for (const each of sides) {
    edges[each] = await foldEdge(scratch, { products, head, second, smooth1, smooth2 }, each, side);
  }
  return {
    whole: {
      weight: fromFloat32([outputs, channels, side, side], weight),
      bias: fromFloat32([outputs], Float32Array.from(bias)),
    },
    edges: edges as Record<Side, FoldedConv>,
  };
}

/**
 * Minus what the folded kernel counts by paths p → q → r → u → output (smooth*_1, smooth*_2, smooth, the last layer)
 * that leave the map at a side. Paths are told apart by the first of q, r and u that is outside; line -1 is the first
 * line there, and what lies further out is no more than biases.
 */
async function foldEdge(
  scratch: Scratch,
  level: {
    products: Products;
    head: Kernel;
    second: Kernel;
    smooth1: FoldedConv;
    smooth2: FoldedConv;
  },
  side: Side,
  width: number,
): Promise<FoldedConv> {
  const { products, head, second, smooth1, smooth2 } = level;
  const { outputs } = head;
  const [q, r] = [smooth1.weight.shape[0]!, smooth2.weight.shape[0]!];
  const lines = (kernel: Kernel, count: number, line: number, channels: number) =>
    linesOf(scratch, kernel, side, count, line, channels);
  // What leaves first at u, r and q.
  const ofU = productsAtEdge(
    scratch,
    products,
    side,
    products.kernels.channels - head.channels,
    head.channels,
  );
  const leavingR = lines(head, 2, -1, r);
  const leavingQ = lines(second, 3, -1, q);
  const ofQ = [
    await throughLines(scratch, smooth2, side, [ofU, 0], [leavingR, 1]),
    await throughLines(scratch, smooth2, side, [ofU, 1]),
  ] as const;
  const ofP = [
    await throughLines(scratch, smooth1, side, [leavingQ, 1], [ofQ[0], 0], [ofQ[1], -1]),
    await throughLines(scratch, smooth1, side, [ofQ[0], 1], [ofQ[1], 0]),
    await throughLines(scratch, smooth1, side, [ofQ[1], 1]),
  ] as const;

  const bias = new Float64Array(3 * outputs);
  const [bias1, bias2] = [toFloat32(smooth1.bias), toFloat32(smooth2.bias)];
  for (const line of [...ofQ, leavingQ, lines(second, 2, -2, q), lines(second, 1, -3, q)])
    addConstant(bias, line, bias1);
  for (const line of [ofU, leavingR, lines(head, 1, -2, r)]) addConstant(bias, line, bias2);

  // Lines and outputs in the order in which they lie in the map.
  const [lies, far] = [side === 'top' || side === 'bottom', side === 'bottom' || side === 'right'];
  const place = (depth: number) => (far ? 2 - depth : depth);
  const outputOf = (row: number) => place(Math.floor(row / outputs)) * outputs + (row % outputs);
  const parts = [
    { lines: ofP, from: 0 },
    { lines: ofQ, from: q },
    { lines: [ofU], from: r },
  ];
  const channels = parts.reduce((sum, { lines, from }) => sum + lines[0]!.channels - from, 0);
  const weight = scratch.float32(3 * outputs * channels * 3 * width);
  let at = 0;
  for (const { lines, from } of parts) {
    for (const [depth, line] of lines.entries()) {
      const [channel, edge] = [at, (width - line.width) / 2];
      const start = (row: number) =>
        lies
          ? ((outputOf(row) * channels + channel) * 3 + place(depth)) * width + edge
          : ((outputOf(row) * 3 + place(depth)) * channels + channel) * width + edge;
      put(weight, line, start, [lies ? 3 * width : width, 0], { from, factor: -1 });
    }
    at += lines[0]!.channels - from;
  }
  return {
    weight: fromFloat32(
      lies ? [3 * outputs, channels, 3, width] : [3 * outputs, 3 * channels, 1, width],
      weight,
    ),
    bias: fromFloat32(
      [3 * outputs],
      Float32Array.from(bias, (_, row) => -bias[outputOf(row)]!),
    ),
  };
}

/** Of the head, the paths from line 0 of some channels through line -1 of u to line 0 of the outputs. */
function productsAtEdge(
  scratch: Scratch,
  { kernels, outputs, kernel }: Products,
  side: Side,
  first: number,
  count: number,
): LineKernel {
  const { values, width: size, channels } = kernels;
  const whole = emptyKernel(scratch, outputs, 1, kernel + size - 1, count);
  for (let along = 0; along < kernel; along++) {
    const tap = tapAt(side, kernel, 0, along);
    for (let k = 0; k < outputs; k++) {
      for (let x = 0; x < size; x++) {
        const to = (k * whole.width + along + x) * count;
        const from = ((tap * outputs + k) * size * size + tapAt(side, size, size - 1, x)) * channels + first;
        for (let c = 0; c < count; c++) whole.values[to + c]! += values[from + c]!;
      }
    }
  }
  return whole;
}

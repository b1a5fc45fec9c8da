/**
 * What of a network can be composed before it is run, for inference, when weights no longer change. Composed in double
 * precision; the result is the same up to rounding.
 */
import { setImmediate } from 'node:timers/promises';
import { multiplyInDouble } from '../binding';
import { fromFloat32, type HostTensor, toFloat32 } from '../checkpoint/state-dict';
import { type Side, sides } from '../models/fpn';
import { batchNormEpsilon } from '../tensor/batch-norm';

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

/** The composed kernels of {@link compose} before they are rounded: [k·k·K, C, l, l]. */
interface Products {
  readonly values: Float64Array;
  /** K, k, C, l. */
  readonly outputs: number;
  readonly kernel: number;
  readonly channels: number;
  readonly side: number;
}

/**
 * `second(first(x))` for few outputs: see {@link ComposedWeights}.
 * @param first S: weight [M, C, l, l], bias [M]
 * @param second E: weight [K, at least M, k, k], bias [K]; its first M input channels count
 */
export async function compose(
  first: FoldedConv,
  second: FoldedConv,
): Promise<ComposedWeights & { products: Products }> {
  const [middle, channels, side] = first.weight.shape as [number, number, number, number];
  const [outputs, inputs, kernel] = second.weight.shape as [number, number, number, number];
  const taps = kernel * kernel;
  const weight = toFloat32(second.weight);
  const innerBias = toFloat32(first.bias);
  // [k·k·K, M]
  const outer = new Float64Array(taps * outputs * middle);
  const bias = new Float64Array(taps * outputs);
  for (let tap = 0; tap < taps; tap++) {
    for (let k = 0; k < outputs; k++) {
      const row = tap * outputs + k;
      for (let m = 0; m < middle; m++) {
        const factor = weight[(k * inputs + m) * taps + tap]!;
        outer[row * middle + m] = factor;
        bias[row]! += factor * innerBias[m]!;
      }
    }
  }
  const values = await multiplyInDouble(outer, toFloat32(first.weight), middle);
  const sum = new Float32Array(outputs * taps * outputs * taps);
  for (let k = 0; k < outputs; k++) {
    for (let tap = 0; tap < taps; tap++) sum[(k * taps * outputs + tap * outputs + k) * taps + tap] = 1;
  }
  return {
    taps: {
      weight: fromFloat32([taps * outputs, channels, side, side], Float32Array.from(values)),
      bias: fromFloat32([taps * outputs], Float32Array.from(bias)),
    },
    sum: { weight: fromFloat32([outputs, taps * outputs, kernel, kernel], sum), bias: second.bias },
    products: { values, outputs, kernel, channels, side },
  };
}

/** A kernel in double precision, [K, k, k, C], and what biases on the way add up to, [K]. */
interface Kernel {
  readonly values: Float64Array;
  readonly bias: Float64Array;
  readonly outputs: number;
  readonly side: number;
  readonly channels: number;
}

function emptyKernel(outputs: number, side: number, channels: number): Kernel {
  const values = new Float64Array(outputs * side * side * channels);
  return { values, bias: new Float64Array(outputs), outputs, side, channels };
}

/** The products' kernels over some of their input channels, each where its tap has it; without the bias, which stays with the products. */
function gatherProducts(
  { values, outputs, kernel, channels, side }: Products,
  first: number,
  count: number,
): Kernel {
  const whole = emptyKernel(outputs, kernel + side - 1, count);
  for (let tap = 0; tap < kernel * kernel; tap++) {
    const [dy, dx] = [Math.floor(tap / kernel), tap % kernel];
    for (let k = 0; k < outputs; k++) {
      for (let y = 0; y < side; y++) {
        for (let x = 0; x < side; x++) {
          const to = ((k * whole.side + dy + y) * whole.side + dx + x) * count;
          for (let c = 0; c < count; c++) {
            const at = ((tap * outputs + k) * channels + first + c) * side * side + y * side + x;
            whole.values[to + c]! += values[at]!;
          }
        }
      }
    }
  }
  return whole;
}

/** The kernel over the outputs of a convolution, as one over its inputs. The first of the kernel's channels are meant. */
async function through(kernel: Kernel, conv: FoldedConv): Promise<Kernel> {
  const [middle, channels, side] = conv.weight.shape as [number, number, number, number];
  const positions = kernel.outputs * kernel.side * kernel.side;
  const whole = emptyKernel(kernel.outputs, kernel.side + side - 1, channels);
  whole.bias.set(kernel.bias);
  const bias = toFloat32(conv.bias);
  const outer = new Float64Array(positions * middle);
  for (let position = 0; position < positions; position++) {
    const k = Math.floor(position / (kernel.side * kernel.side));
    for (let m = 0; m < middle; m++) {
      const factor = kernel.values[position * kernel.channels + m]!;
      outer[position * middle + m] = factor;
      whole.bias[k]! += factor * bias[m]!;
    }
  }
  // [K, k, k, C, l, l]: each position's kernel goes where that position lies in the whole.
  const products = await multiplyInDouble(outer, toFloat32(conv.weight), middle);
  let from = 0;
  for (let k = 0; k < kernel.outputs; k++) {
    for (let y = 0; y < kernel.side; y++) {
      for (let x = 0; x < kernel.side; x++) {
        for (let c = 0; c < channels; c++) {
          for (let row = 0; row < side; row++) {
            const to = ((k * whole.side + y + row) * whole.side + x) * channels + c;
            for (let column = 0; column < side; column++)
              whole.values[to + column * channels]! += products[from++]!;
          }
        }
      }
      await setImmediate();
    }
  }
  return whole;
}

/** Where a kernel of n x n has the element at some depth (0 is furthest out of the map) and place along a side. */
function tapAt(side: Side, n: number, depth: number, along: number): number {
  const inwards = side === 'top' || side === 'left' ? depth : n - 1 - depth;
  return side === 'top' || side === 'bottom' ? inwards * n + along : along * n + inwards;
}

/**
 * How the outputs in the three lines along a side depend on one line of a map: [3·K, width, C], output j·K + k for
 * class k in line j. Those of the last lines may be missing.
 */
interface LineKernel {
  readonly values: Float64Array;
  readonly rows: number;
  readonly width: number;
  readonly channels: number;
}

function sumOfLines(...parts: readonly LineKernel[]): LineKernel {
  const { width, channels } = parts[0]!;
  const rows = Math.max(...parts.map((part) => part.rows));
  const values = new Float64Array(rows * width * channels);
  for (const part of parts) {
    for (let i = 0; i < part.values.length; i++) values[i]! += part.values[i]!;
  }
  return { values, rows, width, channels };
}

/** Sums over the places along the side: what a constant in each of the first channels adds to each output. */
function addConstant(
  to: Float64Array,
  { values, rows, width, channels }: LineKernel,
  bias: Float32Array,
): void {
  for (let row = 0; row < rows; row++) {
    for (let place = 0; place < width; place++) {
      const at = (row * width + place) * channels;
      for (let m = 0; m < bias.length; m++) to[row]! += values[at + m]! * bias[m]!;
    }
  }
}

/** Of a kernel over a map, the line that output line j of each of the first `lines` reads at depth `line`. */
function linesOf(kernel: Kernel, side: Side, lines: number, line: number, channels: number): LineKernel {
  const { outputs, side: width } = kernel;
  const values = new Float64Array(lines * outputs * width * channels);
  for (let j = 0; j < lines; j++) {
    const depth = (width - 1) / 2 + line - j;
    for (let k = 0; k < outputs; k++) {
      for (let place = 0; place < width; place++) {
        const from = (k * width * width + tapAt(side, width, depth, place)) * kernel.channels;
        values.set(
          kernel.values.subarray(from, from + channels),
          ((j * outputs + k) * width + place) * channels,
        );
      }
    }
  }
  return { values, rows: lines * outputs, width, channels };
}

/** The taps of a convolution's weight that read a line `step` (-1, 0, 1) further inwards: [M, 3·C], place before channel. */
function tapsInLine({ weight }: FoldedConv, side: Side, step: number): Float32Array {
  const [middle, channels, size] = weight.shape as [number, number, number, number];
  const values = toFloat32(weight);
  const taps = new Float32Array(middle * size * channels);
  for (let m = 0; m < middle; m++) {
    for (let place = 0; place < size; place++) {
      const to = (m * size + place) * channels;
      const from = m * channels * size * size + tapAt(side, size, step + 1, place);
      for (let c = 0; c < channels; c++) taps[to + c] = values[from + c * size * size]!;
    }
  }
  return taps;
}

/** A line of a convolution's outputs as one of its inputs, `step` further inwards. */
async function throughLine(
  kernel: LineKernel,
  conv: FoldedConv,
  side: Side,
  step: number,
): Promise<LineKernel> {
  const [middle, channels, size] = conv.weight.shape as [number, number, number, number];
  const count = kernel.rows * kernel.width;
  const outer = new Float64Array(count * middle);
  for (let i = 0; i < count; i++) {
    outer.set(kernel.values.subarray(i * kernel.channels, i * kernel.channels + middle), i * middle);
  }
  const products = await multiplyInDouble(outer, tapsInLine(conv, side, step), middle);
  const width = kernel.width + size - 1;
  const values = new Float64Array(kernel.rows * width * channels);
  const run = size * channels;
  for (let i = 0; i < count; i++) {
    const to = (Math.floor(i / kernel.width) * width + (i % kernel.width)) * channels;
    for (let n = 0; n < run; n++) values[to + n]! += products[i * run + n]!;
  }
  return { values, rows: kernel.rows, width, channels };
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
  smooth1: FoldedConv,
  smooth2: FoldedConv,
  channels: number,
): Promise<{ smooth1: FoldedConv[]; smooth2: FoldedConv[] }> {
  const [own, outer] = [kernelOf(smooth1), kernelOf(smooth2)];
  const both = await through(outer, smooth1);
  const last = unfold(outer, channels).slice(1);
  return { smooth1: unfold(own, channels), smooth2: [...unfold(both, channels), ...last.map(withoutBias)] };
}

function kernelOf({ weight, bias }: FoldedConv): Kernel {
  const [outputs, channels, side] = weight.shape as [number, number, number, number];
  const kernel = emptyKernel(outputs, side, channels);
  const values = toFloat32(weight);
  kernel.bias.set(toFloat32(bias));
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
function unfold({ values, bias, outputs, side, channels }: Kernel, size: number): FoldedConv[] {
  return Array.from({ length: channels / size }, (_, part) => {
    const weight = new Float32Array(outputs * side * side * size);
    for (let i = 0; i < outputs * side * side; i++) {
      const from = i * channels + part * size;
      weight.set(values.subarray(from, from + size), i * size);
    }
    const conv = {
      weight: fromFloat32([outputs, side * side * size, 1, 1], weight),
      bias: fromFloat32([outputs], Float32Array.from(bias)),
    };
    return part === 0 ? conv : withoutBias(conv);
  });
}

function withoutBias({ weight, bias }: FoldedConv): FoldedConv {
  return { weight, bias: fromFloat32(bias.shape, new Float32Array(bias.shape[0]!)) };
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
  { taps, sum, products }: ComposedWeights & { products: Products },
  lastChannels: number,
): FoldedLevel {
  const { outputs, kernel, channels } = products;
  const count = channels - lastChannels;
  const head = gatherProducts(products, 0, count);
  const { side } = head;
  const weight = new Float32Array(outputs * count * side * side);
  for (let k = 0; k < outputs; k++) {
    for (let tap = 0; tap < side * side; tap++) {
      const from = (k * side * side + tap) * count;
      for (let c = 0; c < count; c++) weight[(k * count + c) * side * side + tap] = head.values[from + c]!;
    }
  }
  // Of u, which each of the shifted maps has, where it lies inside.
  const inner = toFloat32(taps.bias);
  const bias = Float32Array.from(toFloat32(sum.bias));
  for (const [i, value] of inner.entries()) bias[i % outputs]! += value;
  const edgeOf = (each: Side): FoldedConv => {
    const line = productsAtEdge(products, each, 0, count);
    const values = new Float32Array(outputs * count * line.width);
    const outside = new Float32Array(outputs);
    for (let k = 0; k < outputs; k++) {
      for (let x = 0; x < line.width; x++) {
        const from = (k * line.width + x) * count;
        for (let c = 0; c < count; c++) values[(k * count + c) * line.width + x] = -line.values[from + c]!;
      }
      for (let along = 0; along < kernel; along++)
        outside[k]! -= inner[tapAt(each, kernel, 0, along) * outputs + k]!;
    }
    return {
      weight: fromFloat32([outputs, count, 1, line.width], values),
      bias: fromFloat32([outputs], outside),
    };
  };
  return {
    whole: { weight: fromFloat32([outputs, count, side, side], weight), bias: fromFloat32([outputs], bias) },
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
  products: Products,
  smooth1: FoldedConv,
  smooth2: FoldedConv,
  lastChannels: number,
): Promise<FoldedLevel> {
  const head = gatherProducts(products, products.channels - lastChannels, lastChannels);
  const second = await through(head, smooth2);
  const first = await through(second, smooth1);
  const own = [smooth1.weight.shape[0]!, smooth2.weight.shape[0]!] as const;
  const parts = [
    { kernel: first, from: 0 },
    { kernel: second, from: own[0] },
    { kernel: head, from: own[1] },
  ];
  const channels = parts.reduce((sum, { kernel, from }) => sum + kernel.channels - from, 0);
  const { side, outputs } = first;
  const weight = new Float32Array(outputs * channels * side * side);
  let at = 0;
  for (const { kernel, from } of parts) {
    const edge = (side - kernel.side) / 2;
    for (let k = 0; k < outputs; k++) {
      for (let c = from; c < kernel.channels; c++) {
        for (let y = 0; y < kernel.side; y++) {
          for (let x = 0; x < kernel.side; x++) {
            const to = ((k * channels + at + c - from) * side + y + edge) * side + x + edge;
            weight[to] = kernel.values[((k * kernel.side + y) * kernel.side + x) * kernel.channels + c]!;
          }
        }
      }
    }
    at += kernel.channels - from;
  }
  const edges: Partial<Record<Side, FoldedConv>> = {};
  for (const each of sides) {
    edges[each] = await foldEdge({ products, head, second, smooth1, smooth2 }, each, side);
    await setImmediate();
  }
  return {
    whole: {
      weight: fromFloat32([outputs, channels, side, side], weight),
      bias: fromFloat32([outputs], Float32Array.from(first.bias)),
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
  // What leaves first at u, r and q.
  const throughU = productsAtEdge(products, side, products.channels - head.channels, head.channels);
  const leavingR = linesOf(head, side, 2, -1, r);
  const leavingQ = linesOf(second, side, 3, -1, q);
  const ofQ = [
    sumOfLines(await throughLine(throughU, smooth2, side, 0), await throughLine(leavingR, smooth2, side, 1)),
    await throughLine(throughU, smooth2, side, 1),
  ] as const;
  const ofP = [
    sumOfLines(
      await throughLine(leavingQ, smooth1, side, 1),
      await throughLine(ofQ[0], smooth1, side, 0),
      await throughLine(ofQ[1], smooth1, side, -1),
    ),
    sumOfLines(await throughLine(ofQ[0], smooth1, side, 1), await throughLine(ofQ[1], smooth1, side, 0)),
    await throughLine(ofQ[1], smooth1, side, 1),
  ] as const;

  const bias = new Float64Array(3 * outputs);
  const [bias1, bias2] = [toFloat32(smooth1.bias), toFloat32(smooth2.bias)];
  for (const line of [...ofQ, leavingQ, linesOf(second, side, 2, -2, q), linesOf(second, side, 1, -3, q)]) {
    addConstant(bias, line, bias1);
  }
  for (const line of [throughU, leavingR, linesOf(head, side, 1, -2, r)]) addConstant(bias, line, bias2);

  // Lines and outputs in the order in which they lie in the map.
  const [lies, far] = [side === 'top' || side === 'bottom', side === 'bottom' || side === 'right'];
  const place = (depth: number) => (far ? 2 - depth : depth);
  const parts = [
    { lines: ofP, from: 0 },
    { lines: ofQ, from: q },
    { lines: [throughU], from: r },
  ];
  const channels = parts.reduce((sum, { lines, from }) => sum + lines[0]!.channels - from, 0);
  const weight = new Float32Array(3 * outputs * channels * 3 * width);
  let at = 0;
  for (const { lines, from } of parts) {
    for (const [depth, line] of lines.entries()) {
      for (let row = 0; row < line.rows; row++) {
        const output = place(Math.floor(row / outputs)) * outputs + (row % outputs);
        for (let c = from; c < line.channels; c++) {
          const channel = at + c - from;
          const to = lies
            ? ((output * channels + channel) * 3 + place(depth)) * width
            : ((output * 3 + place(depth)) * channels + channel) * width;
          for (let x = 0; x < line.width; x++) {
            weight[to + x + (width - line.width) / 2] =
              -line.values[(row * line.width + x) * line.channels + c]!;
          }
        }
      }
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
      Float32Array.from(bias, (_, i) => -bias[place(Math.floor(i / outputs)) * outputs + (i % outputs)]!),
    ),
  };
}

/** Of the head, the paths from line 0 of some channels through line -1 of u to line 0 of the outputs. */
function productsAtEdge(
  { values, outputs, kernel, channels, side: size }: Products,
  side: Side,
  first: number,
  count: number,
): LineKernel {
  const width = kernel + size - 1;
  const whole = new Float64Array(outputs * width * count);
  for (let along = 0; along < kernel; along++) {
    const tap = tapAt(side, kernel, 0, along);
    for (let k = 0; k < outputs; k++) {
      for (let x = 0; x < size; x++) {
        for (let c = 0; c < count; c++) {
          const at = ((tap * outputs + k) * channels + first + c) * size * size;
          whole[(k * width + along + x) * count + c]! += values[at + tapAt(side, size, size - 1, x)]!;
        }
      }
    }
  }
  return { values: whole, rows: outputs, width, channels: count };
}

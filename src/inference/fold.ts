/**
 * What of a network can be composed before it is run, for inference, when weights no longer change. Composed in double
 * precision; the result is the same up to rounding.
 */
import { setImmediate } from 'node:timers/promises';
import { multiplyInDouble } from '../binding';
import { fromFloat32, type HostTensor, toFloat32 } from '../checkpoint/state-dict';

/** Of native/ops/batch_norm.h. */
const epsilon = 1e-5;

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
    const factor = scale[k]! / Math.sqrt(variance[k]! + epsilon);
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

/** The products' kernels over their last input channels, each where its tap has it; without the bias, which stays with the products. */
function gatherProducts({ values, outputs, kernel, channels, side }: Products, count: number): Kernel {
  const whole = emptyKernel(outputs, kernel + side - 1, count);
  for (let tap = 0; tap < kernel * kernel; tap++) {
    const [dy, dx] = [Math.floor(tap / kernel), tap % kernel];
    for (let k = 0; k < outputs; k++) {
      for (let y = 0; y < side; y++) {
        for (let x = 0; x < side; x++) {
          const to = ((k * whole.side + dy + y) * whole.side + dx + x) * count;
          for (let c = 0; c < count; c++) {
            const at = ((tap * outputs + k) * channels + channels - count + c) * side * side + y * side + x;
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

/**
 * A level of the pyramid and what follows it, as one convolution from its laterals' sums to the classes: smooth*_1,
 * smooth*_2 and the composed head. It leaves out that each of these layers pads with zeros: what steps outside after
 * one of them comes in again with the next. So it is exact where no path steps outside, three pixels from the border.
 * @param products of the head, whose last input channels are the level's
 * @returns weight [K, C, 9, 9] over p, the other branch's ps0, ps1 and ps2 in this order, as far as they are there;
 *   the bias is that of smooth*_1 and smooth*_2
 */
export async function foldLevel(
  products: Products,
  smooth1: FoldedConv,
  smooth2: FoldedConv,
  lastChannels: number,
): Promise<FoldedConv> {
  const head = gatherProducts(products, lastChannels);
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
  return {
    weight: fromFloat32([outputs, channels, side, side], weight),
    bias: fromFloat32([outputs], Float32Array.from(first.bias)),
  };
}

/**
 * What of a network can be composed before it is run, for inference, when weights no longer change. Composed in double
 * precision; the result is the same up to rounding.
 */
import { setImmediate } from 'node:timers/promises';
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

/** `norm(conv(x))` as one convolution. The convolution has no bias. */
export function foldBatchNorm(weight: HostTensor, norm: Norm): FoldedConv {
  const values = toFloat32(weight).slice();
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

/**
 * Takes some tenths of a second for a large network, in which other work of the event loop has its turns.
 * @param first S: weight [M, C, l, l], bias [M]
 * @param second E: weight [K, at least M, k, k], bias [K]; its first M input channels count
 */
export async function compose(first: FoldedConv, second: FoldedConv): Promise<ComposedWeights> {
  const [middle, channels, side] = first.weight.shape as [number, number, number, number];
  const [outputs, inputs, kernel] = second.weight.shape as [number, number, number, number];
  const inner = toFloat32(first.weight);
  const innerBias = toFloat32(first.bias);
  const outer = toFloat32(second.weight);
  const taps = kernel * kernel;
  const size = channels * side * side;
  const weight = new Float32Array(taps * outputs * size);
  const bias = new Float32Array(taps * outputs);
  const row = new Float64Array(size);
  for (let tap = 0; tap < taps; tap++) {
    for (let k = 0; k < outputs; k++) {
      row.fill(0);
      let constant = 0;
      for (let m = 0; m < middle; m++) {
        const factor = outer[(k * inputs + m) * taps + tap]!;
        constant += factor * innerBias[m]!;
        const from = m * size;
        for (let i = 0; i < size; i++) row[i]! += factor * inner[from + i]!;
      }
      weight.set(row, (tap * outputs + k) * size);
      bias[tap * outputs + k] = constant;
      await setImmediate();
    }
  }
  const sum = new Float32Array(outputs * taps * outputs * taps);
  for (let k = 0; k < outputs; k++) {
    for (let tap = 0; tap < taps; tap++) sum[(k * taps * outputs + tap * outputs + k) * taps + tap] = 1;
  }
  return {
    taps: {
      weight: fromFloat32([taps * outputs, channels, side, side], weight),
      bias: fromFloat32([taps * outputs], bias),
    },
    sum: { weight: fromFloat32([outputs, taps * outputs, kernel, kernel], sum), bias: second.bias },
  };
}

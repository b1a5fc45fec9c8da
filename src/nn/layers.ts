/** Layers: parameters and the op that uses them. */
import { type AggregateConvOptions, aggregateConv } from '../tensor/aggregate-conv';
import { type BatchNormStatistics, batchNorm } from '../tensor/batch-norm';
import { conv2d } from '../tensor/conv2d';
import type { GridSource } from '../tensor/crop-resize';
import { maxPool } from '../tensor/max-pool';
import type { Tensor } from '../tensor/tensor';
import { unfoldResize } from '../tensor/unfold-resize';
import type { Parameters } from './parameters';

/**
 * A convolution without bias, batch normalisation, and what follows it. A convolution that has a bias all the same has
 * had its normalisation folded into it.
 */
export class ConvBatchNorm {
  readonly #weight: Tensor;
  readonly #bias: Tensor | undefined;
  readonly #statistics: BatchNormStatistics | undefined;
  readonly #stride: number;
  readonly #name: string;

  /** Padding is "same" for stride 1: half the kernel, rounded down. */
  constructor(parameters: Parameters, conv: string, norm: string, stride = 1) {
    this.#weight = parameters.get(`${conv}.weight`);
    if (parameters.has(`${conv}.bias`)) {
      this.#bias = parameters.get(`${conv}.bias`);
    } else {
      const at = parameters.at(norm);
      this.#statistics = {
        weight: at.get('weight'),
        bias: at.get('bias'),
        mean: at.get('running_mean'),
        variance: at.get('running_var'),
      };
    }
    this.#stride = stride;
    this.#name = parameters.at(conv).name;
  }

  /** Whether {@link forward} gives its result in the residual's memory, and {@link forwardPooled} is one op. */
  get runsInPlace(): boolean {
    return !this.#statistics && !this.#weight.device.tape;
  }

  /** `relu(norm(conv(x)) + residual)`. Where it {@link runsInPlace} the values of the residual are gone. */
  forward(x: Tensor, options: { residual?: Tensor; relu?: boolean } = {}): Tensor {
    return this.#forward(x, options);
  }

  /** `maxPool(relu(norm(conv(x))))`, of 3x3 windows, stride 2, padding 1. */
  forwardPooled(x: Tensor): Tensor {
    if (this.runsInPlace) return this.#forward(x, { relu: true, pool: true });
    using y = this.#forward(x, { relu: true });
    return maxPool(y, { kernel: 3, stride: 2, padding: 1 });
  }

  #forward(x: Tensor, options: { residual?: Tensor; relu?: boolean; pool?: boolean }): Tensor {
    const geometry = { stride: this.#stride, padding: this.#weight.dim(2) >> 1 };
    if (!this.#statistics) {
      const overwrite = options.residual !== undefined && this.runsInPlace;
      const y = conv2d(x, this.#weight, {
        bias: this.#bias!,
        ...geometry,
        ...options,
        ...(overwrite && { overwrite }),
      });
      return finished(this.#name, y, this.#weight);
    }
    using y = conv2d(x, this.#weight, geometry);
    return finished(this.#name, batchNorm(y, this.#statistics, options), this.#weight);
  }
}

/** A convolution over the concatenation of maps on different grids. */
export class AggregateConv {
  readonly #weight: Tensor;
  readonly #bias: Tensor;
  readonly #name: string;

  constructor(parameters: Parameters) {
    this.#name = parameters.name;
    this.#weight = parameters.get('weight');
    this.#bias = parameters.get('bias');
  }

  forward(
    sources: readonly GridSource[],
    options: Pick<AggregateConvOptions, 'addend' | 'overwrite'> = {},
  ): Tensor {
    const y = aggregateConv(sources, this.#weight, { bias: this.#bias, ...options });
    return finished(this.#name, y, this.#weight);
  }

  /**
   * The part of the convolution that some of its input channels contribute, those from `first` on. The bias belongs
   * to the part that has no addend, so that parts add up to the whole.
   */
  partial(sources: readonly GridSource[], first: number, addend?: Tensor): Tensor {
    const rest = addend ? { addend } : { bias: this.#bias };
    return finished(this.#name, aggregateConv(sources, this.#weight, { first, ...rest }), this.#weight);
  }
}

/** Convolutions in a row that were folded into one, which is not exact at the border: see inference/fold.ts, foldLevel. */
export class EdgedConv {
  readonly #whole: AggregateConv;
  readonly #parameters: Parameters;

  /** @param parameters `weight` and `bias` of the whole, and of each side, `top.weight` and so on */
  constructor(parameters: Parameters) {
    this.#whole = new AggregateConv(parameters);
    this.#parameters = parameters;
  }

  forward(sources: readonly GridSource[], addend?: Tensor): Tensor {
    return this.#whole.forward(sources, addend ? { addend } : {});
  }

  /** What to add along a side, from the lines next to it. */
  edge(side: string, lines: Tensor): Tensor {
    const edge = this.#parameters.at(side);
    return conv2d(lines, edge.get('weight'), { bias: edge.get('bias') });
  }
}

/** A convolution whose resized result is computed, and no more than that: see inference/fold.ts, sampleLevel. */
export class SampledConv {
  readonly #parameters: Parameters;

  /** @param parameters `0.weight`, `0.bias`, `1.weight` and so on, by source */
  constructor(parameters: Parameters) {
    this.#parameters = parameters;
  }

  /** @returns [N, height, width, K] */
  forward(sources: readonly GridSource[], height: number, width: number): Tensor {
    let sum: Tensor | undefined;
    for (const [i, source] of sources.entries()) {
      const weight = this.#parameters.get(`${i}.weight`);
      const bias = this.#parameters.get(`${i}.bias`);
      const kernel = Math.sqrt(weight.dim(1) / source.x.dim(3));
      using x = unfoldResize(source, kernel, height, width);
      sum = conv2d(x, weight, sum ? { bias, residual: sum, overwrite: true } : { bias });
    }
    return finished(this.#parameters.name, sum!);
  }
}

/** Two convolutions in a row that were composed, see inference/fold.ts. */
export class ComposedConv {
  /** The pyramid's last level, and the others, by themselves. */
  readonly folded?: { readonly last: EdgedConv; readonly others: EdgedConv };
  readonly #taps: AggregateConv;
  readonly #weight: Tensor;
  readonly #bias: Tensor;

  /**
   * @param parameters weights and biases of `taps` and `sum`; if there are any, of `last` and `last.top` and so on, and
   *   likewise `others`
   */
  constructor(parameters: Parameters) {
    if (parameters.has('last.weight'))
      this.folded = {
        last: new EdgedConv(parameters.at('last')),
        others: new EdgedConv(parameters.at('others')),
      };
    this.#taps = new AggregateConv(parameters.at('taps'));
    this.#weight = parameters.get('sum.weight');
    this.#bias = parameters.get('sum.bias');
  }

  forward(sources: readonly GridSource[]): Tensor {
    using maps = this.#taps.forward(sources);
    return conv2d(maps, this.#weight, { bias: this.#bias, padding: this.#weight.dim(2) >> 1 });
  }
}

/** What a layer gives, once it has read its weight. */
function finished(layer: string, output: Tensor, weight?: Tensor): Tensor {
  const { device } = output;
  device.probe?.(layer, output);
  if (weight && device.unloads) device.unload(weight);
  return output;
}

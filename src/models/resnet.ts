/** ResNet (He et al. 2016) without its classifier, stride on the 3x3 convolution of a bottleneck. */
import { ConvBatchNorm } from '../nn/layers';
import type { Parameters } from '../nn/parameters';
import type { Tensor } from '../tensor/tensor';
import { type Backbone, backbones } from './parameters';

/** One value for each pyramid level, coarsest first: 1/32, 1/16, 1/8, 1/4 of the input. */
export type Levels<T> = readonly [T, T, T, T];

/** Two or three convolutions around a shortcut. */
class Block {
  readonly #convolutions: readonly ConvBatchNorm[];
  readonly #shortcut: ConvBatchNorm | undefined;

  constructor(parameters: Parameters, kind: 'basic' | 'bottleneck', stride: number) {
    const strides = kind === 'basic' ? [stride, 1] : [1, stride, 1];
    this.#convolutions = strides.map(
      (s, i) => new ConvBatchNorm(parameters, `conv${i + 1}`, `bn${i + 1}`, s),
    );
    if (parameters.has('downsample.0.weight')) {
      this.#shortcut = new ConvBatchNorm(parameters, 'downsample.0', 'downsample.1', stride);
    }
  }

  forward(x: Tensor): Tensor {
    const { tape } = x.device;
    return tape ? tape.checkpoint([x], (input) => this.#forward(input)) : this.#forward(x);
  }

  /** What the last convolution's result is added to. */
  shortcut(x: Tensor): Tensor {
    return this.#shortcut?.forward(x) ?? x;
  }

  /** Whether {@link over} may be called. */
  get runsInPlace(): boolean {
    return this.#convolutions.at(-1)!.runsInPlace;
  }

  /** The result in the memory of the shortcut's, whose values are gone. */
  over(x: Tensor, shortcut: Tensor): Tensor {
    return this.#forward(x, shortcut);
  }

  #forward(x: Tensor, shortcut?: Tensor): Tensor {
    return x.device.scope(() => {
      const last = this.#convolutions.length - 1;
      let y = x;
      for (const convolution of this.#convolutions.slice(0, last)) {
        const next = convolution.forward(y, { relu: true });
        if (y !== x) y.dispose();
        y = next;
      }
      const residual = shortcut ?? this.shortcut(x);
      return this.#convolutions[last]!.forward(y, { residual, relu: true });
    });
  }
}

/**
 * The first stage, whose maps are the largest, for one image at a time: those between its blocks stay in the cache. Takes
 * the memory of x.
 */
function imageByImage(stage: readonly Block[], x: Tensor): Tensor {
  const y = stage[0]!.shortcut(x);
  for (let n = 0; n < x.dim(0); n++) {
    x.device.scope(() => {
      let input = x.part(n);
      const output = y.part(n);
      for (const block of stage) {
        block.over(input, output);
        input = output;
      }
    });
  }
  return y;
}

export class ResNet {
  readonly #stem: ConvBatchNorm;
  readonly #stages: readonly (readonly Block[])[];

  /** @throws GlnetError ERR_CHECKPOINT if a parameter is missing. */
  constructor(parameters: Parameters, backbone: Backbone) {
    const { block, blocks } = backbones[backbone];
    this.#stem = new ConvBatchNorm(parameters, 'conv1', 'bn1', 2);
    this.#stages = blocks.map((count, stage) =>
      Array.from(
        { length: count },
        (_, i) => new Block(parameters.at(`layer${stage + 1}.${i}`), block, stage > 0 && i === 0 ? 2 : 1),
      ),
    );
  }

  /**
   * @param x [N, H, W, 3] in [0, 1]
   * @returns c5, c4, c3, c2
   */
  forward(x: Tensor): Levels<Tensor> {
    return x.device.scope(() => {
      let y = this.#stem.forwardPooled(x);
      const maps: Tensor[] = [];
      const { device } = x;
      const [first, ...others] = this.#stages;
      if (device.kind === 'cpu' && y.dim(0) > 1 && first!.every((block) => block.runsInPlace)) {
        maps.push(imageByImage(first!, y));
        if (maps[0] !== y) y.dispose();
        y = maps[0]!;
      }
      for (const stage of maps.length === 0 ? this.#stages : others) {
        for (const [i, block] of stage.entries()) {
          const next = block.forward(y);
          // The last map of a stage is kept, everything between is not.
          if (i > 0 || maps.length === 0) y.dispose();
          y = next;
        }
        maps.unshift(y);
      }
      return maps as unknown as Levels<Tensor>;
    });
  }
}

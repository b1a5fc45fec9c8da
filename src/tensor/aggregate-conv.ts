import { differentiate, refuseGradient } from './autograd';
import { channelSum } from './channel-sum';
import { type GridSource, geometryOf } from './crop-resize';
import { reluBackward } from './relu';
import type { Tensor } from './tensor';

export interface AggregateConvOptions {
  /** [K], float32. */
  bias?: Tensor;
  /** Added before the ReLU; of the output's shape. */
  addend?: Tensor;
  /** The input channel of the weight at which the sources begin; default 0. */
  first?: number;
  relu?: boolean;
  /** The result takes the addend's memory, whose values are gone. Has no gradient. Default false. */
  overwrite?: boolean;
}

/**
 * A convolution with "same" padding over the channel concatenation of maps that live on different grids, without
 * building the concatenation or the resized maps.
 * @param sources of one height and width on the target grid
 * @param weight [K, C, k, k], k odd
 * @returns [N, height, width, K]
 */
export function aggregateConv(
  sources: readonly GridSource[],
  weight: Tensor,
  options: AggregateConvOptions = {},
): Tensor {
  if (options.overwrite)
    refuseGradient('a convolution that overwrites', [weight, options.addend!, ...sources.map(({ x }) => x)]);
  const y = weight.device.run1('aggregate_conv', { sources, weight, ...options });
  const { bias, addend, first = 0, relu } = options;
  differentiate(y, [weight, bias, addend, ...sources.map((source) => source.x)], ({ keep, wanted }) => {
    const saved = sources.map((source) => ({ ...source, x: wanted[0] ? keep(source.x) : source.x }));
    const geometries = sources.map(geometryOf);
    const kernel = wanted.some((one, i) => i >= 3 && one) ? keep(weight) : undefined;
    const output = relu ? keep(y) : undefined;
    return (gradient, [dweight, dbias, daddend, ...dsources]) => {
      const dy = output ? reluBackward(gradient, output) : gradient;
      const { device } = dy;
      let at = first;
      for (const [i, source] of geometries.entries()) {
        dsources[i]?.replace((sum) =>
          device.run1('aggregate_conv_backward_data', {
            dy,
            weight: kernel!,
            source,
            first: at,
            ...(sum && { addend: sum }),
          }),
        );
        if (dweight) {
          device.run('aggregate_conv_backward_weights', {
            dy,
            source: saved[i]!,
            first: at,
            dweight: dweight.sum(),
          });
        }
        at += source.channels!;
      }
      if (dbias) channelSum(dy, dbias.sum());
      if (daddend) daddend.add(dy);
      else if (dy !== gradient) dy.dispose();
    };
  });
  return y;
}

import { differentiate, refuseGradient } from './autograd';
import { reluBackward } from './relu';
import type { Tensor } from './tensor';

/** The default of native/ops/batch_norm.h, which every network here has. */
export const batchNormEpsilon = 1e-5;

/** Per channel, [C], float32. */
export interface BatchNormStatistics {
  weight: Tensor;
  bias: Tensor;
  mean: Tensor;
  variance: Tensor;
}

export interface BatchNormOptions {
  /** Added before the ReLU; of x's shape. */
  residual?: Tensor;
  relu?: boolean;
  /** Default {@link batchNormEpsilon}. */
  epsilon?: number;
}

/**
 * `relu((x − mean) / √(variance + epsilon) · weight + bias + residual)`. The statistics are those given, or, if the
 * gradient of `weight` is wanted, those of the batch; then the given ones move towards them by a tenth, the variance
 * as an unbiased estimate (Ioffe and Szegedy, ICML 2015).
 * @param x [N, H, W, C]
 */
export function batchNorm(
  x: Tensor,
  statistics: BatchNormStatistics,
  options: BatchNormOptions = {},
): Tensor {
  const { device } = x;
  const { weight, bias, mean: runningMean, variance: runningVar } = statistics;
  const { tape } = device;
  if (!tape?.gradientOf(weight)) {
    refuseGradient('batch_norm with given statistics', [x]);
    return device.run1('batch_norm', { x, ...statistics, ...options });
  }

  const momentum = tape.recomputing ? 0 : 0.1;
  const [y, mean, inverseDeviation] = device.run('batch_norm_train', {
    x,
    weight,
    bias,
    runningMean,
    runningVar,
    momentum,
    ...options,
  }) as [Tensor, Tensor, Tensor];
  const { residual, relu } = options;
  differentiate(y, [x, weight, bias, residual], ({ keep }) => {
    const saved = {
      x: keep(x),
      weight: keep(weight),
      mean: keep(mean),
      inverseDeviation: keep(inverseDeviation),
      y: relu ? keep(y) : undefined,
    };
    return (gradient, [dx, dweight, dbias, dresidual]) => {
      // With a residual the masked gradient goes on by itself; without, the mask is applied on the way.
      const masked = saved.y && dresidual ? reluBackward(gradient, saved.y) : undefined;
      const dy = masked ?? gradient;
      const dinput = device.run1('batch_norm_backward', {
        dy,
        x: saved.x,
        weight: saved.weight,
        mean: saved.mean,
        inverseDeviation: saved.inverseDeviation,
        ...(saved.y && !masked && { y: saved.y }),
        dweight: dweight!.sum(),
        dbias: dbias!.sum(),
      });
      if (dx) dx.add(dinput);
      else dinput.dispose();
      dresidual?.add(dy);
    };
  });
  mean.dispose();
  inverseDeviation.dispose();
  return y;
}

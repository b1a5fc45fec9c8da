/** The parameters of a network that has not been trained yet. */
import { GlnetError } from '../errors';
import type { ParameterShapes } from '../models/parameters';
import { Random } from './random';

/** Standard deviation of the weights outside of the backbones. */
const headDeviation = 0.01;

/**
 * Draws a network's parameters, row-major. Backbones as torchvision makes its ResNets: convolutions normal with mean
 * 0 and variance 2 / (out · height · width) (He et al., "Delving Deep into Rectifiers", 2015, fan-out), batch
 * normalisation with weight 1, bias 0, mean 0 and variance 1. Pyramids (`fpn_*`) and `ensemble_conv` as the reference
 * implementation of GLNet: weights normal with mean 0 and deviation 0.01, biases 0.
 *
 * A parameter depends on its name, its shape and the seed alone, so a phase that is initialised by itself has the
 * values that it would have among others.
 *
 * @param shapes names as in `models/parameters.ts`, below `resnet_*`, `fpn_*` or `ensemble_conv`
 * @param seed an integer from 0 to 2^53 - 1
 * @throws GlnetError ERR_INVALID_ARGUMENT for a seed out of range or a name that is none of GLNet's
 */
export function initialise(shapes: ParameterShapes, seed: number): Map<string, Float32Array> {
  const parameters = new Map<string, Float32Array>();
  for (const [name, shape] of shapes) parameters.set(name, values(name, shape, seed));
  return parameters;
}

function values(name: string, shape: readonly number[], seed: number): Float32Array {
  const count = shape.reduce((product, length) => product * length, 1);
  const isBackbone = /^resnet_(global|local)\./.test(name);
  const isHead = /^(fpn_(global|local)|ensemble_conv)\./.test(name);
  const field = name.slice(name.lastIndexOf('.') + 1);

  if (field === 'weight' && shape.length === 4 && (isBackbone || isHead)) {
    const deviation = isHead ? headDeviation : Math.sqrt(2 / (shape[0]! * shape[2]! * shape[3]!));
    const random = new Random(seed, name);
    return new Float32Array(count).map(() => deviation * random.normal());
  }
  if (field === 'bias' && (isBackbone || isHead)) return new Float32Array(count);
  if (field === 'running_mean' && isBackbone) return new Float32Array(count);
  if ((field === 'weight' || field === 'running_var') && isBackbone) return new Float32Array(count).fill(1);
  throw new GlnetError(
    'ERR_INVALID_ARGUMENT',
    `${name} with the shape [${shape.join(', ')}] is no parameter of GLNet; expected convolutions and batch ` +
      'normalisation below resnet_global, resnet_local, fpn_global, fpn_local or ensemble_conv',
  );
}

import type { Tensor } from './tensor';

/**
 * The mean over all elements of the squared difference, times `scale`, and its gradient with respect to `a`.
 * @returns loss [1]; gradient, like a
 */
export function mse(a: Tensor, b: Tensor, scale = 1): { loss: Tensor; gradient: Tensor } {
  const [loss, gradient] = a.device.run('mse', { a, b, scale });
  return { loss: loss!, gradient: gradient! };
}

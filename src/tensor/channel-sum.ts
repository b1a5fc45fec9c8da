import type { Tensor } from './tensor';

/**
 * Adds the sum over the pixels of each channel: the gradient of a bias.
 * @param x [N, H, W, C]
 * @param sum [C], changed in place
 */
export function channelSum(x: Tensor, sum: Tensor): void {
  x.device.run('channel_sum', { x, sum });
}

import type { Tensor } from './tensor';

/**
 * The soft Dice loss of softmax probabilities (Milletari et al., 3DV 2016), one minus the mean of the classes'
 * coefficients over all valid pixels of the batch; and its gradient with respect to the logits.
 * @param logits [N, h, w, K]
 * @param labels [N, H, W], uint8, as for the focal loss
 * @param options.smooth added to both sides of the quotient; default 1
 * @returns loss [1]; valid [1], int32: the number of valid pixels; gradient, like logits
 */
export function diceLoss(
  logits: Tensor,
  labels: Tensor,
  options: { ignored?: number; classWeights?: Tensor; smooth?: number; scale?: number } = {},
): { loss: Tensor; valid: Tensor; gradient: Tensor } {
  const [loss, valid, gradient] = logits.device.run('dice_loss', { logits, labels, ...options });
  return { loss: loss!, valid: valid!, gradient: gradient! };
}

import type { Tensor } from './tensor';

/**
 * The Lovász softmax loss (Berman et al., CVPR 2018), a surrogate of the mean IoU of the classes that occur in the
 * batch; and its gradient with respect to the logits.
 * @param logits [N, h, w, K]
 * @param labels [N, H, W], uint8, as for the focal loss
 * @returns loss [1]; valid [1], int32: the number of valid pixels; gradient, like logits
 */
export function lovaszLoss(
  logits: Tensor,
  labels: Tensor,
  options: { ignored?: number; scale?: number } = {},
): { loss: Tensor; valid: Tensor; gradient: Tensor } {
  const [loss, valid, gradient] = logits.device.run('lovasz_loss', { logits, labels, ...options });
  return { loss: loss!, valid: valid!, gradient: gradient! };
}

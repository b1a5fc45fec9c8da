import type { Tensor } from './tensor';

/**
 * The focal loss of softmax probabilities, `−(1 − p)^gamma · log p`, as a mean over the valid pixels; and its
 * gradient with respect to the logits, computed in the same pass.
 * @param logits [N, h, w, K]
 * @param labels [N, H, W], uint8, H and W multiples of h and w: read by nearest neighbour. A pixel whose label
 *   is `ignored`, or not below K, is not valid.
 * @param options.classWeights [K], float32: factors on the classes' terms; the mean stays one over valid pixels
 * @param options.scale factor on the loss and the gradient
 * @returns loss [1], float32; valid [1], int32: the number of valid pixels; gradient, like logits
 */
export function focalLoss(
  logits: Tensor,
  labels: Tensor,
  options: { gamma?: number; ignored?: number; classWeights?: Tensor; scale?: number } = {},
): { loss: Tensor; valid: Tensor; gradient: Tensor } {
  const [loss, valid, gradient] = logits.device.run('focal_loss', { logits, labels, ...options });
  return { loss: loss!, valid: valid!, gradient: gradient! };
}

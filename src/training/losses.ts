/** What is minimised: a weighted sum of losses on the same logits. */
import { accumulate } from '../tensor/accumulate';
import { diceLoss } from '../tensor/dice-loss';
import { focalLoss } from '../tensor/focal-loss';
import { lovaszLoss } from '../tensor/lovasz-loss';
import type { Tensor } from '../tensor/tensor';

export const lossNames = ['focal', 'cross-entropy', 'dice', 'lovasz'] as const;
export type LossName = (typeof lossNames)[number];

export interface LossTerm {
  readonly type: LossName;
  /** Factor on this loss; default 1. */
  readonly weight?: number | undefined;
  /** Of the focal loss; default 6, as in the paper. */
  readonly gamma?: number | undefined;
}

export interface LossOptions {
  /** The label that does not count. */
  readonly ignored: number;
  /** [K], float32: factors on the classes; not for the Lovász softmax. */
  readonly classWeights?: Tensor | undefined;
}

/**
 * @param logits [N, h, w, K]
 * @param labels [N, h, w], uint8
 * @returns loss [1], the weighted sum; gradient with respect to the logits
 */
export function computeLoss(
  terms: readonly LossTerm[],
  logits: Tensor,
  labels: Tensor,
  { ignored, classWeights }: LossOptions,
): { loss: Tensor; gradient: Tensor } {
  return logits.device.scope(() => {
    let sum: { loss: Tensor; gradient: Tensor } | undefined;
    for (const { type, weight = 1, gamma = 6 } of terms) {
      const common = { ignored, scale: weight };
      const weighted = { ...common, ...(classWeights && { classWeights }) };
      const one =
        type === 'dice'
          ? diceLoss(logits, labels, weighted)
          : type === 'lovasz'
            ? lovaszLoss(logits, labels, common)
            : focalLoss(logits, labels, { ...weighted, gamma: type === 'focal' ? gamma : 0 });
      if (sum) {
        accumulate(sum.loss, one.loss);
        accumulate(sum.gradient, one.gradient);
      } else {
        sum = { loss: one.loss, gradient: one.gradient };
      }
    }
    return sum!;
  });
}

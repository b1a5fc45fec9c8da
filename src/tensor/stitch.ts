import type { OpArguments } from './device';
import type { Tensor } from './tensor';

export type StitchSource = OpArguments<'stitch'>['sources'][number];

/**
 * Logits of patches to labels and confidence (0 to 255) at full resolution, for a band of rows: upsampled by
 * nearest neighbour, summed where patches overlap, argmax.
 * @returns [rows, imageWidth] each, uint8
 */
export function stitch(args: OpArguments<'stitch'>): { labels: Tensor; confidence: Tensor } {
  const [labels, confidence] = args.sources[0]!.logits.device.run('stitch', args);
  return { labels: labels!, confidence: confidence! };
}

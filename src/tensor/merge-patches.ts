import type { OpArguments } from './device';

/**
 * Adds patches' maps to a map of the whole image, in place, each resized bilinearly to the part that it covers;
 * with coverages, as given with the last patches, divides the sum by their product.
 */
export function mergePatches(args: OpArguments<'merge_patches'>): void {
  args.sum.device.run('merge_patches', args);
}

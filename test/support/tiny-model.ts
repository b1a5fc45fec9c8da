/** A model file of random weights that runs in milliseconds. */
import { type ModelConfig, writeModel } from '../../src/checkpoint/model-file';
import { randomWeights, smallConfig } from '../../src/cli/self-test';

/** ResNet-18 at 1/8 width, three classes, patches and global image of 64 px, all modes. */
export const tinyConfig = smallConfig;

/** Writes a model; the same seed gives the same weights. */
export async function writeTinyModel(
  path: string,
  changes: Partial<ModelConfig> = {},
  seed = 1,
): Promise<ModelConfig> {
  const config = { ...tinyConfig, ...changes };
  await writeModel(path, config, randomWeights(config, seed));
  return config;
}

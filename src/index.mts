/** The entry for `import`: the same classes and the same addon as for `require`. */

export type * from './index.js';
export {
  AbortError,
  assertDataset,
  checkDataset,
  evaluate,
  evaluationImages,
  exportOnnx,
  GLNet,
  GlnetError,
  importBackbone,
  importReference,
  openDataset,
  openImage,
  openRaster,
  parseTrainConfig,
  readLabels,
  samplesOf,
  summarize,
  trainModel,
  writeModel,
} from './index.js';

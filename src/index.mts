/** The entry for `import`: the same classes and the same addon as for `require`. */

export type * from './index.js';
export {
  AbortError,
  GLNet,
  GlnetError,
  importBackbone,
  importReference,
  openRaster,
  writeModel,
} from './index.js';

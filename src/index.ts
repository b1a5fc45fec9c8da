/** GLNet: segmentation of ultra-high resolution images in little memory. */
export {
  type ImportedModel,
  type ImportOptions,
  importBackbone,
  importReference,
  type ReferenceFiles,
} from './checkpoint/import';
export { type ClassInfo, type Mode, type ModelConfig, writeModel } from './checkpoint/model-file';
export { AbortError, GlnetError, type GlnetErrorCode } from './errors';
export type { DeviceName } from './inference/devices';
export {
  type BandOptions,
  GLNet,
  type LoadOptions,
  type SegmentOptions,
  type SegmentReport,
  type SegmentResult,
} from './inference/glnet';
export type { Precision } from './inference/networks';
export type { Band, Output, Progress, TimedStage } from './inference/predict';
export { openRaster, type Pixels, type Raster, type RasterOptions, type RasterSource } from './raster/raster';
export type { DeviceKind, Memory } from './tensor/device';

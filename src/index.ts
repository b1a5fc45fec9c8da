/** GLNet: segmentation of ultra-high resolution images in little memory. */
export type { ClassInfo, Mode, ModelConfig } from './checkpoint/model-file';
export { AbortError, GlnetError, type GlnetErrorCode } from './errors';
export {
  GLNet,
  type LoadOptions,
  type SegmentOptions,
  type SegmentReport,
  type SegmentResult,
} from './inference/glnet';
export type { Band, Output, Progress, TimedStage } from './inference/predict';
export { openRaster, type Pixels, type Raster, type RasterOptions, type RasterSource } from './raster/raster';
export type { DeviceKind } from './tensor/device';

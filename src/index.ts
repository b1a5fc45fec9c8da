/** GLNet: segmentation of ultra-high resolution images in little memory. */
export {
  type ImportedModel,
  type ImportOptions,
  importBackbone,
  importReference,
  type ReferenceFiles,
} from './checkpoint/import';
export { type ClassInfo, type Mode, type ModelConfig, writeModel } from './checkpoint/model-file';
export { assertDataset, checkDataset } from './datasets/check';
export { type Dataset, type Sample, type SplitName, samplesOf } from './datasets/dataset';
export { openImage, readLabels } from './datasets/labels';
export { openDataset } from './datasets/open';
export { AbortError, GlnetError, type GlnetErrorCode } from './errors';
export type { Refinement } from './inference/coarse-to-fine';
export type { DeviceName } from './inference/devices';
export { type ExportMode, type ExportOptions, exportOnnx } from './inference/export';
export {
  type BandOptions,
  GLNet,
  type LoadOptions,
  type SegmentOptions,
  type SegmentReport,
  type SegmentResult,
} from './inference/glnet';
export type { Precision, PrecisionChoice } from './inference/networks';
export type { Band, Output, Progress, SegmentMode, TimedStage } from './inference/predict';
export type { ChromeTrace } from './inference/profile';
export { openRaster, type Pixels, type Raster, type RasterOptions, type RasterSource } from './raster/raster';
export type { DeviceKind, Memory } from './tensor/device';
export { parseTrainConfig, type TrainConfig } from './training/config';
export {
  type EvaluateOptions,
  type Evaluation,
  type EvaluationImage,
  evaluate,
  evaluationImages,
  summarize,
} from './training/evaluate';
export { type TrainModelOptions, trainModel } from './training/run';
export type { Scores, StepReport, TrainEvents } from './training/trainer';

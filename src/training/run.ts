/** Training from a data set's folder to a model file: opens and checks everything, then trains. */

import { createHash } from 'node:crypto';
import { importBackbone } from '../checkpoint/import';
import { allModes, type Mode, type ModelConfig, openModel } from '../checkpoint/model-file';
import type { StateDict } from '../checkpoint/state-dict';
import { assertDataset } from '../datasets/check';
import type { DatasetFormat } from '../datasets/classes';
import { type Dataset, ignoredLabel, type SplitName, samplesOf } from '../datasets/dataset';
import { openDataset } from '../datasets/open';
import { SceneLoader } from '../datasets/scenes';
import { GlnetError } from '../errors';
import { outputsOf } from '../inference/predict';
import { Device, type DeviceOptions } from '../tensor/device';
import { phaseConfig, type TrainConfig } from './config';
import { type EvaluationImage, evaluate, evaluationImages, networksSegmenter } from './evaluate';
import type { TrainingNetworks } from './networks';
import { mainOutput } from './phases';
import { type Scores, type TrainEvents, type TrainingData, train } from './trainer';

export interface TrainModelOptions extends TrainEvents {
  /** A data set's folder, or the data set. */
  readonly data: string | Dataset;
  /** The run's folder; made if need be. */
  readonly out: string;
  readonly config: TrainConfig;
  /** Default all, in their order. */
  readonly phases?: readonly Mode[] | undefined;
  /** How the folder is read; default by what is in it. */
  readonly format?: DatasetFormat;
  /** A description kept elsewhere than in the folder. */
  readonly description?: string;
  /** What is trained on; default `train`. */
  readonly split?: SplitName;
  /** What is evaluated on; default `val`. Without images there is no evaluation, and the last weights are taken. */
  readonly validation?: SplitName;
  /** A model file whose weights are taken: of earlier phases, or of one that is to be trained further. */
  readonly weights?: string;
  /** A PyTorch checkpoint of a ResNet, such as torchvision's ImageNet weights: where both branches' backbones begin. */
  readonly backboneWeights?: string;
  readonly device?: DeviceOptions;
  /** Go on with the run in `out`. */
  readonly resume?: boolean;
  /** Stops the run after the step in progress, its state saved. */
  readonly signal?: AbortSignal;
  /** Hears of what is done before the first step, a line at a time. */
  readonly onNote?: (text: string) => void;
}

/**
 * Trains a GLNet: checks the whole data set, then trains phase after phase.
 *
 * ```ts
 * const model = await trainModel({ data: 'scenes/', out: 'runs/1', config: parseTrainConfig({ epochs: 40 }) });
 * ```
 * @returns the path of the model file, in `out`
 * @throws GlnetError ERR_FILE with every image that is wrong, before anything is computed; ERR_INVALID_ARGUMENT,
 *   ERR_CHECKPOINT for weights; ERR_DIVERGED; ERR_ABORTED; ERR_OUT_OF_MEMORY.
 */
export async function trainModel(options: TrainModelOptions): Promise<string> {
  const { config, out, onNote, signal } = options;
  const dataset =
    typeof options.data === 'string'
      ? await openDataset(options.data, { format: options.format, description: options.description })
      : options.data;
  await assertDataset(dataset, { signal });
  const split = options.split ?? 'train';
  const samples = samplesOf(dataset, split);
  if (samples.length === 0) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `${dataset.root}: the split ${split} has no labelled images; expected at least one (${dataset.splitSource})`,
    );
  }
  const held = samplesOf(dataset, options.validation ?? 'val');
  onNote?.(
    `${dataset.name}: ${samples.length} images to train on, ${held.length} to evaluate on (${dataset.splitSource})`,
  );

  const patient = (options.phases ?? allModes).some(
    (phase) => phaseConfig(config, phase).patience !== undefined,
  );
  if (patient && held.length === 0)
    onNote?.('patience is given, and there are no images to evaluate on: it has no effect');

  const data: TrainingData = {
    images: samples.length,
    classes: dataset.classes,
    ignored: ignoredLabel,
    async *batches({ seed, from, to, batch }) {
      const { scene, augment } = config;
      const loader = new SceneLoader(samples, { batch, seed, scene, augment });
      for await (const { scenes } of loader.batches(from, to)) yield [...scenes];
    },
  };
  const weights =
    options.weights === undefined
      ? undefined
      : await readWeights(options.weights, config, dataset.classes.length);
  const pretrained =
    options.backboneWeights === undefined ? undefined : await readBackbone(options.backboneWeights, config);
  const device = new Device(options.device);
  try {
    return await train({
      ...options,
      out,
      config,
      phases: options.phases ?? allModes,
      device,
      data,
      weights,
      pretrained,
      origin: {
        images: digest(samples.map(({ id }) => id)),
        validation: digest(held.map(({ id }) => id)),
        ...(weights && { weights: digestOf(weights) }),
        ...(pretrained && { backboneWeights: digestOf(pretrained) }),
      },
      ...(held.length > 0 && {
        evaluate: (networks: TrainingNetworks) =>
          evaluateNetworks(networks, config, dataset, evaluationImages(dataset, options.validation ?? 'val')),
      }),
    });
  } finally {
    device.dispose();
  }
}

function digest(ids: readonly string[]): string {
  return createHash('sha256').update(ids.join('\n')).digest('hex');
}

function digestOf(tensors: StateDict): string {
  const hash = createHash('sha256');
  for (const [name, { data }] of tensors) hash.update(name).update(data);
  return hash.digest('hex');
}

async function readWeights(path: string, config: TrainConfig, classes: number): Promise<StateDict> {
  const tensors: StateDict = new Map();
  const file = await openModel(path);
  try {
    checkBackbone(path, file.config, config);
    checkHeads(path, file.config, config, classes);
    for (const name of file.tensors.keys()) tensors.set(name, await file.read(name));
  } finally {
    await file.close();
  }
  return tensors;
}

async function readBackbone(path: string, config: TrainConfig): Promise<StateDict> {
  const { tensors, ...found } = await importBackbone(path);
  checkBackbone(path, found, config);
  return tensors;
}

function checkBackbone(
  path: string,
  found: { readonly backbone: string; readonly width: number },
  { model: { backbone, width } }: TrainConfig,
): void {
  if (found.backbone === backbone && found.width === width) return;
  throw new GlnetError(
    'ERR_INVALID_ARGUMENT',
    `${path}: its backbone is ${found.backbone} of width ${found.width}; the configuration's model has ${backbone} of width ${width}`,
  );
}

function checkHeads(
  path: string,
  found: Pick<ModelConfig, 'fpn' | 'classes'>,
  { model: { fpn } }: TrainConfig,
  classes: number,
): void {
  if (found.fpn.channels !== fpn.channels || found.fpn.smooth !== fpn.smooth) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `${path}: its fpn has ${found.fpn.channels} channels and ${found.fpn.smooth} after smoothing; the configuration's ` +
        `model has ${fpn.channels} and ${fpn.smooth}`,
    );
  }
  if (found.classes.length !== classes) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `${path}: it has ${found.classes.length} classes; the data set has ${classes}`,
    );
  }
}

async function evaluateNetworks(
  networks: TrainingNetworks,
  config: TrainConfig,
  dataset: Dataset,
  images: readonly EvaluationImage[],
): Promise<Scores> {
  const started = performance.now();
  const { phase } = networks;
  const own = mainOutput(phase, phaseConfig(config, phase).terms);
  const outputs = [own, ...outputsOf(phase).filter((output) => output !== own)];
  const segmenter = networksSegmenter([networks.networks], phase, {
    patch: config.model.patch,
    globalSize: config.model.global,
    batch: phaseConfig(config, phase).patchBatch,
    coarseToFine: phase === 'global' ? undefined : config.coarseToFine,
  });
  const pictures = new Map<string, Uint8Array>();
  const { modes, failed } = await evaluate(segmenter, images, {
    classes: dataset.classes.length,
    runs: [{ mode: phase, outputs }],
    async onMask({ id }, _mode, output, { width, height, labels }) {
      if (output !== own || pictures.size === mostPictures) return;
      pictures.set(id, await drawLabels(labels, width, height, dataset));
    },
  });
  if (failed.length > 0) throw failed[0]!.error;
  const scores = modes[0]!.outputs;
  return {
    mIoU: Object.fromEntries(
      scores.map(({ output, confusion }) => [output, confusion.meanIou(dataset.excluded)]),
    ),
    iou: scores.find(({ output }) => output === own)!.confusion.iou(),
    seconds: (performance.now() - started) / 1000,
    pictures,
  };
}

/** Predictions that are drawn at each evaluation, and their longer sides in pixels. */
const mostPictures = 4;
const pictureSide = 512;

/** Labels in the classes' colours, as a PNG. */
async function drawLabels(
  labels: Uint8Array,
  width: number,
  height: number,
  { classes }: Dataset,
): Promise<Uint8Array> {
  const pixels = new Uint8Array(3 * labels.length);
  for (let i = 0; i < labels.length; i++) pixels.set(classes[labels[i]!]!.color, 3 * i);
  const { default: sharp } = await import('sharp');
  return sharp(pixels, { raw: { width, height, channels: 3 } })
    .resize(pictureSide, pictureSide, { fit: 'inside', kernel: 'nearest', withoutEnlargement: true })
    .png()
    .toBuffer();
}

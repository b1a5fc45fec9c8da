/** Evaluation of a small network of random weights, against the library's own masks. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { GLNet, GlnetError, openRaster, type Pixels } from '../../../src';
import { allModes, openModel } from '../../../src/checkpoint/model-file';
import { NetworkStore } from '../../../src/inference/networks';
import { outputsOf } from '../../../src/inference/predict';
import { BoundaryScore } from '../../../src/metrics/boundary';
import { Calibration } from '../../../src/metrics/calibration';
import { ConfusionMatrix } from '../../../src/metrics/confusion';
import { Device } from '../../../src/tensor/device';
import {
  type Evaluation,
  type EvaluationImage,
  evaluate,
  networksSegmenter,
  summarize,
} from '../../../src/training/evaluate';
import { goldenImage } from '../../support/golden';
import { tinyConfig, writeTinyModel } from '../../support/tiny-model';

const folder = mkdtempSync(path.join(tmpdir(), 'glnet-evaluate-'));
const weights = path.join(folder, 'model.safetensors');
beforeAll(() => writeTinyModel(weights));
afterAll(() => rmSync(folder, { recursive: true }));

const classes = tinyConfig.classes.length;
const runs = allModes.map((mode) => ({ mode, outputs: outputsOf(mode) }));

/** An image with stripes as its labels, some of them ignored. */
function labelled(
  id: string,
  width: number,
  height: number,
  seed: number,
): EvaluationImage & { pixels: Pixels } {
  const pixels = { data: goldenImage(width, height, seed), width, height, channels: 3 };
  return {
    id,
    pixels,
    open: () => openRaster(pixels),
    labels: async () => truthOf(width, height),
  };
}

function truthOf(width: number, height: number): Uint8Array {
  return Uint8Array.from({ length: width * height }, (_, i) => {
    const stripe = Math.floor((i % width) / 11) % 4;
    return stripe < classes ? stripe : 255;
  });
}

const images = [labelled('first', 150, 90, 1), labelled('second', 70, 64, 2)];

/** Figures by mode and output, without times and bytes. */
function figures({ modes }: Evaluation) {
  return modes.map(({ mode, patches, outputs }) => ({
    mode,
    patches,
    outputs: outputs.map((scores) => ({ output: scores.output, ...summarize(scores) })),
  }));
}

test('scores are those of the masks that the library gives, over all images', async () => {
  await using model = await GLNet.load(weights);
  const masks: string[] = [];
  const evaluation = await evaluate(model, images, {
    classes,
    runs,
    onMask: ({ id }, mode, output, { width, height, labels }) => {
      masks.push(`${id} ${mode} ${output} ${width}x${height} ${Buffer.from(labels).toString('base64')}`);
    },
  });
  expect(evaluation.failed).toEqual([]);
  const seen = new Set<string>();
  for (const { mode, seconds, patches, poolPeakBytes, outputs } of evaluation.modes) {
    expect(seconds).toBeGreaterThan(0);
    expect(poolPeakBytes).toBeGreaterThan(0);
    expect(patches > 0).toBe(mode !== 'global');
    for (const scores of outputs) {
      const { output } = scores;
      const matrix = new ConfusionMatrix(classes);
      const boundary = new BoundaryScore(classes);
      const calibration = new Calibration(classes);
      for (const { id, pixels } of images) {
        const { labels, confidence, width, height } = await model.segment(pixels, { mode, output });
        const truth = truthOf(width, height);
        matrix.add(labels, truth);
        boundary.add(labels, truth, width);
        calibration.add(labels, confidence, truth);
        expect(masks).toContain(
          `${id} ${mode} ${output} ${width}x${height} ${Buffer.from(labels).toString('base64')}`,
        );
      }
      expect(summarize(scores, [1])).toEqual({
        mIoU: matrix.meanIou([1]),
        IoU: matrix.iou(),
        precision: matrix.precision(),
        recall: matrix.recall(),
        F1: matrix.f1(),
        pixelAccuracy: matrix.pixelAccuracy(),
        boundaryF: boundary.meanFScore([1]),
        boundaryFByClass: boundary.fScore(),
        ECE: calibration.expectedError(),
      });
      expect(scores.confusion.counts).toEqual(matrix.counts);
      seen.add(JSON.stringify(scores.confusion));
    }
  }
  // Outputs differ, so that one cannot stand for another: 'local' alone is the same in both modes that have it, and
  // so is 'global' in the two that have no merged maps.
  expect(seen.size).toBe(5);
  expect(masks).toHaveLength(images.length * 7);
  expect(evaluation.images.map(({ id, width, height }) => [id, width, height])).toEqual([
    ['first', 150, 90],
    ['second', 70, 64],
  ]);
  const first = evaluation.images[0]!.modes[2]!.outputs[0]!.confusion;
  first.merge(evaluation.images[1]!.modes[2]!.outputs[0]!.confusion);
  expect(first.counts).toEqual(evaluation.modes[2]!.outputs[0]!.confusion.counts);
});

test('networks in memory give the same figures as the model of their file', async () => {
  await using model = await GLNet.load(weights);
  const expected = await evaluate(model, images, {
    classes,
    runs,
    segment: { patch: 100, flipRotate: true },
  });
  const file = await openModel(weights);
  const device = new Device({ kind: 'cpu' });
  const store = new NetworkStore(file, device);
  try {
    for (const [i, run] of runs.entries()) {
      const segmenter = networksSegmenter([await store.get(run.mode)], run.mode, {
        patch: 100,
        globalSize: tinyConfig.global,
        batch: 3,
      });
      const found = await evaluate(segmenter, images, {
        classes,
        runs: [run],
        segment: { flipRotate: true },
      });
      expect(figures(found)).toEqual([figures(expected)[i]]);
    }
    await store.dispose();
    expect(device.memory().active).toBe(0);
  } finally {
    await file.close();
    device.dispose();
  }
});

test('a bad image is reported and counts in nothing; the rest goes on', async () => {
  await using model = await GLNet.load(weights);
  const bad: EvaluationImage[] = [
    { ...images[0]!, id: 'missing', open: () => openRaster(path.join(folder, 'nope.png')) },
    { ...images[0]!, id: 'short', labels: async () => new Uint8Array(150 * 89) },
    {
      ...images[1]!,
      id: 'late',
      // Fails in the second mode, when it has been counted in the first.
      labels: (() => {
        let calls = 0;
        return async () => {
          calls += 1;
          if (calls > 1) throw new GlnetError('ERR_IMAGE', 'late.png: damaged');
          return truthOf(70, 64);
        };
      })(),
    },
  ];
  const events: string[] = [];
  const found = await evaluate(model, [...bad, images[1]!], {
    classes,
    runs,
    onImage: ({ id }, mode) => events.push(`${id} ${mode}`),
    onFailure: ({ id }, { message }) => events.push(`${id}: ${message}`),
  });
  expect(events).toEqual([
    'missing global',
    expect.stringMatching(/^missing: .*nope\.png: no such file/),
    'short global',
    'short: (pixels): 13350 labels for an image of 150x90; expected 13500, one for each pixel',
    'late global',
    'second global',
    'late global-to-local',
    'late: late.png: damaged',
    'second global-to-local',
    'second bidirectional',
  ]);
  expect(found.failed.map(({ id, error }) => [id, error.code])).toEqual([
    ['missing', 'ERR_FILE'],
    ['short', 'ERR_IMAGE'],
    ['late', 'ERR_IMAGE'],
  ]);
  expect(found.images.map(({ id }) => id)).toEqual(['second']);
  const alone = await evaluate(model, [images[1]!], { classes, runs });
  expect(figures(found)).toEqual(figures(alone));
});

test('what every image would meet ends it at once', async () => {
  await using model = await GLNet.load(weights);
  const opened: string[] = [];
  const watched = images.map((image) => ({
    ...image,
    open: () => {
      opened.push(image.id);
      return image.open();
    },
  }));
  const evaluating = evaluate(model, watched, { classes, runs, segment: { patch: 62 } });
  await expect(evaluating).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
  expect(opened).toEqual(['first']);
  // Fewer classes than the network has labels for.
  await expect(evaluate(model, images, { classes: 2, runs })).rejects.toThrow(
    /a label is 2; expected 0 to 1/,
  );
});

test('an abort ends it', async () => {
  await using model = await GLNet.load(weights);
  const controller = new AbortController();
  const evaluating = evaluate(model, images, {
    classes,
    runs,
    signal: controller.signal,
    onProgress: ({ stage }) => {
      if (stage === 'patches') controller.abort();
    },
  });
  await expect(evaluating).rejects.toMatchObject({ code: 'ERR_ABORTED' });
});

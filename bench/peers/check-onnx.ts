/**
 * Checks exported graphs on onnxruntime against the package's own network, as it is trained, nothing composed.
 *
 *   node scripts/run-ts.js bench/peers/check-onnx.ts
 *
 * Logits of the global branch, the local one and the ensemble within 1e-3 of their largest magnitude, for small models
 * with basic blocks and bottlenecks, with and without sharing, and a batch that is fixed or not. Exit code 1: something
 * is outside of that; 3: there is no onnxruntime-node.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type ModelConfig, openModel, writeModel } from '../../src/checkpoint/model-file';
import { toFloat32 } from '../../src/checkpoint/state-dict';
import { randomWeights, smallConfig } from '../../src/cli/self-test';
import { exportOnnx } from '../../src/inference/export';
import { predict } from '../../src/inference/predict';
import { Branch, Ensemble } from '../../src/models/glnet';
import { openRaster } from '../../src/raster/raster';
import { decodePatches } from '../../src/tensor/decode-patches';
import { Device } from '../../src/tensor/device';
import type { Tensor } from '../../src/tensor/tensor';
import { triangleResize } from '../../src/tensor/triangle-resize';
import { patchGrid } from '../../src/tiling';
import { OnnxNetwork, type OnnxRuntime, type Planes, runWithOnnxRuntime } from './glnet-onnx';

const tolerance = 1e-3;
const outputs = ['global', 'ensemble', 'local'] as const;
type Logits = Record<(typeof outputs)[number], Float32Array>;

const [width, height] = [150, 100];
const pixels = Uint8Array.from(
  { length: width * height * 3 },
  (_, i) => (Math.imul(i >> 3, 0x9e3779b1) >>> 24) & 255,
);

/** [N, H, W, C] as [N, C, H, W]. */
async function planar(tensor: Tensor): Promise<Float32Array> {
  const [n, h, w, c] = tensor.shape as [number, number, number, number];
  const from = (await tensor.data()) as Float32Array;
  const to = new Float32Array(from.length);
  for (let image = 0, i = 0; image < n; image++) {
    for (let pixel = 0; pixel < h * w; pixel++) {
      for (let channel = 0; channel < c; channel++) to[(image * c + channel) * h * w + pixel] = from[i++]!;
    }
  }
  return to;
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** What the package computes, and the downsampled image that it computes from. */
async function own(
  device: Device,
  weights: string,
  batch: number,
): Promise<{ logits: Logits; small: Planes }> {
  const file = await openModel(weights);
  const { backbone, sharing, patch, global: globalSize } = file.config;
  const upload = async (mode: 'global' | 'global-to-local') =>
    new Map(
      Array.from(await file.readMode(mode), ([name, host]) => [
        name,
        device.upload(toFloat32(host), host.shape, 'float32'),
      ]),
    );
  const [first, second] = [await upload('global'), await upload('global-to-local')];
  await file.close();
  const parts: Record<string, Promise<Float32Array>[]> = { global: [], ensemble: [], local: [] };
  await predict(
    [
      {
        device,
        precision: 'float32',
        global: new Branch(first, backbone, 'global'),
        local: new Branch(second, backbone, 'local', sharing),
        ensemble: new Ensemble(second),
      },
    ],
    await openRaster({ data: pixels, width, height, channels: 3 }),
    {
      mode: 'global-to-local',
      outputs,
      patch,
      globalSize,
      batch,
      flipRotate: false,
      onLogits: (output, { logits }) => parts[output]!.push(planar(logits)),
      onBand: () => {},
    },
  );
  const logits = Object.fromEntries(
    await Promise.all(outputs.map(async (output) => [output, joined(await Promise.all(parts[output]!))])),
  ) as Logits;
  using x = device.upload(pixels, [height, width, 3], 'uint8');
  using sum = device.zeros([globalSize, globalSize, 3], 'int32');
  using resized = triangleResize({ x, sum, row: 0, imageHeight: height });
  using decoded = decodePatches({ x: resized, tops: [0], lefts: [0], height: globalSize, width: globalSize });
  const small = { data: await planar(decoded), channels: 3, height: globalSize, width: globalSize };
  for (const tensor of [...first.values(), ...second.values()]) tensor.dispose();
  return { logits, small };
}

/** What onnxruntime computes from the same. */
async function theirs(
  runtime: OnnxRuntime,
  weights: string,
  folder: string,
  small: Planes,
  { patch }: ModelConfig,
  batch: number | undefined,
): Promise<Logits> {
  const files = { global: path.join(folder, 'global.onnx'), local: path.join(folder, 'local.onnx') };
  await exportOnnx(weights, files.global, { mode: 'global', maps: true, batch: batch && 1 });
  await exportOnnx(weights, files.local, { mode: 'global-to-local', batch });
  const network = await OnnxNetwork.load(runtime, files, 1);
  const data = new Float32Array(pixels.length);
  for (let i = 0; i < pixels.length; i++)
    data[(i % 3) * width * height + Math.floor(i / 3)] = pixels[i]! / 255;
  const image = { data, channels: 3, height, width };
  const found = await network.predict(small, image, patchGrid(width, height, patch), batch ?? 4);
  return { global: found.global, ensemble: joined(found.ensemble), local: joined(found.local) };
}

function worstDifference(got: Float32Array, expected: Float32Array): number {
  if (got.length !== expected.length) return Number.POSITIVE_INFINITY;
  let [worst, largest] = [0, 0];
  for (let i = 0; i < got.length; i++) {
    const difference = Math.abs(got[i]! - expected[i]!);
    worst = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : Math.max(worst, difference);
    largest = Math.max(largest, Math.abs(expected[i]!));
  }
  return worst / largest;
}

async function main(runtime: OnnxRuntime): Promise<void> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'glnet-onnx-'));
  using device = new Device({ threads: 1 });
  try {
    const cases: [string, Partial<ModelConfig>, number | undefined][] = [
      ['resnet18', {}, undefined],
      ['resnet50, batch 2', { backbone: 'resnet50', patch: 76, global: 92 }, 2],
      ['resnet18, shallow sharing', { sharing: 'shallow' }, undefined],
      ['resnet18, no sharing', { sharing: 'none' }, undefined],
    ];
    for (const [name, changes, batch] of cases) {
      const config = { ...smallConfig, ...changes };
      const weights = path.join(folder, 'model.safetensors');
      await writeModel(weights, config, randomWeights(config, 1));
      const { logits, small } = await own(device, weights, batch ?? 4);
      const found = await theirs(runtime, weights, folder, small, config, batch);
      for (const output of outputs) {
        const worst = worstDifference(found[output], logits[output]);
        const verdict = worst <= tolerance ? 'ok' : 'WRONG';
        console.log(
          `${name}, ${output}: logits differ by ${worst.toExponential(1)} of the largest, ${verdict}`,
        );
        if (worst > tolerance) process.exitCode = 1;
      }
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

runWithOnnxRuntime(main);

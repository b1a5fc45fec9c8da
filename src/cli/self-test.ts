/** A small network of random weights, run on two devices and compared. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { allModes, type ModelConfig, openModel, writeModel } from '../checkpoint/model-file';
import { elementCount, fromFloat32, type StateDict } from '../checkpoint/state-dict';
import { chooseDevices } from '../inference/devices';
import { NetworkStore } from '../inference/networks';
import { type Output, outputsOf, predict } from '../inference/predict';
import { expectedParameters } from '../models/parameters';
import { openRaster } from '../raster/raster';
import { Device, type TensorData } from '../tensor/device';

/** The smallest network that still has every part of a large one. */
export const smallConfig: ModelConfig = {
  backbone: 'resnet18',
  width: 1 / 8,
  fpn: { channels: 8, smooth: 4 },
  classes: [
    { name: 'red', color: [255, 0, 0] },
    { name: 'green', color: [0, 255, 0] },
    { name: 'blue', color: [0, 0, 255] },
  ],
  patch: 64,
  global: 64,
  modes: ['global', 'global-to-local', 'bidirectional'],
};

/** Uniform pseudo-random numbers in [-1, 1), the same on every run (mulberry32). */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 31 - 1;
  };
}

/** Random weights as a model file has them: maps keep about their magnitude from layer to layer. */
export function randomWeights(config: ModelConfig, seed: number): StateDict {
  const random = randomNumbers(seed);
  const tensors: StateDict = new Map();
  for (const mode of config.modes) {
    for (const [name, shape] of expectedParameters(config, mode)) {
      const isScale = name.endsWith('running_var') || (shape.length === 1 && name.endsWith('.weight'));
      const [range, offset] =
        shape.length === 4 ? [Math.sqrt(3 / elementCount(shape.slice(1))), 0] : [0.2, isScale ? 1 : 0];
      const values = Float32Array.from({ length: elementCount(shape) }, () => random() * range + offset);
      tensors.set(`${mode}.${name}`, fromFloat32(shape, values));
    }
  }
  return tensors;
}

const [width, height] = [150, 100];

/** Pixels in blocks, so that the downsampled image is not all of one gray. */
function testPixels(): Uint8Array {
  const random = randomNumbers(1);
  const blocks = Float32Array.from({ length: 1024 }, random);
  return Uint8Array.from({ length: width * height * 3 }, (_, i) => {
    const [x, y] = [Math.floor(i / 3) % width, Math.floor(i / 3 / width)];
    return 128 + 90 * blocks[((y >> 4) * 31 + (x >> 4) * 3 + (i % 3)) % blocks.length]! + 30 * random();
  });
}

/** The logits and the confidence of every mode and output, by name. */
async function run(model: string, name: string): Promise<Map<string, number[]>> {
  const { kind, indices } = chooseDevices(name);
  using device = new Device({ kind, index: indices[0]! });
  const file = await openModel(model);
  const store = new NetworkStore(file, device);
  const values = new Map<string, number[]>();
  const add = (name: string, more: Iterable<number>) => {
    const known = values.get(name) ?? [];
    for (const value of more) known.push(value);
    values.set(name, known);
  };
  try {
    const raster = await openRaster({ data: testPixels(), width, height, channels: 3 });
    for (const mode of allModes) {
      const logits: [Output, Promise<TensorData>][] = [];
      await predict([await store.get(mode)], raster, {
        mode,
        outputs: outputsOf(mode),
        patch: smallConfig.patch,
        globalSize: smallConfig.global,
        batch: 2,
        flipRotate: false,
        onLogits: (output, source) => {
          const data = source.logits.data();
          // Awaited below, unless the prediction fails before.
          data.catch(() => {});
          logits.push([output, data]);
        },
        onBand: (output, band) => add(`${mode}, ${output}, ${confidence}`, band.confidence),
      });
      for (const [output, data] of logits) add(`${mode}, ${output}, logits`, await data);
    }
    return values;
  } finally {
    await store.dispose();
    await file.close();
  }
}

export interface Comparison {
  name: string;
  /** Greatest difference, in units of the reference's greatest magnitude. */
  difference: number;
  /** The most that `difference` may be. */
  tolerance: number;
}

/** Single precision, summed in another order; a value of 8 bits may be rounded the other way. */
const floatTolerance = 1e-4;
const byteTolerance = 1.5 / 255;
const confidence = 'confidence';

/** Compares a device with `reference`, from pixels to confidence. */
export async function compareWithReference(device: string): Promise<Comparison[]> {
  const folder = await mkdtemp(path.join(tmpdir(), 'glnet-'));
  try {
    const model = path.join(folder, 'model.safetensors');
    await writeModel(model, smallConfig, randomWeights(smallConfig, 1));
    const expected = await run(model, 'reference');
    const found = await run(model, device);
    return Array.from(expected, ([name, values]) => {
      const others = found.get(name)!;
      let worst = others.length === values.length ? 0 : Number.POSITIVE_INFINITY;
      let largest = 0;
      for (let i = 0; i < values.length; i++) {
        const difference = Math.abs(values[i]! - others[i]!);
        // Not a number is no agreement.
        if (!(difference <= worst)) worst = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
        largest = Math.max(largest, Math.abs(values[i]!));
      }
      const isBytes = name.endsWith(confidence);
      return {
        name,
        // Zeros alone would agree with a device that does nothing.
        difference: largest > 0 ? worst / largest : Number.POSITIVE_INFINITY,
        tolerance: isBytes ? byteTolerance : floatTolerance,
      };
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

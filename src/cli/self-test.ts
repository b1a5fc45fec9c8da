/** A small network of random weights, run on two devices and compared. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type ModelConfig, openModel, writeModel } from '../checkpoint/model-file';
import { elementCount, fromFloat32, type StateDict } from '../checkpoint/state-dict';
import { NetworkStore } from '../inference/networks';
import { Merger, shareMerged, shareWithPatches } from '../models/glnet';
import { expectedParameters } from '../models/parameters';
import { decodePatches } from '../tensor/decode-patches';
import { Device, type DeviceKind } from '../tensor/device';
import { stitch } from '../tensor/stitch';
import type { Tensor } from '../tensor/tensor';
import { triangleResize } from '../tensor/triangle-resize';
import { patchGrid, patchRect } from '../tiling';

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

/** Every intermediate result that a user could see, by what it is. */
async function run(model: string, kind: DeviceKind): Promise<Map<string, Float32Array>> {
  using device = new Device({ kind });
  const store = new NetworkStore(await openModel(model), device);
  try {
    const { global, local, ensemble, globalExt } = await store.get('bidirectional');
    const { patch, global: side } = store.config;
    const random = randomNumbers(1);
    // Blocks, so that the downsampled image is not all of one gray.
    const pixels = new Uint8Array(width * height * 3);
    const blocks = Float32Array.from({ length: 1024 }, random);
    for (let i = 0; i < pixels.length; i++) {
      const [x, y] = [Math.floor(i / 3) % width, Math.floor(i / 3 / width)];
      const block = blocks[((y >> 4) * 31 + (x >> 4) * 3 + (i % 3)) % blocks.length]!;
      pixels[i] = 128 + 90 * block + 30 * random();
    }
    const grid = patchGrid(width, height, patch);
    const patches = Array.from({ length: grid.count }, (_, i) => i);
    const rectangles = patches.map((i) => patchRect(grid, i));
    const [tops, lefts] = [rectangles.map(({ top }) => top), rectangles.map(({ left }) => left)];

    const results = device.scope(() => {
      const window = device.upload(pixels, [height, width, 3], 'uint8');
      const sum = device.zeros([side, side, 3], 'int32');
      const globalImage = triangleResize({ x: window, sum, row: 0, imageHeight: height });
      const image = decodePatches({ x: globalImage, tops: [0], lefts: [0], height: side, width: side });
      const first = global.forward(image);
      const x = decodePatches({ x: window, tops, lefts, height: patch, width: patch });
      const seen = local!.forward(x, shareWithPatches(first.maps, grid, patches));
      const merger = new Merger(grid, first.maps);
      merger.add(seen.maps, patches);
      const second = globalExt!.forward(image, shareMerged(merger.maps));
      const logits = ensemble!.addGlobal(ensemble!.local(seen.ps3), second.ps3, grid, patches);
      const sources = [{ logits, tops, lefts, height: patch, width: patch, turn: 0 }];
      return {
        'global image': globalImage,
        'global branch': global.classify(first.ps3),
        'local branch': local!.classify(seen.ps3),
        'global branch with local maps': globalExt!.classify(second.ps3),
        ensemble: logits,
        confidence: stitch({ sources, imageHeight: height, imageWidth: width, row: 0, rows: height })
          .confidence,
      } satisfies Record<string, Tensor>;
    });
    const values = new Map<string, Float32Array>();
    for (const [name, tensor] of Object.entries(results)) {
      values.set(name, Float32Array.from(await tensor.data()));
      tensor.dispose();
    }
    return values;
  } finally {
    await store.dispose();
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

/** Compares a device with `reference`, from pixels to confidence. */
export async function compareWithReference(kind: DeviceKind): Promise<Comparison[]> {
  const folder = await mkdtemp(path.join(tmpdir(), 'glnet-'));
  try {
    const model = path.join(folder, 'model.safetensors');
    await writeModel(model, smallConfig, randomWeights(smallConfig, 1));
    const expected = await run(model, 'reference');
    const found = await run(model, kind);
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
      const isBytes = name === 'global image' || name === 'confidence';
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

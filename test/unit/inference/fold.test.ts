/** What inference composes beforehand gives what the network gives as it was trained. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { addThrough } from '../../../src/binding';
import { type ModelConfig, type ModelFile, openModel } from '../../../src/checkpoint/model-file';
import { fromFloat32, toFloat32 } from '../../../src/checkpoint/state-dict';
import { randomWeights } from '../../../src/cli/self-test';
import { compose, foldBatchNorm, foldLevel, normAfter } from '../../../src/inference/fold';
import { NetworkStore, type Networks } from '../../../src/inference/networks';
import { type Output, outputsOf, predict } from '../../../src/inference/predict';
import { Scratch } from '../../../src/inference/scratch';
import { Branch, Ensemble } from '../../../src/models/glnet';
import { expectedParameters } from '../../../src/models/parameters';
import { openRaster } from '../../../src/raster/raster';
import { Device } from '../../../src/tensor/device';
import type { Tensor } from '../../../src/tensor/tensor';
import { writeTinyModel } from '../../support/tiny-model';

const { abs, max, min } = Math;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'glnet-fold-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** A model's networks as they are trained, with all their layers. */
async function plainNetworks(
  device: Device,
  file: ModelFile,
  mode: 'global-to-local' | 'bidirectional',
): Promise<{ networks: Networks; tensors: Tensor[] }> {
  const upload = async (of: 'global' | typeof mode): Promise<Map<string, Tensor>> =>
    new Map(
      Array.from(await file.readMode(of), ([name, host]) => [
        name,
        device.upload(toFloat32(host), host.shape, 'float32'),
      ]),
    );
  const { backbone } = file.config;
  const own = await upload(mode);
  const fixed = mode === 'bidirectional' ? await upload('global') : own;
  const networks: Networks = {
    device,
    precision: 'float32',
    global: new Branch(fixed, backbone, 'global'),
    local: new Branch(own, backbone, 'local'),
    ensemble: new Ensemble(own),
    ...(mode === 'bidirectional' && { globalExt: new Branch(own, backbone, 'global-ext') }),
  };
  return { networks, tensors: [...new Set([...own.values(), ...fixed.values()])] };
}

interface Part {
  values: Float32Array;
  readonly shape: readonly number[];
}
type Logits = Map<Output, Part[]>;

async function logitsOf(
  networks: Networks,
  config: ModelConfig,
  mode: 'global-to-local' | 'bidirectional',
  [width, height]: readonly [number, number],
  outputs = outputsOf(mode),
): Promise<Logits> {
  const data = Uint8Array.from(
    { length: width * height * 3 },
    (_, i) => (i * 7 + ((i / 510) | 0) * 31 + (((i / 48) % 3) | 0) * 60) % 256,
  );
  const raster = await openRaster({ data, width, height, channels: 3 });
  const pending: Promise<void>[] = [];
  const logits: Logits = new Map();
  await predict([networks], raster, {
    mode,
    outputs,
    patch: config.patch,
    globalSize: config.global,
    batch: 3,
    flipRotate: false,
    onLogits(output, source) {
      const part: Part = { values: new Float32Array(), shape: source.logits.shape };
      logits.set(output, [...(logits.get(output) ?? []), part]);
      pending.push(
        source.logits.data().then((values) => {
          part.values = values as Float32Array;
        }),
      );
    },
    onBand: () => {},
  });
  await Promise.all(pending);
  await raster.close();
  return logits;
}

/** The largest differences as shares of the largest magnitude: within 5 pixels of the patches' borders, and inside. */
function differences(got: Logits, expected: Logits, output: Output): { border: number; inside: number } {
  let [largest, border, inside] = [0, 0, 0];
  for (const [n, { values, shape }] of expected.get(output)!.entries()) {
    const other = got.get(output)![n]!;
    expect(other.shape).toEqual(shape);
    const [, height, width, classes] = shape as [number, number, number, number];
    for (let i = 0; i < values.length; i++) {
      const pixel = Math.floor(i / classes) % (height * width);
      const [x, y] = [pixel % width, Math.floor(pixel / width)];
      largest = max(largest, abs(values[i]!));
      const difference = abs(values[i]! - other.values[i]!);
      if (min(x, y, width - 1 - x, height - 1 - y) < 5) border = max(border, difference);
      else inside = max(inside, difference);
    }
  }
  expect(largest).toBeGreaterThan(0);
  return { border: border / largest, inside: inside / largest };
}

describe.each([
  [124, 2, [300, 170], { channels: 8, smooth: 60 }],
  [124, 7, [260, 300], { channels: 64, smooth: 60 }],
  [252, 21, [410, 260], { channels: 240, smooth: 60 }],
  [508, 7, [620, 530], { channels: 48, smooth: 60 }],
  // The last level too small to be folded; folding it would not pay; more classes than pay at all.
  [52, 7, [100, 90], { channels: 64, smooth: 60 }],
  [124, 21, [170, 130], { channels: 8, smooth: 60 }],
  [64, 30, [170, 90], { channels: 8, smooth: 60 }],
] as const)('patches of %s px, %s classes', (patch, count, size, fpn) => {
  test.each(['global-to-local', 'bidirectional'] as const)('%s: folded is plain', async (mode) => {
    const weights = path.join(folder, `${patch}-${count}-${fpn.channels}.safetensors`);
    const classes = Array.from({ length: count }, (_, i) => ({
      name: `${i}`,
      color: [i, i, i] as const,
    }));
    const config = await writeTinyModel(weights, { classes, patch, global: patch, fpn });
    using device = new Device();
    const file = await openModel(weights);
    const store = new NetworkStore(file, device);
    const { networks, tensors } = await plainNetworks(device, file, mode);
    const expected = await logitsOf(networks, config, mode, size);
    for (const tensor of tensors) tensor.dispose();
    const folded = await store.get(mode);
    expect(folded.heads !== undefined).toBe(count < 27);
    expect(folded.heads?.ensemble?.folded !== undefined).toBe(
      count < 27 && 81 * count < 6 * (fpn.channels + fpn.smooth),
    );
    const got = await logitsOf(folded, config, mode, size);
    for (const output of outputsOf(mode)) {
      const { border, inside } = differences(got, expected, output);
      expect(border).toBeLessThan(1e-4);
      expect(inside).toBeLessThan(1e-4);
    }
    // One output by itself is the same as among all.
    const alone = await logitsOf(await store.get(mode, ['ensemble']), config, mode, size, ['ensemble']);
    expect(alone.get('ensemble')).toEqual(got.get('ensemble'));
    await store.dispose();
    await file.close();
    expect(device.memory().active).toBe(0);
  });
});

describe('batch normalisation', () => {
  test('folds into the convolution before it', () => {
    const { weight, bias } = foldBatchNorm(fromFloat32([2, 1, 1, 2], Float32Array.of(1, 2, 3, 4)), {
      weight: fromFloat32([2], Float32Array.of(2, -1)),
      bias: fromFloat32([2], Float32Array.of(0.5, 1)),
      running_mean: fromFloat32([2], Float32Array.of(3, 0.25)),
      running_var: fromFloat32([2], Float32Array.of(4 - 1e-5, 0.25 - 1e-5)),
    });
    const close = (got: Float32Array, expected: number[]) =>
      got.forEach((value, i) => {
        expect(value).toBeCloseTo(expected[i]!, 6);
      });
    close(toFloat32(weight), [1, 2, -6, -8]);
    close(toFloat32(bias), [0.5 - 3, 1 + 0.5]);
  });

  test('is found for every convolution of a backbone, and for no other', async () => {
    const config = {
      backbone: 'resnet50',
      width: 1,
      fpn: { channels: 256, smooth: 128 },
      classes: [],
    } as const;
    const shapes = expectedParameters(config, 'global-to-local');
    const norms = new Set<string>();
    for (const [name, shape] of shapes) {
      const norm = normAfter(name);
      expect(norm !== undefined).toBe(name.startsWith('resnet_') && shape.length === 4);
      if (norm === undefined) continue;
      norms.add(norm);
      expect(shapes.get(`${norm}.running_var`)).toEqual([shape[0]]);
    }
    const all = [...shapes.keys()].filter((name) => name.endsWith('.running_var'));
    expect(norms.size).toBe(all.length);
  });
});

test('composing leaves the event loop its turns', async () => {
  const weights = randomWeights(
    { ...(await writeTinyModel(path.join(folder, 'tiny.safetensors'))), fpn: { channels: 32, smooth: 16 } },
    1,
  );
  const layer = (name: string) => ({
    weight: weights.get(`global-to-local.${name}.weight`)!,
    bias: weights.get(`global-to-local.${name}.bias`)!,
  });
  let turns = 0;
  const count = () => {
    turns++;
    timer = setImmediate(count);
  };
  let timer = setImmediate(count);
  const scratch = new Scratch();
  const { taps, sum, products } = await compose(
    scratch,
    layer('fpn_local.smooth'),
    layer('fpn_local.classify'),
  );
  const { whole } = await foldLevel(
    scratch,
    products,
    layer('fpn_local.smooth4_1'),
    layer('fpn_local.smooth4_2'),
    2 * 16,
  );
  clearImmediate(timer);
  expect(turns).toBeGreaterThan(9);
  expect([taps.weight.shape, sum.weight.shape]).toEqual([
    [27, 128, 3, 3],
    [3, 27, 3, 3],
  ]);
  expect(whole.weight.shape).toEqual([3, 3 * 32 + 16, 9, 9]);
  expect(whole.weight.data.byteLength).toBe(4 * 3 * (3 * 32 + 16) * 9 * 9);
  scratch.free();
  expect(whole.weight.data.byteLength).toBe(0);
});

describe('addThrough', () => {
  const random = (length: number) => Float32Array.from({ length }, (_, i) => Math.sin(i * i + length));

  test.each([
    // K, h, w, channels; M, C, plane; taps, rows.
    [[2, 1, 1, 3], [3, 4, 9], [0, 1, 2, 3, 4, 5, 6, 7, 8], 3],
    [[7, 3, 4, 150], [131, 33, 9], [0, 1, 2, 3, 4, 5, 6, 7, 8], 3],
    [[9, 1, 5, 16], [16, 48, 9], [8, 5, 2], 1],
    [[1, 5, 2, 20], [18, 5, 4], [1, 2, 0, 3, 3, 1], 3],
  ] as const)('%j through %j by taps %j in %i rows', async (fromShape, weightShape, taps, rows) => {
    const [outputs, height, width, channels] = fromShape;
    const [middle, inputs, plane] = weightShape;
    const columns = taps.length / rows;
    const [toHeight, toWidth] = [height + rows - 1, width + columns - 1];
    const from = Float64Array.from(random(outputs * height * width * channels));
    const weight = random(middle * inputs * plane);
    // With one output more, which stays as it is.
    const to = Float64Array.from(random((outputs + 1) * toHeight * toWidth * inputs));
    const expected = to.slice();
    for (let position = 0; position < outputs * height * width; position++) {
      const [k, y, x] = [
        Math.floor(position / (height * width)),
        Math.floor(position / width) % height,
        position % width,
      ];
      for (const [i, tap] of taps.entries()) {
        const [toY, toX] = [y + Math.floor(i / columns), x + (i % columns)];
        for (let c = 0; c < inputs; c++) {
          const at = ((k * toHeight + toY) * toWidth + toX) * inputs + c;
          for (let m = 0; m < middle; m++)
            expected[at]! += from[position * channels + m]! * weight[(m * inputs + c) * plane + tap]!;
        }
      }
    }
    await addThrough(to, from, fromShape, weight, weightShape, Int32Array.from(taps), rows);
    for (const [i, value] of to.entries()) expect(abs(value - expected[i]!)).toBeLessThan(1e-12);
  });

  test('refuses arrays that are not of the shapes', () => {
    const call = (to: number, from: number, weight: number, taps: readonly number[]) => () =>
      addThrough(
        new Float64Array(to),
        new Float64Array(from),
        [2, 1, 1, 3],
        new Float32Array(weight),
        [3, 4, 2],
        Int32Array.from(taps),
        1,
      );
    expect(call(15, 6, 24, [0, 1])).toThrow('are not of these shapes');
    expect(call(16, 7, 24, [0, 1])).toThrow('are not of these shapes');
    expect(call(16, 6, 23, [0, 1])).toThrow('are not of these shapes');
    expect(call(16, 6, 24, [0, 2])).toThrow('are not of these shapes');
    expect(call(16, 6, 24, [])).toThrow('are not of these shapes');
  });

  // With more threads of OpenMP's than cores, those of devices would no longer spin between their loops.
  test('leaves no threads of its own behind', async () => {
    const program = `
      const { addThrough } = require('node-gyp-build')(${JSON.stringify(path.join(__dirname, '../../..'))});
      const { readdirSync, promises: { readFile } } = require('node:fs');
      const threads = () => readdirSync('/proc/self/task').length;
      const eight = (work) => Promise.all(Array.from({ length: 8 }, work));
      const add = () => addThrough(new Float64Array(256), new Float64Array(64), [1, 1, 1, 64],
        new Float32Array(64 * 256), [64, 256, 1], new Int32Array(1), 1);
      // All threads of Node's pool.
      eight(() => readFile(process.execPath)).then(async () => {
        const before = threads();
        await eight(add);
        console.log(threads() - before);
      });`;
    const { stdout } = await promisify(execFile)(process.execPath, ['-e', program]);
    expect(Number(stdout)).toBe(0);
  });
});

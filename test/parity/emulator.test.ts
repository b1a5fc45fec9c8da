/**
 * The CUDA backend end to end, kernels and runtime, on the emulator: the demo's model on a piece of its image gives
 * what the CPU gives. The library is built by: node scripts/native.js build emulator
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { allModes, type Mode, type ModelFile, openModel } from '../../src/checkpoint/model-file';
import { NetworkStore } from '../../src/inference/networks';
import { type Output, outputsOf, predict } from '../../src/inference/predict';
import { readIndexMask } from '../../src/raster/index-mask';
import { openRaster } from '../../src/raster/raster';
import { Device, type DeviceKind, deviceCount } from '../../src/tensor/device';
import { glnet } from '../support/command';

const root = path.join(__dirname, '../..');
const weights = path.join(root, 'demo/blue-marble-small.safetensors');
const [width, height] = [496, 372];

let folder: string;
let image: string;
let file: ModelFile;
beforeAll(async () => {
  deviceCount('emulator');
  folder = await mkdtemp(path.join(tmpdir(), 'glnet-emulator-'));
  image = path.join(folder, 'europe.png');
  const threeGlobe = path.join(path.dirname(require.resolve('three-globe')), '..');
  await sharp(path.join(threeGlobe, 'example/img/earth-blue-marble.jpg'))
    .extract({ left: 2900, top: 500, width, height })
    .png()
    .toFile(image);
  file = await openModel(weights);
});
afterAll(async () => {
  await file?.close();
  await rm(folder, { recursive: true });
});

/** All logits of a mode, by output. */
async function logitsOf(mode: Mode, kind: DeviceKind): Promise<Map<Output, Float32Array>> {
  using device = new Device({ kind });
  const store = new NetworkStore(file, device);
  const raster = await openRaster(image);
  const parts = new Map<Output, Promise<Float32Array>[]>();
  try {
    await predict([await store.get(mode)], raster, {
      mode,
      outputs: outputsOf(mode),
      patch: file.config.patch,
      globalSize: file.config.global,
      batch: 2,
      flipRotate: false,
      onLogits: (output, { logits }) => {
        parts.set(output, [...(parts.get(output) ?? []), logits.data() as Promise<Float32Array>]);
      },
      onBand: () => {},
    });
    const logits = new Map<Output, Float32Array>();
    for (const [output, arrays] of parts) {
      logits.set(
        output,
        Float32Array.from((await Promise.all(arrays)).flatMap((array) => Array.from(array))),
      );
    }
    return logits;
  } finally {
    await store.dispose();
    await raster.close();
  }
}

test.each(allModes)(
  'mode %s: logits of the emulated GPU and of the CPU agree',
  async (mode) => {
    const { abs, max } = Math;
    const expected = await logitsOf(mode, 'cpu');
    const got = await logitsOf(mode, 'emulator');
    expect([...got.keys()].sort()).toEqual([...outputsOf(mode)].sort());
    for (const [output, values] of expected) {
      let [largest, worst] = [0, 0];
      const others = got.get(output)!;
      expect(others).toHaveLength(values.length);
      for (let i = 0; i < values.length; i++) {
        largest = max(largest, abs(values[i]!));
        worst = max(worst, abs(values[i]! - others[i]!));
      }
      console.log(`${mode} ${output}: logits differ by ${(worst / largest).toExponential(1)} of the largest`);
      // Other kernels sum in another order; equal logits would mean that one device was compared with itself.
      expect(worst).toBeGreaterThan(0);
      expect(worst / largest).toBeLessThan(1e-3);
    }
  },
  600_000,
);

test('glnet segment --device emulator:all spreads the image over the emulated GPUs', async () => {
  const masks: Uint8Array[] = [];
  for (const device of ['cpu', 'emulator:all']) {
    const out = path.join(folder, device);
    const args = [
      '--weights',
      weights,
      '--out',
      out,
      '--device',
      device,
      '--mode',
      'global-to-local',
      '--json',
    ];
    // Half as large as the model's, for time.
    const { code, stdout } = await glnet([
      'segment',
      image,
      ...args,
      '--patch',
      '124',
      '--global-size',
      '124',
    ]);
    expect(code).toBe(0);
    const names = device === 'cpu' ? ['cpu:0'] : ['emulator:0', 'emulator:1'];
    expect(JSON.parse(stdout).images[0]).toMatchObject({ devices: names });
    masks.push((await readIndexMask(path.join(out, 'europe.png'))).labels);
  }
  const [cpu, emulator] = masks;
  expect(cpu!.filter((label, i) => label === emulator![i]).length / cpu!.length).toBeGreaterThan(0.999);
}, 600_000);

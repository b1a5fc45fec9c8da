import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { binding } from '../../../src/binding';
import { type ModelFile, openModel } from '../../../src/checkpoint/model-file';
import { chooseDevices } from '../../../src/inference/devices';
import { GLNet } from '../../../src/inference/glnet';
import { choosePrecision, NetworkStore, type Precision } from '../../../src/inference/networks';
import { type Output, outputsOf, predict } from '../../../src/inference/predict';
import { openRaster } from '../../../src/raster/raster';
import { Device } from '../../../src/tensor/device';
import { writeTinyModel } from '../../support/tiny-model';

let folder: string;
let file: ModelFile;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'glnet-devices-'));
  const weights = path.join(folder, 'tiny.safetensors');
  await writeTinyModel(weights);
  file = await openModel(weights);
});
afterAll(async () => {
  await file.close();
  await rm(folder, { recursive: true });
});

const [width, height] = [170, 290];

interface Outcome {
  logits: Map<Output, number[]>;
  labels: Map<Output, Uint8Array>;
}

/** Predicts with all outputs on some devices; checks that nothing stays on them. */
async function run(
  mode: 'global-to-local' | 'bidirectional',
  count: number,
  options: { precision?: Precision; spoil?: (devices: readonly Device[]) => void } = {},
): Promise<Outcome> {
  const data = Uint8Array.from(
    { length: width * height * 3 },
    (_, i) => (i * 7 + ((i / 510) | 0) * 31) % 256,
  );
  const raster = await openRaster({ data, width, height, channels: 3 });
  const devices = Array.from({ length: count }, () => new Device({ threads: 1 }));
  const stores = devices.map((device) => new NetworkStore(file, device, options.precision));
  try {
    const networks = await Promise.all(stores.map((store) => store.get(mode)));
    const before = devices.map((device) => device.memory().tensors);
    const pending: [Output, Promise<ArrayLike<number>>][] = [];
    const outcome: Outcome = { logits: new Map(), labels: new Map() };
    options.spoil?.(devices);
    try {
      await predict(networks, raster, {
        mode,
        outputs: outputsOf(mode),
        patch: 64,
        globalSize: 64,
        batch: 2,
        flipRotate: false,
        onLogits: (output, { logits }) => {
          expect(logits.device).toBe(devices[0]);
          const values = logits.data();
          // Awaited below, unless the prediction fails before.
          values.catch(() => {});
          pending.push([output, values]);
        },
        onBand: (output, band) => {
          const labels = outcome.labels.get(output) ?? new Uint8Array(width * height);
          labels.set(band.labels, band.row * width);
          outcome.labels.set(output, labels);
        },
      });
    } finally {
      expect(devices.map((device) => device.memory().tensors)).toEqual(before);
    }
    for (const [output, values] of pending) {
      outcome.logits.set(output, [...(outcome.logits.get(output) ?? []), ...Array.from(await values)]);
    }
    return outcome;
  } finally {
    for (const store of stores) await store.dispose();
    for (const device of devices) device.dispose();
  }
}

function share(a: Uint8Array, b: Uint8Array): number {
  return a.filter((label, i) => label === b[i]).length / a.length;
}

describe.each(['global-to-local', 'bidirectional'] as const)('mode %s', (mode) => {
  test.each([2, 3, 7])('%i devices give what one gives', async (count) => {
    const one = await run(mode, 1);
    const several = await run(mode, count);
    for (const [output, expected] of one.logits) {
      const got = several.logits.get(output)!;
      expect(got).toHaveLength(expected.length);
      let [largest, worst] = [0, 0];
      for (const [i, value] of expected.entries()) {
        largest = Math.max(largest, Math.abs(value));
        worst = Math.max(worst, Math.abs(value - got[i]!));
      }
      // Sums of merged maps are taken in another order.
      expect(worst / largest).toBeLessThan(1e-5);
    }
    for (const [output, expected] of one.labels) {
      expect(share(several.labels.get(output)!, expected)).toBeGreaterThan(0.9999);
    }
  });

  test('one device that fails ends the others, and no tensor is left', async () => {
    const spoil = (devices: readonly Device[]) => {
      // Fails in the queue: dtypes that no kernel computes with.
      const [, second] = devices;
      using pixels = second!.zeros([1, 2, 2, 3], 'float16');
      second!.run('relu', { x: pixels })[0]!.dispose();
    };
    await expect(run(mode, 3, { spoil })).rejects.toMatchObject({ code: expect.stringMatching(/^ERR_/) });
  });

  test('bfloat16 gives nearly the labels of float32', async () => {
    const exact = await run(mode, 1);
    const narrow = await run(mode, 2, { precision: 'bfloat16' });
    for (const [output, expected] of exact.labels) {
      expect(share(narrow.labels.get(output)!, expected)).toBeGreaterThan(0.95);
      expect(narrow.logits.get(output)).not.toEqual(exact.logits.get(output));
    }
  });
});

describe('names of devices', () => {
  test('are kinds, with numbers where there are several', () => {
    expect(chooseDevices('cpu')).toEqual({ kind: 'cpu', indices: [0] });
    expect(chooseDevices('cpu:0')).toEqual({ kind: 'cpu', indices: [0] });
    expect(chooseDevices('emulator')).toEqual({ kind: 'emulator', indices: [0] });
    expect(chooseDevices('emulator:all')).toEqual({ kind: 'emulator', indices: [0, 1] });
    expect(chooseDevices('emulator:1,0')).toEqual({ kind: 'emulator', indices: [1, 0] });
  });

  test.each([
    'gpu',
    '',
    'cpu:1',
    'emulator:2',
    'emulator:0,0',
    'emulator:',
    'emulator:-1',
    'emulator:x',
    'CUDA',
  ])('%s is none', (name) => {
    expect(() => chooseDevices(name)).toThrow(
      expect.objectContaining({
        code: 'ERR_INVALID_ARGUMENT',
        message: expect.stringContaining(`device is ${name}; expected`),
      }),
    );
  });
});

describe('precision', () => {
  test('auto is bfloat16 where the processor has units for it, and float32 on devices for tests', async () => {
    const { bfloat16 } = binding().machine();
    expect(choosePrecision('auto', 'cpu')).toBe(bfloat16 ? 'bfloat16' : 'float32');
    expect(choosePrecision('auto', 'cuda')).toBe('bfloat16');
    expect(choosePrecision('auto', 'reference')).toBe('float32');
    expect(choosePrecision('float32', 'cuda')).toBe('float32');
    await using model = await GLNet.load(file.path, { precision: 'auto' });
    expect(model.precision).toBe(choosePrecision('auto', 'cpu'));
  });

  test('an unknown one is refused by name', async () => {
    await expect(GLNet.load(file.path, { precision: 'float16' as 'auto' })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: 'precision is float16; expected one of float32, bfloat16, auto',
    });
  });
});

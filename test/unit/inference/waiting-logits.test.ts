/** Logits that wait for the second global pass outside the device. */
import { mkdtempSync, readdirSync, readlinkSync } from 'node:fs';
import fs, { type FileHandle, mkdtemp, rm } from 'node:fs/promises';
import os, { tmpdir } from 'node:os';
import path from 'node:path';
import { type ModelFile, openModel } from '../../../src/checkpoint/model-file';
import { NetworkStore, type Precision } from '../../../src/inference/networks';
import {
  allOutputs,
  type Output,
  type PredictOptions,
  type PredictReport,
  predict,
} from '../../../src/inference/predict';
import { type MovingTensor, WaitingLogits } from '../../../src/inference/waiting-logits';
import { openRaster } from '../../../src/raster/raster';
import { Device, type DeviceKind } from '../../../src/tensor/device';
import { patchGrid } from '../../../src/tiling';
import { writeTinyModel } from '../../support/tiny-model';

let folder: string;
let file: ModelFile;
/** Where temporary files go. */
let temporary: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'glnet-waiting-'));
  const weights = path.join(folder, 'tiny.safetensors');
  await writeTinyModel(weights);
  file = await openModel(weights);
});
afterAll(async () => {
  await file.close();
  await rm(folder, { recursive: true });
});
beforeEach(() => {
  temporary = mkdtempSync(path.join(folder, 'temporary-'));
  jest.spyOn(os, 'tmpdir').mockImplementation(() => temporary);
});
afterEach(() => jest.restoreAllMocks());

/** Open files that have lost their names in the folder for temporary ones. */
function nameless(): number {
  return readdirSync('/proc/self/fd').filter((descriptor) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${descriptor}`);
      return target.startsWith(temporary) && target.endsWith(' (deleted)');
    } catch {
      return false;
    }
  }).length;
}

type Access = (
  buffer: Uint8Array,
  offset: number,
  length: number,
  position: number,
) => Promise<{ bytesWritten: number } | { bytesRead: number }>;

/** Lets calls of a handle go through a function. */
function replace(handle: FileHandle, name: 'write' | 'read', make: (original: Access) => Access): void {
  Object.assign(handle, { [name]: make(handle[name].bind(handle) as Access) });
}

/** Sees the files that are opened. */
function onOpen(change: (handle: FileHandle) => void): void {
  const { open } = fs;
  jest.spyOn(fs, 'open').mockImplementation(async (...args) => {
    const handle = await open(...args);
    change(handle);
    return handle;
  });
}

describe('WaitingLogits', () => {
  const valuesOf = (seed: number, length = 1000) =>
    Uint8Array.from({ length }, (_, i) => (i * 7 + seed * 13) % 256);
  const batch = (values: Promise<Uint8Array<ArrayBuffer>>): MovingTensor => ({
    shape: [1, 10, 10, 10],
    dtype: 'bfloat16',
    values,
  });

  async function put(waiting: WaitingLogits, patch: number): Promise<void> {
    await waiting.room();
    const into = waiting.buffer(1000);
    // The values come later.
    const values = new Promise((resolve) => setTimeout(resolve, 2)).then(() => {
      into.set(valuesOf(patch));
      return into;
    });
    waiting.put([patch], batch(values));
  }

  /** What is taken, checked when it is one behind, as the device may read it then. */
  async function checkTaken(waiting: WaitingLogits, patches: number[]): Promise<void> {
    const taken: number[] = [];
    let before: { values: Uint8Array; patch: number } | undefined;
    const check = () => before && expect([...before.values]).toEqual([...valuesOf(before.patch)]);
    for await (const { patches: one, shape, dtype, values } of waiting.take()) {
      check();
      before = { values, patch: one[0]! };
      taken.push(one[0]!);
      expect([shape, dtype]).toEqual([[1, 10, 10, 10], 'bfloat16']);
    }
    check();
    expect(taken).toEqual(patches);
  }

  test('come back in the order of the patches, from a file without a name, which is used again', async () => {
    const sizes: number[] = [];
    let opened: FileHandle | undefined;
    onOpen((handle) => {
      opened = handle;
    });
    const waiting = new WaitingLogits();
    for (let turn = 0; turn < 2; turn++) {
      for (const patch of [0, 3, 1, 2, 5, 4]) await put(waiting, patch);
      await waiting.room();
      expect(nameless()).toBe(1);
      expect(readdirSync(temporary)).toEqual([]);
      await checkTaken(waiting, [0, 1, 2, 3, 4, 5]);
      const { size, mode } = await opened!.stat();
      expect(mode & 0o777).toBe(0o600);
      sizes.push(size);
    }
    expect(sizes).toEqual([6000, 6000]);
    expect(fs.open).toHaveBeenCalledTimes(1);
    await waiting.close();
    expect(nameless()).toBe(0);
    await waiting.close();
  });

  test('take two buffers in all', async () => {
    const waiting = new WaitingLogits();
    const buffers = new Set<ArrayBufferLike>();
    for (let patch = 0; patch < 8; patch++) {
      await waiting.room();
      buffers.add(waiting.buffer(1000).buffer);
      await put(waiting, patch);
    }
    for await (const { values } of waiting.take()) buffers.add(values.buffer);
    expect(buffers.size).toBe(2);
    await waiting.close();
  });

  test('the system may write and read a part at a time', async () => {
    let calls = 0;
    onOpen((handle) => {
      for (const name of ['write', 'read'] as const) {
        replace(handle, name, (original) => (buffer, offset, length, position) => {
          calls += 1;
          return original(buffer, offset, Math.min(length, 300), position);
        });
      }
    });
    const waiting = new WaitingLogits();
    for (const patch of [0, 1, 2]) await put(waiting, patch);
    await checkTaken(waiting, [0, 1, 2]);
    expect(calls).toBe(2 * 3 * 4);
    await waiting.close();
  });

  test('what a full disk does not take waits in memory', async () => {
    let left = 2500;
    onOpen((handle) => {
      replace(handle, 'write', (original) => async (buffer, offset, length, position) => {
        if (left === 0) throw Object.assign(new Error('no room'), { code: 'ENOSPC' });
        const bytes = Math.min(length, left);
        left -= bytes;
        return original(buffer, offset, bytes, position);
      });
    });
    const waiting = new WaitingLogits();
    for (let patch = 0; patch < 6; patch++) await put(waiting, patch);
    await checkTaken(waiting, [0, 1, 2, 3, 4, 5]);
    expect(left).toBe(0);
    await waiting.close();
  });

  test('where no file can be made, they wait in memory', async () => {
    temporary = path.join(temporary, 'nowhere');
    const waiting = new WaitingLogits();
    for (let patch = 0; patch < 6; patch++) await put(waiting, patch);
    await checkTaken(waiting, [0, 1, 2, 3, 4, 5]);
    await waiting.close();
  });

  test('a file that keeps its name goes at the end', async () => {
    jest.spyOn(fs, 'unlink').mockRejectedValueOnce(new Error('it is open'));
    const waiting = new WaitingLogits();
    await put(waiting, 0);
    await checkTaken(waiting, [0]);
    expect(readdirSync(temporary)).toEqual([expect.stringMatching(/^glnet-/)]);
    await waiting.close();
    expect(readdirSync(temporary)).toEqual([]);
  });

  test('a file that was cut is an error', async () => {
    onOpen((handle) => {
      replace(handle, 'read', (original) => (buffer, offset, length) => {
        return original(buffer, offset, length, 1 << 20);
      });
    });
    const waiting = new WaitingLogits();
    await put(waiting, 0);
    await expect(checkTaken(waiting, [0])).rejects.toMatchObject({ code: 'ERR_FILE' });
    await waiting.close();
  });

  test('there is room for two at a time, and the end waits for those on their way', async () => {
    const events: string[] = [];
    onOpen((handle) => {
      replace(handle, 'write', (original) => async (buffer, offset, length, position) => {
        await new Promise((resolve) => setTimeout(resolve, 20));
        const result = await original(buffer, offset, length, position);
        events.push(`wrote ${position / 1000}`);
        return result;
      });
    });
    const waiting = new WaitingLogits();
    for (let patch = 0; patch < 4; patch++) {
      await put(waiting, patch);
      events.push(`put ${patch}`);
    }
    await waiting.close();
    expect(events).toEqual(['put 0', 'put 1', 'wrote 0', 'put 2', 'wrote 1', 'put 3', 'wrote 2', 'wrote 3']);
    expect(nameless()).toBe(0);
  });

  test('values that do not come end whatever asks for them', async () => {
    const waiting = new WaitingLogits();
    waiting.put([0], batch(Promise.reject(new Error('the device is lost'))));
    await waiting.room();
    waiting.put([1], batch(Promise.resolve(valuesOf(1))));
    await expect(waiting.room()).rejects.toThrow('the device is lost');
    await expect(waiting.take().next()).rejects.toThrow('the device is lost');
    await waiting.close();
  });

  test('the end waits for what others fail beside', async () => {
    let opened: FileHandle | undefined;
    onOpen((handle) => {
      opened = handle;
    });
    const waiting = new WaitingLogits();
    await put(waiting, 0);
    await waiting.room();
    waiting.put([1], batch(Promise.reject(new Error('the device is lost'))));
    expect(opened).toBeUndefined();
    await waiting.close();
    expect(opened!.fd).toBe(-1);
  });
});

describe('predictions', () => {
  interface Run {
    report: PredictReport;
    /** Of each device. */
    peaks: number[];
    /** By output. */
    planes: Map<Output, { labels: Uint8Array; confidence: Uint8Array }>;
  }

  type Options = Partial<PredictOptions> & {
    size?: readonly [width: number, height: number];
    precision?: Precision;
    kind?: DeviceKind;
    devices?: number;
    memoryLimit?: number;
  };

  /** Predicts on new devices; checks that no tensor stays, and no file. */
  async function run(options: Options): Promise<Run> {
    const { size = [300, 230], precision, kind = 'cpu', devices: count = 1, memoryLimit = 0 } = options;
    const [width, height] = size;
    const data = Uint8Array.from(
      { length: width * height * 3 },
      (_, i) => (i * 7 + ((i / 3 / width) | 0) * 31) % 256,
    );
    const raster = await openRaster({ data, width, height, channels: 3 });
    const devices = Array.from({ length: count }, (_, index) => {
      return new Device({ kind, memoryLimit, index: kind === 'cpu' ? 0 : index });
    });
    const stores = devices.map((device) => new NetworkStore(file, device, precision));
    const planes: Run['planes'] = new Map();
    try {
      const networks = await Promise.all(stores.map((store) => store.get('bidirectional')));
      const before = devices.map((device) => device.memory().tensors);
      try {
        const report = await predict(networks, raster, {
          mode: 'bidirectional',
          outputs: ['ensemble'],
          patch: 64,
          globalSize: 64,
          flipRotate: false,
          ...options,
          onBand: async (output, band) => {
            if (!planes.has(output)) {
              const plane = () => new Uint8Array(width * height);
              planes.set(output, { labels: plane(), confidence: plane() });
            }
            const { labels, confidence } = planes.get(output)!;
            labels.set(band.labels, band.row * width);
            confidence.set(band.confidence, band.row * width);
            await options.onBand?.(output, band);
          },
        });
        return { report, peaks: devices.map((device) => device.memory().peak), planes };
      } finally {
        expect(devices.map((device) => device.memory().tensors)).toEqual(before);
        expect(nameless()).toBe(0);
      }
    } finally {
      for (const store of stores) await store.dispose();
      for (const device of devices) {
        expect(device.memory().active).toBe(0);
        device.dispose();
      }
    }
  }

  const onDevice = Number.POSITIVE_INFINITY;

  const cases: Options[] = [
    {},
    { precision: 'bfloat16', batch: 3 },
    { outputs: allOutputs },
    { outputs: ['local', 'global'] },
    { outputs: ['local'] },
    { precision: 'bfloat16', outputs: allOutputs, devices: 2 },
    { devices: 3, batch: 1 },
    { kind: 'emulator', devices: 2, size: [150, 110] },
    { coarseToFine: { margin: 0.1 } },
    { flipRotate: true, size: [150, 110] },
    // Bands of 4194 rows, and of 699.
    { size: [500, 4300], patch: 508 },
    { size: [3000, 1600], patch: 508, outputs: allOutputs, devices: 2 },
    // Whole logits take more than anything else, unless they go with their bands.
    { size: [3000, 1600], patch: 160, batch: 3 },
  ];

  test.each(cases)(
    'the same labels and confidences, and as much memory as was planned: %o',
    async (options) => {
      let during = 0;
      const inMemory = await run({ ...options, mostHalves: onDevice, memoryLimit: 1e9 });
      expect(fs.open).not.toHaveProperty('mock.calls.length');
      const opened = jest.spyOn(fs, 'open');
      const inFile = await run({
        ...options,
        mostHalves: 0,
        memoryLimit: 1e9,
        onProgress: ({ stage, done, total }) => {
          // It may just have been opened before.
          if (stage !== 'patches' || done < total) return;
          expect(readdirSync(temporary)).toEqual([]);
          during = Math.max(during, nameless());
        },
      });
      const wantsEnsemble = options.outputs?.includes('ensemble') ?? true;
      expect(opened).toHaveBeenCalledTimes(wantsEnsemble ? 1 : 0);
      expect(during).toBe(wantsEnsemble ? 1 : 0);
      for (const [output, { labels, confidence }] of inMemory.planes) {
        const found = inFile.planes.get(output)!;
        expect(Buffer.compare(found.labels, labels)).toBe(0);
        expect(Buffer.compare(found.confidence, confidence)).toBe(0);
      }
      for (const { report, peaks } of [inMemory, inFile])
        expect(report.plannedPeakBytes).toBe(Math.max(...peaks));
    },
  );

  test.each([
    ['float32', 4],
    ['bfloat16', 2],
  ] as const)('all leave if they are more than what may stay: %s', async (precision, bytes) => {
    const opened = jest.spyOn(fs, 'open');
    const { count } = patchGrid(300, 230, 64);
    const all = count * 16 * 16 * file.config.classes.length * bytes;
    await run({ precision, mostHalves: all });
    expect(opened).not.toHaveBeenCalled();
    await run({ precision, mostHalves: all - 1 });
    expect(opened).toHaveBeenCalledTimes(1);
  });

  test('of more than 256 batches, no less than the peak is planned, and little more', async () => {
    const { report, peaks } = await run({ size: [800, 700], batch: 1, mostHalves: 0, memoryLimit: 1e9 });
    expect(report.patches).toBeGreaterThan(300);
    expect(report.plannedPeakBytes).toBeGreaterThanOrEqual(peaks[0]!);
    expect(report.plannedPeakBytes).toBeLessThan(peaks[0]! * 1.1);
  });

  test('the local branch alone waits for no second pass: bands come while patches are computed', async () => {
    let [computed, early] = [0, 0];
    const { report, peaks } = await run({
      size: [1000, 6000],
      patch: 508,
      outputs: ['local'],
      memoryLimit: 1e9,
      onProgress: ({ stage, done }) => {
        if (stage === 'patches') computed = done;
      },
      onBand: () => {
        if (computed < 30) early += 1;
      },
    });
    expect(report.patches).toBeGreaterThan(35);
    expect(early).toBeGreaterThan(0);
    expect(report.plannedPeakBytes).toBe(peaks[0]!);
  });

  test.each([1, 2])('on %i devices, four times the rows take hardly more memory', async (devices) => {
    const tall = (rows: number, mostHalves: number) => {
      return run({ size: [2000, rows], patch: 508, batch: 2, devices, mostHalves, memoryLimit: 1e9 });
    };
    const [small, large] = [await tall(2500, 0), await tall(10_000, 0)];
    const row = 5 * (508 / 4) ** 2 * file.config.classes.length * 4;
    expect(large.peaks[0]! - small.peaks[0]!).toBeLessThanOrEqual(1.5 * row);
    expect(large.report.plannedPeakBytes).toBe(Math.max(...large.peaks));
    const kept = await tall(10_000, onDevice);
    expect(kept.peaks[0]! - large.peaks[0]!).toBeGreaterThan(10 * row);
  });

  test.each([0, onDevice])('bands come while halves are added: %d', async (mostHalves) => {
    let [made, begun] = [0, 0];
    const seen: number[] = [];
    await run({
      size: [4000, 2600],
      patch: 508,
      mostHalves,
      onLogits: () => {
        made += 1;
      },
      onBand: () => {
        begun += 1;
        seen.push(made);
      },
    });
    expect(begun).toBe(5);
    expect(seen[0]!).toBeLessThan(made);
  });

  test('where no file can be made, the result is the same', async () => {
    const expected = await run({});
    temporary = path.join(temporary, 'nowhere');
    const opened = jest.spyOn(fs, 'open');
    const { planes } = await run({ mostHalves: 0 });
    await expect(opened.mock.results[0]!.value).rejects.toMatchObject({ code: 'ENOENT' });
    expect(planes).toEqual(expected.planes);
  });

  test.each([1, 2])('on %i devices, an abort leaves no tensor and no file', async (devices) => {
    for (const last of ['patches', 'stitch']) {
      const descriptors = readdirSync('/proc/self/fd').length;
      const controller = new AbortController();
      let open = 0;
      const aborted = run({
        size: last === 'patches' ? [400, 300] : [4000, 2600],
        ...(last === 'stitch' && { patch: 508 }),
        devices,
        mostHalves: 0,
        signal: controller.signal,
        onProgress: ({ stage, done }) => {
          if (stage !== 'patches' || done < 8) return;
          open = Math.max(open, nameless());
          // The file is opened beside what computes.
          if (last === 'patches' && open > 0) controller.abort();
        },
        onBand: () => controller.abort(),
      });
      await expect(aborted).rejects.toMatchObject({ code: 'ERR_ABORTED' });
      expect(open).toBe(1);
      expect(readdirSync(temporary)).toEqual([]);
      expect(readdirSync('/proc/self/fd')).toHaveLength(descriptors);
    }
  });

  test('a file that cannot be read back ends it', async () => {
    onOpen((handle) => {
      replace(handle, 'read', () => () => Promise.reject(Object.assign(new Error(), { code: 'EIO' })));
    });
    await expect(run({ mostHalves: 0 })).rejects.toMatchObject({ code: 'ERR_FILE' });
  });
});

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { GlnetError } from '../../../src/errors';
import type { DeviceName } from '../../../src/inference/devices';
import { GLNet, type SegmentOptions, type SegmentReport } from '../../../src/inference/glnet';
import type { Precision } from '../../../src/inference/networks';
import { add } from '../../../src/tensor/add';
import { Device, type DeviceKind } from '../../../src/tensor/device';
import { writeTinyModel } from '../../support/tiny-model';

let folder: string;
let weights: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'glnet-plan-'));
  weights = path.join(folder, 'tiny.safetensors');
  await writeTinyModel(weights);
});
afterAll(() => rm(folder, { recursive: true }));

const [width, height] = [150, 110];
const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 7919) % 251);

interface Outcome {
  report: SegmentReport;
  labels: Uint8Array;
  /** Why batches had to be made smaller as they were run. */
  failures: string[];
}

/** Segments once on a device of its own. */
async function run(
  device: DeviceName,
  memoryLimit: number,
  options: SegmentOptions & { precision?: Precision } = {},
): Promise<Outcome> {
  const { precision = 'float32', ...rest } = options;
  const failures: string[] = [];
  const { run: original } = Device.prototype;
  Device.prototype.run = function (this: Device, ...args: Parameters<Device['run']>) {
    try {
      return original.apply(this, args);
    } catch (error) {
      failures.push((error as Error).message);
      throw error;
    }
  } as typeof original;
  try {
    await using model = await GLNet.load(weights, { device, memoryLimit, precision });
    const { report, labels } = await model.segment({ data, width, height, channels: 3 }, rest);
    return { report, labels, failures };
  } finally {
    Device.prototype.run = original;
  }
}

const plenty = 1e9;

/** The least limit, as the error of a smaller one says. */
async function least(device: 'cpu' | 'emulator', options: SegmentOptions, from: number): Promise<number> {
  for (let limit = from; ; limit = Math.floor(limit * 0.9)) {
    const error = await run(device, limit, options).then(
      () => undefined,
      (reason: GlnetError) => reason,
    );
    if (!error) continue;
    expect(error.code).toBe('ERR_OUT_OF_MEMORY');
    expect(error.message).toMatch(
      new RegExp(
        `^one patch at a time needs \\d+ bytes in all, and the memory limit is ${limit} bytes\\. Raise it ` +
          '\\(--memory-limit, memoryLimit\\), or take a smaller --patch, or --precision bfloat16$',
      ),
    );
    return Number(/needs (\d+)/.exec(error.message)![1]);
  }
}

describe.each(['cpu', 'emulator'] as const)('on %s', (device) => {
  test.each([
    ['global-to-local', {}],
    ['global-to-local', { precision: 'bfloat16', batch: 3 }],
    ['global-to-local', { output: 'local', batch: 1 }],
    ['bidirectional', {}],
    ['bidirectional', { precision: 'bfloat16' }],
    ['coarse-to-fine', {}],
    ['coarse-to-fine', { patch: 108, flipRotate: true }],
    ['global-to-local', { patch: 108, flipRotate: true }],
    ['bidirectional', { patch: 108, flipRotate: true }],
  ] as const)('the planned peak is the peak: %s %o', async (mode, options) => {
    const { report } = await run(device, plenty, { mode, ...options });
    expect(report.plannedPeakBytes).toBe(report.poolPeakBytes);
  });

  test('the limit that an error asks for is enough, for one patch at a time and no failed op', async () => {
    const mode = 'global-to-local';
    const { report, labels } = await run(device, plenty, { mode });
    expect(report.batch).toBe(device === 'cpu' ? 2 : report.batch);
    const need = await least(device, { mode }, report.poolPeakBytes);
    const tight = await run(device, need, { mode });
    expect(tight.report.batch).toBe(1);
    expect(tight.failures).toEqual([]);
    expect(tight.report.plannedPeakBytes).toBe(tight.report.poolPeakBytes);
    expect(Buffer.compare(tight.labels, labels)).toBe(0);
    await expect(run(device, need - 64, { mode })).rejects.toThrow(`needs ${need} bytes`);
  });
});

test('without a limit nothing is planned, and batches are 2 on the CPU, a row elsewhere', async () => {
  const { report } = await run('cpu', 0, { mode: 'global-to-local' });
  expect(report).toMatchObject({ batch: 2, patches: 40 });
  expect(report).not.toHaveProperty('plannedPeakBytes');
  const emulated = await run('emulator', 0, { mode: 'global-to-local' });
  expect(emulated.report).toMatchObject({ batch: 8, patches: 40 });
});

test.each(['global-to-local', 'bidirectional'] as const)('on two devices: %s', async (mode) => {
  const { report, labels } = await run('emulator:all', plenty, { mode });
  expect(report.devices).toEqual(['emulator:0', 'emulator:1']);
  expect(report.plannedPeakBytes).toBe(report.poolPeakBytes);
  const tight = await run('emulator:all', Math.floor(report.poolPeakBytes * 0.9), { mode });
  expect(tight.report.batch).toBeLessThan(report.batch);
  expect(tight.failures).toEqual([]);
  expect(labels).toHaveLength(tight.labels.length);
});

test('as many patches at a time as fit', async () => {
  const options = { mode: 'global-to-local', batch: 8 } as const;
  const batches: number[] = [];
  for (let limit = 4.2e6; limit > 1.4e6; limit -= 0.2e6) {
    const { report, failures } = await run('cpu', limit, options);
    expect(failures).toEqual([]);
    batches.push(report.batch);
  }
  expect(batches[0]).toBe(8);
  expect(batches.at(-1)).toBeLessThan(3);
  expect(batches).toEqual([...batches].sort((a, b) => b - a));
});

describe('Device.plan', () => {
  test('leaves counters, packed weights and results as they were', async () => {
    await using model = await GLNet.load(weights);
    const image = { data, width, height, channels: 3 as const };
    const before = await model.segment(image, { mode: 'bidirectional' });
    const memory = model.devices[0]!.memory;
    const again = await model.segment(image, { mode: 'bidirectional' });
    expect(again.report).not.toHaveProperty('plannedPeakBytes');

    await using limited = await GLNet.load(weights, { memoryLimit: plenty });
    const planned = await limited.segment(image, { mode: 'bidirectional' });
    expect(Buffer.compare(planned.labels, before.labels)).toBe(0);
    expect(Buffer.compare(planned.confidence, before.confidence)).toBe(0);
    expect(limited.devices[0]!.memory).toEqual({ ...memory, limit: plenty });
    expect(planned.report.multiplyAdds).toBe(before.report.multiplyAdds);
  });

  test.each(['cpu', 'emulator', 'reference'] as DeviceKind[])(
    'has no values and takes nothing: %s',
    async (kind) => {
      using device = new Device({ kind });
      using x = device.upload(Float32Array.of(1, 2, 3), [3], 'float32');
      await device.synchronize();
      const before = device.memory();
      const downloads: Promise<unknown>[] = [];
      const large = device.plan((drop) => {
        const y = add(x, device.upload(new Float32Array(3), [3], 'float32'));
        device.zeros([1 << 30, 1 << 10], 'float32');
        downloads.push(y.data());
        drop(x);
        drop(y);
        device.forget(device.zeros([5], 'float32'));
      });
      await expect(downloads[0]).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
      expect(large.reserved).toBeGreaterThanOrEqual(2 ** 42);
      expect(large.peak).toBeGreaterThanOrEqual(2 ** 42);
      expect(device.memory()).toEqual(before);
      expect([...(await x.data())]).toEqual([1, 2, 3]);
    },
  );

  test('ends with an error of its body, and cannot hold another', () => {
    using device = new Device();
    const fail = () => {
      throw new Error('in the middle');
    };
    expect(() => device.plan(fail)).toThrow('in the middle');
    expect(() => device.plan(() => void device.plan(() => {}))).toThrow('a plan within a plan');
    expect(device.plan(() => void device.zeros([16], 'float32')).peak).toBe(64);
  });
});

/** Batches of patches queued as CUDA graphs, on the emulated runtime. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { GlnetError } from '../../../src/errors';
import {
  GLNet,
  type LoadOptions,
  type SegmentOptions,
  type SegmentReport,
} from '../../../src/inference/glnet';
import { Device, type OpArguments } from '../../../src/tensor/device';
import { writeTinyModel } from '../../support/tiny-model';

let folder: string;
let weights: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'glnet-graphs-'));
  weights = path.join(folder, 'tiny.safetensors');
  await writeTinyModel(weights);
});
afterAll(() => rm(folder, { recursive: true }));
afterEach(() => jest.restoreAllMocks());

const { makeGraph, run: runOp } = Device.prototype;

const [width, height] = [150, 110];
const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 7919) % 251);

interface Outcome {
  labels: Uint8Array;
  confidence: Uint8Array;
  report: SegmentReport;
  /** How often graphs were launched for the image. */
  launches: number;
}

/** Segments some images, one after the other, on the same model. */
async function run(load: LoadOptions, options: SegmentOptions, images = 1): Promise<Outcome[]> {
  const devices = new Set<Device>();
  jest.spyOn(Device.prototype, 'makeGraph').mockImplementation(function (this: Device) {
    devices.add(this);
    return makeGraph.call(this);
  });
  const launched = () => [...devices].reduce((sum, device) => sum + device.graphLaunches(), 0);
  await using model = await GLNet.load(weights, load);
  const outcomes: Outcome[] = [];
  for (let i = 0; i < images; i++) {
    const before = launched();
    const { labels, confidence, report } = await model.segment({ data, width, height, channels: 3 }, options);
    outcomes.push({ labels, confidence, report, launches: launched() - before });
  }
  return outcomes;
}

test.each([
  ['global-to-local', 'emulator', {}],
  ['global-to-local', 'emulator', { precision: 'bfloat16' }],
  ['global-to-local', 'emulator:all', {}],
  ['bidirectional', 'emulator', {}],
  ['bidirectional', 'emulator', { precision: 'bfloat16', memoryLimit: 1e9 }],
  ['bidirectional', 'emulator:all', {}],
] as const)('one graph a batch, and the same result: %s on %s %o', async (mode, device, load) => {
  // Rows of 8 patches: two graphs, of 5 and of 3.
  const options = { mode, batch: 5 };
  const expected = await run({ device, ...load }, options, 2);
  const outcomes = await run({ device, ...load, cudaGraphs: true }, options, 2);
  for (const [i, { labels, confidence, report }] of outcomes.entries()) {
    expect(Buffer.compare(labels, expected[i]!.labels)).toBe(0);
    expect(Buffer.compare(confidence, expected[i]!.confidence)).toBe(0);
    expect(report.plannedPeakBytes).toBe(expected[i]!.report.plannedPeakBytes);
    expect(report.poolPeakBytes).toBe(expected[i]!.report.poolPeakBytes);
    expect(expected[i]!.launches).toBe(0);
  }
  expect(outcomes.map(({ launches }) => launches)).toEqual([10, 10]);
});

test('on the CPU batches are queued as ever', async () => {
  const [expected] = await run({}, { mode: 'bidirectional' });
  const [got] = await run({ cudaGraphs: true }, { mode: 'bidirectional' });
  expect(Buffer.compare(got!.labels, expected!.labels)).toBe(0);
  expect(got!.launches).toBe(0);
});

test('a batch that fails in the middle of its graph is computed again in parts', async () => {
  const options = { mode: 'bidirectional', batch: 4 } as const;
  const [expected] = await run({ device: 'emulator' }, { ...options, batch: 2 });
  let ops = 0;
  jest.spyOn(Device.prototype, 'run').mockImplementation(function (this: Device, name, args) {
    // Of a batch's maps, in the graph; merged rows are divided outside.
    const merges = name === 'merge_patches' && !(args as OpArguments<'merge_patches'>).rowCoverage;
    if (merges && ++ops === 40) {
      throw new GlnetError('ERR_OUT_OF_MEMORY', 'as if another program had taken it');
    }
    return runOp.call(this, name, args as never);
  });
  const [got] = await run({ device: 'emulator', cudaGraphs: true }, options);
  expect(ops).toBeGreaterThan(40);
  expect(got!.report.batch).toBe(2);
  expect(Buffer.compare(got!.labels, expected!.labels)).toBe(0);
  expect(got!.launches).toBeGreaterThan(10);
});

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { GLNet } from '../../src/inference/glnet';
import { writeTinyModel } from '../support/tiny-model';

let folder: string;
let weights: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'glnet-segment-'));
  weights = path.join(folder, 'tiny.safetensors');
  await writeTinyModel(weights);
});
afterAll(() => rm(folder, { recursive: true }));

/** An image with something on it. */
function pixels(width: number, height: number) {
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < data.length; i++) data[i] = (i * 7 + ((i / 3 / width) | 0) * 31) % 256;
  return { data, width, height, channels: 3 };
}

const modes = ['global', 'global-to-local', 'bidirectional'] as const;

describe.each(modes)('mode %s', (mode) => {
  test.each([
    [300, 200],
    [64, 64],
    [65, 63],
    [1, 1],
    [200, 1],
    [20, 150],
  ])('%i x %i: labels and confidence everywhere, and the pool back at its start', async (width, height) => {
    await using model = await GLNet.load(weights, { threads: 1 });
    // Weights are loaded and packed for these shapes at first use.
    await model.segment(pixels(width, height), { mode });
    const before = model.devices[0]!.memory;
    const result = await model.segment(pixels(width, height), { mode });
    expect(result.labels).toHaveLength(width * height);
    expect(result.labels.every((label) => label < 3)).toBe(true);
    // The label has the largest probability of three.
    expect(result.confidence.every((c) => c >= 85)).toBe(true);
    expect(model.devices[0]!.memory.active).toBe(before.active);
    expect(model.devices[0]!.memory.tensors).toBe(before.tensors);
  });
});

test.each(['global-to-local', 'bidirectional'] as const)(
  'mode %s: with many patches, weights are in memory while their branch runs, and the labels are the same',
  async (mode) => {
    await using model = await GLNet.load(weights, { threads: 1 });
    const image = pixels(400, 300);
    const first = await model.segment(image, { mode });
    const { active } = model.devices[0]!.memory;
    const second = await model.segment(image, { mode });
    expect(model.devices[0]!.memory.active).toBe(active);
    // A small image leaves every branch's weights.
    await model.segment(pixels(64, 64), { mode });
    expect(model.devices[0]!.memory.active).toBeGreaterThan(active);
    const third = await model.segment(image, { mode });
    expect(first.report.patches).toBeGreaterThanOrEqual(24);
    for (const { labels, confidence } of [second, third]) {
      expect(Buffer.compare(labels, first.labels)).toBe(0);
      expect(Buffer.compare(confidence, first.confidence)).toBe(0);
    }
  },
);

test('batches of any size give the same labels', async () => {
  await using model = await GLNet.load(weights, { threads: 1 });
  const image = pixels(300, 130);
  const one = await model.segment(image, { mode: 'bidirectional', batch: 1 });
  const many = await model.segment(image, { mode: 'bidirectional', batch: 6 });
  const equal = one.labels.filter((label, i) => label === many.labels[i]).length;
  expect(equal / one.labels.length).toBeGreaterThan(0.999);
});

test('a turned image has the turned result under test-time augmentation', async () => {
  await using model = await GLNet.load(weights, { threads: 1 });
  const { data, width, height } = pixels(180, 100);
  const turned = new Uint8Array(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      // A quarter anticlockwise: (y, x) goes to row width - 1 - x, column y.
      const to = ((width - 1 - x) * height + y) * 3;
      turned.set(data.subarray((y * width + x) * 3, (y * width + x) * 3 + 3), to);
    }
  }
  for (const mode of modes) {
    const straight = await model.segment({ data, width, height, channels: 3 }, { mode, flipRotate: true });
    const quarter = await model.segment(
      { data: turned, width: height, height: width, channels: 3 },
      { mode, flipRotate: true },
    );
    let equal = 0;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        equal += Number(straight.labels[y * width + x] === quarter.labels[(width - 1 - x) * height + y]);
      }
    }
    // The two passes of the global image's resize round to 8 bits in turn, so that a few pixels may differ.
    expect(equal / (width * height)).toBeGreaterThan(0.99);
  }
});

test('an abort stops between batches, frees everything, and leaves the model usable', async () => {
  await using model = await GLNet.load(weights, { threads: 1 });
  await model.segment(pixels(800, 400), { mode: 'bidirectional' });
  const before = model.devices[0]!.memory;
  const controller = new AbortController();
  let seen = 0;
  const run = model.segment(pixels(800, 400), {
    mode: 'bidirectional',
    signal: controller.signal,
    onProgress: ({ stage, done }) => {
      if (stage !== 'patches') return;
      seen = done;
      controller.abort(new Error('enough'));
    },
  });
  await expect(run).rejects.toMatchObject({ code: 'ERR_ABORTED', name: 'AbortError' });
  expect(seen).toBeLessThanOrEqual(2);
  expect(model.devices[0]!.memory.tensors).toBe(before.tensors);
  // Weights of the branch that ran are still there.
  await model.segment(pixels(800, 400), { mode: 'bidirectional' });
  expect(model.devices[0]!.memory.active).toBe(before.active);
  await model.segment(pixels(70, 70));
});

test('a signal that is already aborted stops before any patch', async () => {
  await using model = await GLNet.load(weights, { threads: 1 });
  const run = model.segment(pixels(100, 100), { signal: AbortSignal.abort() });
  await expect(run).rejects.toMatchObject({ code: 'ERR_ABORTED' });
});

test('the event loop stays free while patches are computed', async () => {
  await using model = await GLNet.load(weights, { threads: 1 });
  await model.segment(pixels(8, 8), { mode: 'bidirectional' });
  const gaps: number[] = [];
  let last = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    gaps.push(now - last);
    last = now;
  }, 1);
  const { totalSeconds } = (await model.segment(pixels(1500, 900), { mode: 'bidirectional', batch: 6 }))
    .report;
  clearInterval(timer);
  // Were the loop blocked by the work, there would be a few long gaps; as it is, there are many short ones.
  expect(gaps.length).toBeGreaterThan(20);
  expect(Math.max(...gaps)).toBeLessThan((totalSeconds * 1000) / 4);
});

test('under a memory limit, batches shrink until they fit', async () => {
  const image = pixels(700, 150);
  await using free = await GLNet.load(weights, { threads: 1 });
  const whole = await free.segment(image, { mode: 'global-to-local', batch: 8 });
  expect(whole.report.batch).toBe(8);
  const memoryLimit = Math.round(free.devices[0]!.memory.peak * 0.9);
  await using tight = await GLNet.load(weights, { threads: 1, memoryLimit });
  const parts = await tight.segment(image, { mode: 'global-to-local', batch: 8 });
  expect(parts.report.batch).toBeLessThan(8);
  expect(tight.devices[0]!.memory.reserved).toBeLessThanOrEqual(memoryLimit);
  const equal = parts.labels.filter((label, i) => label === whole.labels[i]).length;
  expect(equal / whole.labels.length).toBeGreaterThan(0.999);
});

test.each(modes)('mode %s: running out of memory anywhere leaves no tensor', async (mode) => {
  const image = pixels(300, 200);
  await using free = await GLNet.load(weights, { threads: 1 });
  await free.segment(image, { mode, batch: 1 });
  const { active, reserved } = free.devices[0]!.memory;
  let refused = 0;
  for (let memoryLimit = active + (1 << 18); memoryLimit < reserved; memoryLimit += 1 << 19) {
    await using tight = await GLNet.load(weights, { threads: 1, memoryLimit });
    const before = await tight.segment(pixels(8, 8), { mode: 'global', patch: 64 }).then(
      () => tight.devices[0]!.memory.tensors,
      () => undefined,
    );
    const failure = await tight.segment(image, { mode, batch: 1 }).then(
      () => undefined,
      (error) => error,
    );
    if (failure === undefined) continue;
    expect(failure.code).toBe('ERR_OUT_OF_MEMORY');
    refused++;
    // Weights may have been loaded on the way; tensors of the run may not stay.
    const tensors = tight.devices[0]!.memory.tensors;
    await tight.segment(image, { mode, batch: 1 }).catch(() => {});
    expect(tight.devices[0]!.memory.tensors).toBeGreaterThanOrEqual(before ?? 0);
    expect(tight.devices[0]!.memory.tensors).toBe(tensors);
  }
  expect(refused).toBeGreaterThan(0);
});

test('when not even one patch fits, the error says so', async () => {
  await using model = await GLNet.load(weights, { threads: 1, memoryLimit: 6 << 20 });
  await expect(model.segment(pixels(300, 300), { patch: 508, globalSize: 508 })).rejects.toMatchObject({
    code: 'ERR_OUT_OF_MEMORY',
  });
});

test('calls may overlap', async () => {
  await using model = await GLNet.load(weights, { threads: 1 });
  const images = [pixels(300, 200), pixels(120, 90), pixels(64, 300)];
  const alone = [];
  for (const image of images) alone.push((await model.segment(image)).labels);
  const together = await Promise.all(images.map((image) => model.segment(image)));
  expect(together.map(({ labels }) => labels)).toEqual(alone);
});

test('dispose waits for running calls, is idempotent, and ends the model', async () => {
  const model = await GLNet.load(weights, { threads: 1 });
  const running = model.segment(pixels(300, 200));
  await Promise.all([model.dispose(), model.dispose()]);
  expect((await running).labels).toHaveLength(60000);
  await expect(model.segment(pixels(8, 8))).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
});

test.each([
  [{ mode: 'sideways' }, /mode is sideways; this model has the weights for global,/],
  [{ mode: 'global', output: 'local' }, /output is local; mode global has global/],
  [{ patch: 63 }, /patch is 63/],
  [{ patch: 48 }, /patch is 48/],
  [{ globalSize: 30 }, /globalSize is 30/],
  [{ batch: 0 }, /batch is 0/],
])('options %j are refused', async (options, message) => {
  await using model = await GLNet.load(weights, { threads: 1 });
  await expect(model.segment(pixels(64, 64), options as never)).rejects.toMatchObject({
    code: 'ERR_INVALID_ARGUMENT',
    message: expect.stringMatching(message),
  });
});

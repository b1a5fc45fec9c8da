/**
 * Times one training step by stage, in a process of its own, beside PyTorch where python3 has it: the network of
 * bench/peers, written out plainly.
 *
 *   npm run bench -- bench/train.ts [--phase global-to-local] [--backbone resnet50] [--image 2448] [--patch 508] [--batch 6]
 *                    [--classes 7] [--threads 2] [--steps 3] [--no-checkpointing] [--no-peer] [--out bench/results/train.json]
 *
 * A step of phase 2 is one batch of patches of one image, with all that belongs to it. Weights and images are random:
 * neither changes what is computed. The first step, in which memory is taken and kernels are made, does not count.
 *
 * Images (JPEG) and masks (PNG) are read from files by the loader that training has, each decoded anew, beside the
 * computation: reported is what that takes alone, and how long a step waits for it.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import { allModes, type Mode } from '../src/checkpoint/model-file';
import type { StateDict } from '../src/checkpoint/state-dict';
import { formatBytes, formatSeconds, formatTable } from '../src/cli/format';
import { samplesOf } from '../src/datasets/dataset';
import { openDataset } from '../src/datasets/open';
import { SceneLoader } from '../src/datasets/scenes';
import { Optimiser } from '../src/nn/optimisers';
import { processPeakBytes } from '../src/peak-memory';
import { writeIndexPng } from '../src/raster/write';
import { Tape } from '../src/tensor/autograd';
import { Device } from '../src/tensor/device';
import { firstWeights, prerequisites, TrainingNetworks } from '../src/training/networks';
import { defaultTerms, PhaseStep, type StepStage, stepStages } from '../src/training/phases';
import { gradientNorms, trainedOf } from '../src/training/trainer';
import { glnetConfig } from './support/config';
import { runPyTorch } from './support/pytorch';
import { save } from './support/save';

const { values: options } = parseArgs({
  allowPositionals: true,
  allowNegative: true,
  options: {
    phase: { type: 'string', default: 'global-to-local' },
    backbone: { type: 'string', default: 'resnet50' },
    image: { type: 'string', default: '2448' },
    patch: { type: 'string', default: '508' },
    batch: { type: 'string', default: '6' },
    classes: { type: 'string', default: '7' },
    threads: { type: 'string', default: '2' },
    steps: { type: 'string', default: '3' },
    checkpointing: { type: 'boolean', default: true },
    peer: { type: 'boolean', default: true },
    out: { type: 'string' },
    /** The images' folder, for the process that is timed. */
    child: { type: 'string' },
  },
});
const [image, patch, batch, classes, threads, steps] = (
  ['image', 'patch', 'batch', 'classes', 'threads', 'steps'] as const
).map((name) => Number(options[name])) as [number, number, number, number, number, number];

const timed = [...stepStages, 'optimiser'] as const;
type Timed = (typeof timed)[number];

interface Timing {
  /** Medians over the steps that count. */
  seconds: Record<Timed, number>;
  totalSeconds: number;
  /** Of tensors, and of the process. */
  poolPeakBytes?: number;
  peakBytes: number;
  /** Of a step's scenes: what reading and decoding them takes by itself, and what of it a step waits for. */
  loading?: { aloneSeconds: number; waitedSeconds: number };
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}

function randomBytes(length: number, limit: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0, state = 1; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    bytes[i] = (state >>> 16) % limit;
  }
  return bytes;
}

/** A folder data set of random images, blurred so that they are no harder to decode than real ones, and labels. */
async function writeImages(folder: string, side: number, count: number): Promise<void> {
  const ids = Array.from({ length: count }, (_, i) => String(i));
  const palette = Array.from({ length: classes }, (_, i) => [i, i, i] as const);
  for (const id of ids) {
    const raw = { width: side, height: side, channels: 3 } as const;
    await sharp(randomBytes(side * side * 3, 256), { raw })
      .blur(2)
      .jpeg()
      .toFile(path.join(folder, `${id}.jpg`));
    const labels = randomBytes(side * side, classes);
    await writeIndexPng(path.join(folder, `${id}.png`), { width: side, height: side }, labels, palette);
  }
  const description = {
    name: 'random',
    classes: palette.map((color, i) => ({ name: String(i), color })),
    images: '{id}.jpg',
    masks: '{id}.png',
    split: { train: ids },
  };
  writeFileSync(path.join(folder, 'dataset.json'), JSON.stringify(description));
}

/** In the process that is timed; the images are in `folder`. */
async function measure(folder: string): Promise<void> {
  const phase = options.phase as Mode;
  const config = { ...glnetConfig(options.backbone, classes), patch, global: patch };
  const device = new Device({ threads });
  const weights: StateDict = new Map();
  for (const earlier of prerequisites[phase]) {
    for (const [name, host] of firstWeights(config, earlier, weights, 1)) {
      weights.set(`${earlier}.${name}`, host);
    }
  }
  const own = firstWeights(config, phase, weights, 1);
  const networks = await TrainingNetworks.create(device, config, phase, own, weights);
  weights.clear();
  own.clear();
  const tape = new Tape(device, { checkpointing: options.checkpointing });
  const trained = trainedOf(networks, tape);
  const optimiser = new Optimiser({ type: 'adam', weightDecay: 5e-4 }, device, trained);
  const samples = samplesOf(await openDataset(folder), 'train');
  const loader = new SceneLoader(samples, { batch: phase === 'global' ? batch : 1, seed: 1, cacheBytes: 0 });

  const reports: Record<Timed, number>[] = [];
  let clock = 0;
  let seconds: Record<Timed, number>;
  const charge = async (stage: StepStage | 'optimiser'): Promise<void> => {
    await device.synchronize();
    const now = performance.now();
    seconds[stage] += (now - clock) / 1000;
    clock = now;
  };
  const step = new PhaseStep(networks, tape, {
    patch,
    globalSize: patch,
    patchBatch: batch,
    losses: [{ type: 'focal', gamma: 6 }],
    ignored: 255,
    lambda: 0.15,
    terms: defaultTerms[phase],
    choosePatches: (_, grid) =>
      Array.from(
        { length: phase === 'bidirectional' ? grid.count : Math.min(batch, grid.count) },
        (_, i) => i,
      ),
    onStage: charge,
  });
  const waited: number[] = [];
  let asked = performance.now();
  for await (const { step: i, scenes } of loader.batches(0, steps + 1)) {
    if (i > 0) waited.push((performance.now() - asked) / 1000);
    seconds = Object.fromEntries(timed.map((stage) => [stage, 0])) as Record<Timed, number>;
    clock = performance.now();
    for (const { value, predicted } of await step.accumulate(scenes)) {
      await value.data();
      value.dispose();
      predicted?.dispose();
    }
    await gradientNorms(trained);
    optimiser.step(5e-5);
    await charge('optimiser');
    if (i > 0) reports.push(seconds);
    asked = performance.now();
  }
  const alone: number[] = [];
  for (let i = 0; i < 3; i++) {
    const started = performance.now();
    await loader.batches(i, i + 1).next();
    alone.push((performance.now() - started) / 1000);
  }
  const timing: Timing = {
    seconds: Object.fromEntries(
      timed.map((stage) => [stage, median(reports.map((report) => report[stage]))]),
    ) as Record<Timed, number>,
    totalSeconds: median(reports.map((report) => Object.values(report).reduce((a, b) => a + b))),
    poolPeakBytes: device.memory().peak,
    peakBytes: processPeakBytes(),
    loading: { aloneSeconds: median(alone), waitedSeconds: median(waited) },
  };
  console.log(JSON.stringify(timing));
  device.dispose();
}

function run(command: string, args: readonly string[]): { stdout: string; status: number | null } {
  const { stdout, status } = spawnSync(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  return { stdout: stdout?.toString() ?? '', status };
}

async function main(): Promise<void> {
  if (!allModes.includes(options.phase as Mode))
    throw new Error(`phase is ${options.phase}; expected one of ${allModes}`);
  const shared = ['phase', 'backbone', 'image', 'patch', 'batch', 'classes', 'threads', 'steps'] as const;
  const flags = shared.map((name) => `--${name}=${options[name]}`);
  const timing = await timeOwn(flags);
  const peer = options.peer ? runPeer(flags) : undefined;

  console.log(
    `one step of phase ${options.phase}, ${options.backbone}, ${patch} px, batch ${batch}, ${threads} threads` +
      `${options.checkpointing ? '' : ', no checkpointing'}: median of ${steps} steps\n`,
  );
  const beside = (figure: number | undefined, format: (value: number) => string): string =>
    figure === undefined ? '' : `   PyTorch ${format(figure)}`;
  console.log(
    formatTable([
      ...timed.map(
        (stage) =>
          [
            stage,
            `${formatSeconds(timing.seconds[stage])}${beside(peer?.seconds[stage], formatSeconds)}`,
          ] as const,
      ),
      ['total', `${formatSeconds(timing.totalSeconds)}${beside(peer?.totalSeconds, formatSeconds)}`],
      ['tensors', `${formatBytes(timing.poolPeakBytes!)} at most`],
      ['process', `${formatBytes(timing.peakBytes)} at most${beside(peer?.peakBytes, formatBytes)}`],
      [
        'loading',
        `${formatSeconds(timing.loading!.aloneSeconds)} a step by itself, of which ` +
          `${formatSeconds(timing.loading!.waitedSeconds)} are waited for`,
      ],
      ...(peer
        ? [
            [
              'ratio',
              `${(peer.totalSeconds / timing.totalSeconds).toFixed(2)} times as fast, ` +
                `${((100 * timing.peakBytes) / peer.peakBytes).toFixed(0)} % of the memory`,
            ] as const,
          ]
        : []),
    ]),
  );
  if (options.out) saveResults(options.out, timing, peer);
}

async function timeOwn(flags: readonly string[]): Promise<Timing> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'glnet-bench-'));
  try {
    await writeImages(folder, image, 3);
    const { stdout, status } = run(process.execPath, [
      path.join(__dirname, '../scripts/run-ts.js'),
      __filename,
      `--child=${folder}`,
      ...flags,
      ...(options.checkpointing ? [] : ['--no-checkpointing']),
    ]);
    if (status !== 0) throw new Error(`the timed process ended with ${status}`);
    return JSON.parse(stdout) as Timing;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function runPeer(flags: readonly string[]): Timing | undefined {
  const result = runPyTorch<{ seconds: Timing['seconds'] & { total: number }; peakBytes: number }>(
    'train_step.py',
    // It counts the first step, and then leaves it out.
    [...flags, `--steps=${steps + 1}`, `--side=${patch}`],
  );
  return result && { ...result, totalSeconds: result.seconds.total };
}

function saveResults(file: string, timing: Timing, peer: Timing | undefined): void {
  const { phase, backbone, checkpointing } = options;
  const settings = { phase, backbone, patch, batch, classes, threads, steps, checkpointing };
  save(file, { settings, timing, peer });
}

(options.child === undefined ? main() : measure(options.child)).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});

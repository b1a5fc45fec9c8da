/**
 * Times one training step by stage, in a process of its own, beside PyTorch where python3 has it: the network of
 * bench/peers, written out plainly.
 *
 *   npm run bench -- bench/train.ts [--phase global-to-local] [--backbone resnet50] [--image 2448] [--patch 508] [--batch 6]
 *                    [--classes 7] [--threads 2] [--steps 3] [--checkpointing] [--no-peer] [--out bench/results/train.json]
 *
 * A step of phase 2 is one batch of patches of one image, with all that belongs to it. Weights and image are random:
 * neither changes what is computed. The first step, in which memory is taken and kernels are made, does not count.
 */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { binding } from '../src/binding';
import { allModes, type Mode } from '../src/checkpoint/model-file';
import type { StateDict } from '../src/checkpoint/state-dict';
import { formatBytes, formatSeconds, formatTable } from '../src/cli/format';
import { Optimiser } from '../src/nn/optimisers';
import { Tape } from '../src/tensor/autograd';
import { Device } from '../src/tensor/device';
import { firstWeights, prerequisites, TrainingNetworks } from '../src/training/networks';
import { defaultTerms, PhaseStep, type Scene, type StepStage, stepStages } from '../src/training/phases';
import { gradientNorms, trainedOf } from '../src/training/trainer';
import { glnetConfig } from './support/config';

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
    checkpointing: { type: 'boolean', default: false },
    peer: { type: 'boolean', default: true },
    out: { type: 'string' },
    /** Set for the process that is timed. */
    child: { type: 'boolean', default: false },
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

/** In the process that is timed. */
async function measure(): Promise<void> {
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
  const side = image;
  const scene: Scene = {
    id: 'random',
    pixels: randomBytes(side * side * 3, 256),
    labels: randomBytes(side * side, classes),
    width: side,
    height: side,
    turn: 0,
  };
  const scenes = phase === 'global' ? Array.from({ length: batch }, () => scene) : [scene];

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
  for (let i = 0; i <= steps; i++) {
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
  }
  const timing: Timing = {
    seconds: Object.fromEntries(
      timed.map((stage) => [stage, median(reports.map((report) => report[stage]))]),
    ) as Record<Timed, number>,
    totalSeconds: median(reports.map((report) => Object.values(report).reduce((a, b) => a + b))),
    poolPeakBytes: device.memory().peak,
    peakBytes: process.resourceUsage().maxRSS * 1024,
  };
  console.log(JSON.stringify(timing));
  device.dispose();
}

function run(command: string, args: readonly string[]): { stdout: string; status: number | null } {
  const { stdout, status } = spawnSync(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  return { stdout: stdout?.toString() ?? '', status };
}

function main(): void {
  if (!allModes.includes(options.phase as Mode))
    throw new Error(`phase is ${options.phase}; expected one of ${allModes}`);
  const shared = ['phase', 'backbone', 'image', 'patch', 'batch', 'classes', 'threads', 'steps'] as const;
  const flags = shared.map((name) => `--${name}=${options[name]}`);
  const own = run(process.execPath, [
    path.join(__dirname, '../scripts/run-ts.js'),
    __filename,
    '--child',
    ...flags,
    ...(options.checkpointing ? ['--checkpointing'] : []),
  ]);
  if (own.status !== 0) throw new Error(`the timed process ended with ${own.status}`);
  const timing = JSON.parse(own.stdout) as Timing;
  const peer = options.peer ? runPeer(flags) : undefined;

  console.log(
    `one step of phase ${options.phase}, ${options.backbone}, ${patch} px, batch ${batch}, ${threads} threads` +
      `${options.checkpointing ? ', checkpointing' : ''}: median of ${steps} steps\n`,
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
  if (options.out) save(options.out, timing, peer);
}

/** A Python that has PyTorch: Debian's package belongs to the system's, which need not be the first in the path. */
function findPython(): string | undefined {
  return ['python3', '/usr/bin/python3'].find((python) => {
    const { status } = spawnSync(python, ['-c', 'import torch'], { stdio: 'ignore' });
    return status === 0;
  });
}

function runPeer(flags: readonly string[]): Timing | undefined {
  const python = findPython();
  if (!python) {
    console.error('bench: no figures of PyTorch, which is not installed (Debian: python3-torch)');
    return undefined;
  }
  const { stdout, status } = run(python, [
    path.join(__dirname, 'peers/train_step.py'),
    ...flags,
    // It counts the first step, and then leaves it out.
    `--steps=${steps + 1}`,
    `--side=${patch}`,
    '--json',
  ]);
  if (status !== 0) throw new Error(`PyTorch's process ended with ${status}`);
  const { seconds, peakBytes } = JSON.parse(stdout) as {
    seconds: Timing['seconds'] & { total: number };
    peakBytes: number;
  };
  return { seconds, totalSeconds: seconds.total, peakBytes };
}

function save(file: string, timing: Timing, peer: Timing | undefined): void {
  const git = spawnSync('git', ['rev-parse', 'HEAD'], { cwd: __dirname });
  const { oneDNN, isa } = binding().machine();
  const machine = { cpu: os.cpus()[0]?.model, cores: os.availableParallelism(), memory: os.totalmem(), isa };
  const versions = { node: process.versions.node, oneDNN, commit: git.stdout.toString().trim() };
  const { phase, backbone, checkpointing } = options;
  const settings = { phase, backbone, patch, batch, classes, threads, steps, checkpointing };
  writeFileSync(file, `${JSON.stringify({ machine, versions, settings, timing, peer }, undefined, 1)}\n`);
}

if (options.child) {
  measure().catch((error) => {
    console.error(error);
    process.exitCode = 1;
  });
} else {
  main();
}

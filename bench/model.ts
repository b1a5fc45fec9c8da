/**
 * Times whole segmentations, each in a process of its own: seconds by stage, patches per second, peak memory.
 *
 *   npm run bench -- bench/model.ts [--size 2448] [--modes global-to-local,bidirectional] [--backbone resnet50]
 *                    [--classes 7] [--batch 2] [--threads 0] [--runs 3] [--out bench/results/model.json]
 *
 * Weights are random, and so is the image: neither changes what is computed. The weights lie in a file, as a user's
 * do, so that loading counts.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { GLNet, type Mode, type SegmentReport } from '../src';
import { binding } from '../src/binding';
import { type ModelConfig, writeModel } from '../src/checkpoint/model-file';
import { formatBytes, formatSeconds, formatTable } from '../src/cli/format';
import { randomWeights } from '../src/cli/self-test';
import { glnetConfig } from './support/config';

/**
 * One 2448x2448 image by the reference implementation (PyTorch), 7 classes, on 2 cores of a Xeon with AVX-512 and oneDNN
 * 2.6. Not measured by this program, and not in the same run.
 */
const reference: Partial<Record<Mode, { seconds: number; bytes: number }>> = {
  'global-to-local': { seconds: 57, bytes: 3.9e9 },
  bidirectional: { seconds: 56, bytes: 5.1e9 },
};

const { values: options } = parseArgs({
  allowPositionals: true,
  options: {
    size: { type: 'string', default: '2448' },
    modes: { type: 'string', default: 'global-to-local,bidirectional' },
    backbone: { type: 'string', default: 'resnet50' },
    classes: { type: 'string', default: '7' },
    batch: { type: 'string', default: '2' },
    threads: { type: 'string', default: '0' },
    runs: { type: 'string', default: '3' },
    out: { type: 'string' },
    /** Set for the process that is timed. */
    model: { type: 'string' },
  },
});
const size = Number(options.size);

/** In the process that is timed. */
async function measure(weights: string, mode: Mode): Promise<void> {
  const data = new Uint8Array(size * size * 3);
  for (let i = 0, state = 1; i < data.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    data[i] = state >>> 24;
  }
  const model = await GLNet.load(weights, { threads: Number(options.threads) });
  const image = { data, width: size, height: size, channels: 3 };
  const { report } = await model.segment(image, { mode, batch: Number(options.batch) });
  await model.dispose();
  console.log(JSON.stringify(report));
}

function median(values: number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}

async function main(): Promise<void> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'glnet-bench-'));
  try {
    const modes = options.modes.split(',') as Mode[];
    const config = glnetConfig(options.backbone, Number(options.classes));
    const weights = path.join(folder, 'model.safetensors');
    await writeModel(weights, config, randomWeights(config, 1));
    const results = modes.map((mode) => {
      const reports = Array.from({ length: Number(options.runs) }, () => runOnce(weights, mode));
      const seconds = median(reports.map(({ totalSeconds }) => totalSeconds));
      return { mode, seconds, reports, median: reports.find((report) => report.totalSeconds === seconds)! };
    });
    print(results);
    if (options.out) save(options.out, config, results);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

interface Result {
  mode: Mode;
  seconds: number;
  reports: SegmentReport[];
  median: SegmentReport;
}

function runOnce(weights: string, mode: Mode): SegmentReport {
  const args = [
    path.join(__dirname, '../scripts/run-ts.js'),
    __filename,
    `--model=${weights}`,
    `--modes=${mode}`,
    `--size=${size}`,
    `--batch=${options.batch}`,
    `--threads=${options.threads}`,
  ];
  const { stdout, status } = spawnSync(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  if (status !== 0) throw new Error(`the timed process ended with ${status}`);
  return JSON.parse(stdout.toString()) as SegmentReport;
}

function print(results: Result[]): void {
  console.log(
    `${size}x${size}, ${options.backbone}, ${options.classes} classes, median of ${options.runs} runs`,
  );
  for (const {
    mode,
    seconds,
    median: { seconds: stages, ...report },
  } of results) {
    const known = size === 2448 && options.backbone === 'resnet50' ? reference[mode] : undefined;
    const beside = (figure: string | undefined) => (figure ? `  (reference: ${figure})` : '');
    console.log(`\n${mode}`);
    console.log(
      formatTable([
        ['  total', `${formatSeconds(seconds)}${beside(known && formatSeconds(known.seconds))}`],
        ...Object.entries(stages).map(([stage, value]) => [`    ${stage}`, formatSeconds(value)] as const),
        ['  patches', `${report.patches} at ${report.patchesPerSecond.toFixed(2)}/s`],
        ['  pool peak', formatBytes(report.poolPeakBytes)],
        [
          '  process peak',
          `${formatBytes(report.processPeakBytes)}${beside(known && formatBytes(known.bytes))}`,
        ],
      ]),
    );
  }
}

function save(file: string, config: ModelConfig, results: Result[]): void {
  const git = spawnSync('git', ['rev-parse', 'HEAD'], { cwd: __dirname });
  const { oneDNN, isa } = binding().machine();
  const machine = { cpu: os.cpus()[0]?.model, cores: os.availableParallelism(), memory: os.totalmem(), isa };
  const versions = { node: process.versions.node, oneDNN, commit: git.stdout.toString().trim() };
  const { backbone, patch, global } = config;
  const settings = {
    size,
    backbone,
    classes: config.classes.length,
    patch,
    global,
    batch: Number(options.batch),
  };
  writeFileSync(
    file,
    `${JSON.stringify({ machine, versions, settings, reference, results }, undefined, 1)}\n`,
  );
}

(options.model ? measure(options.model, options.modes as Mode) : main()).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});

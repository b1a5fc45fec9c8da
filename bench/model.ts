/**
 * Times whole segmentations, each in a process of its own: seconds by stage, patches per second, peak memory; beside
 * PyTorch where python3 has it, and on the CPU in mode global-to-local onnxruntime where Node.js has it: the plain networks
 * of bench/peers, from the pixels to the logits.
 *
 *   npm run bench -- bench/model.ts [--size 2448] [--modes global-to-local,bidirectional] [--backbone resnet50]
 *                    [--classes 7] [--batch 2] [--threads 2] [--precision float32,bfloat16] [--runs 3] [--no-peer]
 *                    [--device cuda [--cuda-graphs]] [--images 4] [--out bench/results/model.json]
 *
 * Weights are random, and so is the image: neither changes what is computed. The weights lie in a file, as a user's
 * do, so that loading counts, and so does the stitching of the labels; of the peers it does not. With --images there are
 * later ones, timed by themselves: there nobody loads. With --cuda-graphs each is timed without and with them. What is timed
 * is the compiled package.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { Mode, SegmentReport } from '../src';
import { type ModelConfig, writeModel } from '../src/checkpoint/model-file';
import { formatBytes, formatSeconds, formatTable } from '../src/cli/format';
import { randomWeights } from '../src/cli/self-test';
import type { Precision } from '../src/inference/networks';
import { glnetConfig } from './support/config';
import { runOnnxRuntime } from './support/onnxruntime';
import { runPyTorch } from './support/pytorch';
import { save } from './support/save';

const { values: options } = parseArgs({
  allowPositionals: true,
  allowNegative: true,
  options: {
    size: { type: 'string', default: '2448' },
    modes: { type: 'string', default: 'global-to-local,bidirectional' },
    backbone: { type: 'string', default: 'resnet50' },
    classes: { type: 'string', default: '7' },
    batch: { type: 'string', default: '2' },
    threads: { type: 'string', default: String(os.availableParallelism()) },
    precision: { type: 'string', default: 'float32' },
    device: { type: 'string', default: 'cpu' },
    'cuda-graphs': { type: 'boolean', default: false },
    images: { type: 'string', default: '1' },
    runs: { type: 'string', default: '3' },
    peer: { type: 'boolean', default: true },
    out: { type: 'string' },
  },
});
const size = Number(options.size);

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
    const precisions = options.precision.split(',') as Precision[];
    const results: Result[] = [];
    for (const mode of modes) {
      const onCpu = options.device === 'cpu';
      const plain = options.peer && onCpu ? timePeer(mode, 'float32') : undefined;
      const onnxruntime =
        options.peer && onCpu && mode === 'global-to-local' ? await timeOnnxRuntime(weights) : undefined;
      for (const precision of precisions) {
        // A CPU of today computes no faster in PyTorch's bfloat16; a GPU does.
        const peer = options.peer && !onCpu ? timePeer(mode, precision) : plain;
        for (const cudaGraphs of options['cuda-graphs'] ? [false, true] : [false]) {
          const reports = Array.from({ length: Number(options.runs) }, () =>
            runOnce(weights, mode, precision, cudaGraphs),
          );
          const seconds = median(reports.map(({ totalSeconds }) => totalSeconds));
          const middle = reports.find((report) => report.totalSeconds === seconds)!;
          const later = reports.flatMap(({ warmSeconds }) => warmSeconds ?? []);
          const warm = later.length > 0 ? { warmSeconds: median(later) } : {};
          results.push({
            mode,
            precision,
            ...(cudaGraphs && { cudaGraphs }),
            seconds,
            reports,
            median: { ...middle, ...warm },
            peer,
            onnxruntime,
          });
        }
      }
    }
    print(results);
    if (options.out) saveResults(options.out, config, results);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** What another implementation takes; a run of it is long, so there is one. */
interface Peer {
  torch?: string;
  onnxruntime?: string;
  seconds: number;
  /** Of the later images. */
  warmSeconds?: number;
  peakBytes: number;
  /** What tensors took of a GPU at most. */
  poolPeakBytes?: number;
}

/** Of the timed process. */
type Report = SegmentReport & { device: string; warmSeconds?: number };

function timePeer(mode: Mode, precision: Precision): Peer | undefined {
  const { backbone, classes, threads } = options;
  return runPyTorch<Peer>('segment.py', [
    `--mode=${mode}`,
    `--backbone=${backbone}`,
    `--classes=${classes}`,
    `--image=${size}`,
    `--threads=${threads}`,
    `--precision=${precision}`,
    `--device=${options.device.split(':')[0]}`,
    `--images=${options.images}`,
  ]);
}

function timeOnnxRuntime(weights: string): Promise<Peer | undefined> {
  return runOnnxRuntime<Peer>(weights, [`--image=${size}`, `--threads=${options.threads}`]);
}

interface Result {
  mode: Mode;
  precision: Precision;
  cudaGraphs?: true;
  seconds: number;
  reports: Report[];
  /** The report in the middle by its seconds, with the middle one of the later images' seconds. */
  median: Report;
  /** PyTorch. */
  peer: Peer | undefined;
  onnxruntime: Peer | undefined;
}

function runOnce(weights: string, mode: Mode, precision: Precision, cudaGraphs: boolean): Report {
  const job = {
    weights,
    size,
    mode,
    precision,
    batch: Number(options.batch),
    threads: Number(options.threads),
    device: options.device,
    cudaGraphs,
    images: Number(options.images),
  };
  const args = [path.join(__dirname, 'support/segment-once.js'), JSON.stringify(job)];
  const { stdout, status } = spawnSync(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  if (status !== 0) throw new Error(`the timed process ended with ${status}`);
  return JSON.parse(stdout.toString()) as Report;
}

function print(results: Result[]): void {
  console.log(
    `${size}x${size}, ${options.backbone}, ${options.classes} classes, median of ${options.runs} runs, ${results[0]!.median.device}`,
  );
  for (const {
    mode,
    precision,
    cudaGraphs,
    seconds,
    median: { seconds: stages, ...report },
    peer,
    onnxruntime,
  } of results) {
    const peers = Object.entries({ PyTorch: peer, onnxruntime }).flatMap(([name, figures]) =>
      figures ? [{ name, ...figures }] : [],
    );
    const beside = (figure: (peer: Peer) => string) =>
      peers.map((each) => `   ${each.name} ${figure(each)}`).join('');
    console.log(`\n${mode}, ${precision}${cudaGraphs ? ', CUDA graphs' : ''}`);
    console.log(
      formatTable([
        ['  total', `${formatSeconds(seconds)}${beside((each) => formatSeconds(each.seconds))}`],
        ...Object.entries(stages).map(([stage, value]) => [`    ${stage}`, formatSeconds(value)] as const),
        ...(report.warmSeconds === undefined
          ? []
          : [
              [
                '  a later image',
                `${formatSeconds(report.warmSeconds)}${beside((each) => (each.warmSeconds === undefined ? '-' : formatSeconds(each.warmSeconds)))}`,
              ] as const,
            ]),
        ['  patches', `${report.patches} at ${report.patchesPerSecond.toFixed(2)}/s`],
        [
          '  multiply-adds',
          `${(report.multiplyAdds / 1e9).toFixed(0)} G, ${((2e-9 * report.multiplyAdds) / (stages.global + stages.patches)).toFixed(0)} GFLOP/s`,
        ],
        [
          '  pool peak',
          `${formatBytes(report.poolPeakBytes)}${beside((each) => (each.poolPeakBytes ? formatBytes(each.poolPeakBytes) : '-'))}`,
        ],
        [
          '  process peak',
          `${formatBytes(report.processPeakBytes)}${beside((each) => formatBytes(each.peakBytes))}`,
        ],
        ...peers.map(
          (each) =>
            [
              `  beside ${each.name}`,
              `${(each.seconds / seconds).toFixed(1)} times as fast` +
                (each.warmSeconds && report.warmSeconds
                  ? `, a later image ${(each.warmSeconds / report.warmSeconds).toFixed(1)} times`
                  : '') +
                `; ${((100 * report.processPeakBytes) / each.peakBytes).toFixed(0)} % of the memory`,
            ] as const,
        ),
      ]),
    );
  }
}

function saveResults(file: string, config: ModelConfig, results: Result[]): void {
  const { backbone, patch, global } = config;
  const settings = {
    size,
    backbone,
    classes: config.classes.length,
    patch,
    global,
    batch: Number(options.batch),
    device: results[0]!.median.device,
  };
  save(file, { settings, results });
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});

/**
 * Times the ops that inference spends its time in, at the sizes of a ResNet-50 network with patches of 508 px: operations
 * and bytes a second, and which share that is of what this machine reaches at best.
 *
 *   npm run bench -- bench/ops.ts [--precision float32,bfloat16] [--ops conv2d,stitch] [--threads 2] [--runs 2]
 *                    [--out bench/results/ops.json]
 *
 * The timer is build/glnet_native_test --bench, the figures are those of the fastest run. The machine's best is measured
 * with two of its cases: a large matrix product, and a sum of arrays that no cache holds. Some have more than 100 % of it:
 * 3x3 convolutions in float32, since Winograd's algorithm multiplies less than is counted, ops on maps that a cache
 * holds, and merge_patches, which reads only some of its maps' pixels.
 */
import { spawnSync } from 'node:child_process';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { formatColumns } from '../src/cli/format';
import { save } from './support/save';

const { values: options } = parseArgs({
  allowPositionals: true,
  options: {
    precision: { type: 'string', default: 'float32,bfloat16' },
    ops: {
      type: 'string',
      default:
        'conv2d,aggregate_conv,max_pool,resize,crop_resize,decode_patches,merge_patches,stitch,triangle_resize',
    },
    threads: { type: 'string', default: String(os.availableParallelism()) },
    runs: { type: 'string', default: '2' },
    out: { type: 'string' },
  },
});
const threads = Number(options.threads);
const runs = Number(options.runs);
const root = path.join(__dirname, '..');

/** As the native program prints it. */
interface Timing {
  op: string;
  case: string;
  milliseconds: number;
  /** Operations are multiplications and additions, bytes those of inputs and outputs. */
  gflops: number;
  gbps: number;
}

/** A timing, with the shares of the machine's best. */
interface Result {
  name: string;
  precision: string;
  milliseconds: number;
  gflops: number;
  gflopsShare: number;
  gbps: number;
  gbpsShare: number;
}

interface Peak {
  precision: string;
  gflops: number;
  gbps: number;
}

const isPeak = (timing: Timing) => timing.case.startsWith('peak');

function run(program: string, args: readonly string[]): string {
  const { stdout, status, error } = spawnSync(program, args, {
    cwd: root,
    encoding: 'utf8',
    // As the addon sets it: beside other processes, threads that wait must not spin for long.
    env: { GOMP_SPINCOUNT: '5000', ...process.env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${status ?? error}\n${stdout}`);
  return stdout;
}

/** Into the addon's own build folder, whose objects it shares. */
function buildTimer(): string {
  run('cmake', ['-S', '.', '-B', 'build', '-DGLNET_BUILD_TESTS=ON']);
  run('cmake', [
    '--build',
    'build',
    '--target',
    'glnet_native_test',
    '--parallel',
    `${os.availableParallelism()}`,
  ]);
  return path.join(root, 'build/glnet_native_test');
}

/** The fastest of some runs of each of an op's cases. */
function time(timer: string, op: string, precision: string): Timing[] {
  const flags = [
    '--bench',
    '--json',
    '--without',
    'training',
    '--dtype',
    precision,
    '--threads',
    `${threads}`,
  ];
  const all = Array.from({ length: runs }, () => JSON.parse(run(timer, [...flags, '--op', op])) as Timing[]);
  return all[0]!.map((_, i) =>
    all.map((timings) => timings[i]!).reduce((a, b) => (b.milliseconds < a.milliseconds ? b : a)),
  );
}

/** @param gbps the machine's best */
function measure(timer: string, precision: string, gbps: number): { peak: Peak; results: Result[] } {
  const convolutions = time(timer, 'conv2d', precision);
  const gflops = convolutions.find(isPeak)!.gflops;
  const timings = options.ops
    .split(',')
    .flatMap((op) => (op === 'conv2d' ? convolutions : time(timer, op, precision)))
    .filter((timing) => !isPeak(timing));
  const results = timings.map((timing) => ({
    name: `${timing.op} ${timing.case}`,
    precision,
    milliseconds: timing.milliseconds,
    gflops: timing.gflops,
    gflopsShare: timing.gflops / gflops,
    gbps: timing.gbps,
    gbpsShare: timing.gbps / gbps,
  }));
  return { peak: { precision, gflops, gbps }, results };
}

function print({ precision, gflops, gbps }: Peak, results: readonly Result[]): void {
  console.log(
    `\n${precision}, ${threads} threads; the machine’s best: ${gflops.toFixed(0)} GFLOP/s, ${gbps.toFixed(1)} GB/s`,
  );
  const percent = (share: number) => `${(100 * share).toFixed(0)} %`;
  console.log(
    formatColumns([
      ['', 'ms', 'GFLOP/s', '', 'GB/s', ''],
      ...results.map((result) => [
        result.name,
        result.milliseconds.toFixed(3),
        result.gflops.toFixed(1),
        percent(result.gflopsShare),
        result.gbps.toFixed(1),
        percent(result.gbpsShare),
      ]),
    ]),
  );
}

try {
  const timer = buildTimer();
  const { gbps } = time(timer, 'add', 'float32').find(isPeak)!;
  const measured = options.precision.split(',').map((precision) => {
    const one = measure(timer, precision, gbps);
    print(one.peak, one.results);
    return one;
  });
  if (options.out) {
    save(options.out, {
      settings: { threads, runs },
      peaks: measured.map(({ peak }) => peak),
      results: measured.flatMap(({ results }) => results),
    });
  }
} catch (error) {
  console.error(`ops: ${(error as Error).message}`);
  process.exitCode = 1;
}

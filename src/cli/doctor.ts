/** `glnet doctor`: what this machine has, and whether it computes rightly. */
import { spawnSync } from 'node:child_process';
import os from 'node:os';
import path from 'node:path';
import { addonFolder, binding, native } from '../binding';
import { chooseDevices, type DeviceName } from '../inference/devices';
import { Device, type DeviceKind, deviceCount } from '../tensor/device';
import { formatBytes, formatSeconds, formatTable } from './format';
import type { Comparison } from './self-test';

/** What the program prints that runs every op on the GPU, beside libglnet_cuda.so; with `--json` only. */
interface OpCases {
  passes: boolean;
  cases: string[];
  times: string[];
  error?: string;
}

interface SelfTest {
  device: string;
  passes: boolean;
  seconds: number;
  comparisons?: Comparison[];
  error?: string;
}

export interface DoctorArguments {
  device?: DeviceName;
  gpu?: boolean;
  json?: boolean;
}

/** A device of this machine, or why there is none of its kind. */
interface Found {
  name: string;
  description?: string;
  error?: string;
}

/** @returns the exit code */
export async function doctor({ device, gpu, json }: DoctorArguments): Promise<number> {
  const machine = tryTo(() => native(() => binding().machine()));
  const devices: Found[] =
    machine.error === undefined
      ? (['cpu', 'cuda'] as const).flatMap(findDevices)
      : [{ name: 'cpu', error: 'needs the addon' }];
  const asked = device ?? (gpu ? 'cuda:all' : undefined);
  const tested = asked === undefined ? devices.filter(({ error }) => error === undefined) : namesOf(asked);
  // Without a GPU the rest works; whoever asks for one wants to know.
  const needed = asked === undefined ? devices.filter(({ name }) => name.startsWith('cpu')) : [];
  const sharp = tryTo(() => (require('sharp') as typeof import('sharp')).versions);
  const [cpu] = os.cpus();
  const report = {
    glnet: (require(path.join(__dirname, '../../package.json')) as { version: string }).version,
    node: process.versions.node,
    platform: `${process.platform}-${process.arch}`,
    addon: machine.error ?? 'loaded',
    oneDNN: machine.value?.oneDNN,
    sharp: sharp.value?.sharp ?? sharp.error,
    libvips: sharp.value?.vips,
    cpu: {
      model: cpu?.model.trim(),
      threads: os.availableParallelism(),
      isa: machine.value?.isa,
      bfloat16: machine.value?.bfloat16,
    },
    memory: { total: os.totalmem(), free: os.freemem() },
    devices,
  };
  const say = json ? () => {} : console.log;
  const { isa = 'unknown features', bfloat16, model = 'unknown', threads } = report.cpu;
  say(
    formatTable([
      ['glnet', report.glnet],
      ['Node.js', `${report.node}, ${report.platform}`],
      ['addon', machine.error === undefined ? 'loaded' : 'not loaded, see below'],
      ['oneDNN', report.oneDNN ?? 'not loaded'],
      ['sharp', `${report.sharp}${report.libvips ? `, libvips ${report.libvips}` : ''}`],
      ['processor', `${model}, ${isa}${bfloat16 ? ', bfloat16 units' : ''}`],
      ['threads', String(threads)],
      ['memory', `${formatBytes(report.memory.total)}, ${formatBytes(report.memory.free)} free`],
      ...devices.map(({ name, description, error }): [string, string] => [
        `device ${name}`,
        error ?? `ready: ${description}`,
      ]),
    ]),
  );
  if (machine.error !== undefined) say(`\n${machine.error}`);

  const selfTests: SelfTest[] = [];
  for (const { name, error } of tested) {
    const test =
      error === undefined ? await selfTest(name) : { device: name, passes: false, seconds: 0, error };
    selfTests.push(test);
    if (!json) printTest(test);
  }
  let ops: OpCases | undefined;
  if (gpu && selfTests.some(({ comparisons }) => comparisons)) {
    say(
      '\nevery op on the first GPU, then times of real layers (GFLOP/s count multiplications and additions):',
    );
    ops = runOpCases(json ?? false);
    if (ops.error !== undefined) say(`FAILS: ${ops.error}`);
  }
  const passes =
    sharp.error === undefined &&
    (ops?.passes ?? true) &&
    needed.every(({ error }) => error === undefined) &&
    selfTests.every((test) => test.passes);
  if (json) console.log(JSON.stringify({ ...report, selfTests, ops, passes }, undefined, 2));
  return passes ? 0 : 1;
}

function tryTo<T>(call: () => T): { value?: T; error?: string } {
  try {
    return { value: call() };
  } catch (error) {
    return { error: (error as Error).message };
  }
}

/** Cases, then times, on the first GPU that CUDA shows; CUDA_VISIBLE_DEVICES chooses another. */
function runOpCases(quiet: boolean): OpCases {
  const program = path.join(addonFolder(), 'glnet_native_test');
  const result: OpCases = { passes: true, cases: [], times: [] };
  for (const [kind, ...options] of [['cases'], ['times', '--bench']] as ['cases' | 'times', ...string[]][]) {
    const { status, stdout, error } = spawnSync(program, ['--device', 'cuda', ...options], {
      encoding: 'utf8',
      stdio: ['ignore', quiet ? 'pipe' : 'inherit', 'inherit'],
    });
    if (error) {
      const advice = 'It is built by: node scripts/native.js build cuda';
      return { ...result, passes: false, error: `${program} could not be run: ${error.message}. ${advice}` };
    }
    result[kind] = (stdout ?? '').trim().split('\n');
    if (status !== 0) return { ...result, passes: false };
  }
  return result;
}

function findDevices(kind: DeviceKind): Found[] {
  const { value: count, error } = tryTo(() => deviceCount(kind));
  if (count === undefined) return [{ name: kind, error: error! }];
  return Array.from({ length: count }, (_, index) => describeDevice(kind, index));
}

function describeDevice(kind: DeviceKind, index: number): Found {
  const name = `${kind}:${index}`;
  const { value, error } = tryTo(() => {
    using device = new Device({ kind, index });
    return device.description;
  });
  return { name, ...(error === undefined ? { description: value! } : { error }) };
}

function namesOf(device: DeviceName): Found[] {
  const { value, error } = tryTo(() => chooseDevices(device));
  if (!value) return [{ name: device, error: error! }];
  return value.indices.map((index) => describeDevice(value.kind, index));
}

async function selfTest(device: string): Promise<SelfTest> {
  const start = performance.now();
  const seconds = () => (performance.now() - start) / 1000;
  try {
    const { compareWithReference } = require('./self-test') as typeof import('./self-test');
    const comparisons = await compareWithReference(device);
    const passes = comparisons.every(({ difference, tolerance }) => difference <= tolerance);
    return { device, passes, seconds: seconds(), comparisons };
  } catch (error) {
    return { device, passes: false, seconds: seconds(), error: (error as Error).message };
  }
}

function printTest({ device, passes, seconds, comparisons, error }: SelfTest): void {
  console.log(`\nself-test: a small GLNet on ${device} against the plain double-precision one`);
  if (comparisons) {
    const rows = comparisons.map(({ name, difference, tolerance }): [string, string] => [
      name,
      `${difference.toExponential(1)} of at most ${tolerance.toExponential(1)}${difference <= tolerance ? '' : '  FAILS'}`,
    ]);
    console.log(formatTable(rows));
    const worst = Math.max(...comparisons.map(({ difference }) => difference));
    console.log(
      `${passes ? 'passes' : 'FAILS'}: worst difference ${worst.toExponential(1)} of the greatest value, ${formatSeconds(seconds)}`,
    );
  } else {
    console.log(`FAILS: ${error}`);
  }
}

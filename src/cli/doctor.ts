/** `glnet doctor`: what this machine has, and whether it computes rightly. */
import os from 'node:os';
import path from 'node:path';
import { binding, native } from '../binding';
import { Device, type DeviceKind, deviceKinds } from '../tensor/device';
import { formatBytes, formatSeconds, formatTable } from './format';
import type { Comparison } from './self-test';

interface SelfTest {
  device: DeviceKind;
  passes: boolean;
  seconds: number;
  comparisons?: Comparison[];
  error?: string;
}

/** @returns the exit code */
export async function doctor({ json }: { json?: boolean }): Promise<number> {
  const machine = tryTo(() => native(() => binding().machine()));
  const devices = deviceKinds.map((kind) => ({
    kind,
    ...(machine.error === undefined ? tryDevice(kind) : { error: 'needs the addon' }),
  }));
  const sharp = tryTo(() => (require('sharp') as typeof import('sharp')).versions);
  const tests: SelfTest[] = [];
  for (const { kind, error } of devices) {
    if (kind !== 'reference' && error === undefined) tests.push(await selfTest(kind));
  }
  const passes = devices.every(({ error }) => error === undefined) && tests.every((test) => test.passes);
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
    selfTests: tests,
    passes: passes && sharp.error === undefined,
  };
  if (json) {
    console.log(JSON.stringify(report, undefined, 2));
  } else {
    const { isa = 'unknown features', bfloat16, model = 'unknown', threads } = report.cpu;
    console.log(
      formatTable([
        ['glnet', report.glnet],
        ['Node.js', `${report.node}, ${report.platform}`],
        ['addon', machine.error === undefined ? 'loaded' : 'not loaded, see below'],
        ['oneDNN', report.oneDNN ?? 'not loaded'],
        ['sharp', `${report.sharp}${report.libvips ? `, libvips ${report.libvips}` : ''}`],
        ['processor', `${model}, ${isa}${bfloat16 ? ', bfloat16 units' : ''}`],
        ['threads', String(threads)],
        ['memory', `${formatBytes(report.memory.total)}, ${formatBytes(report.memory.free)} free`],
        ...devices.map(({ kind, error }): [string, string] => [`device ${kind}`, error ?? 'ready']),
      ]),
    );
    if (machine.error !== undefined) console.log(`\n${machine.error}`);
    for (const test of tests) printTest(test);
  }
  return report.passes ? 0 : 1;
}

function tryTo<T>(call: () => T): { value?: T; error?: string } {
  try {
    return { value: call() };
  } catch (error) {
    return { error: (error as Error).message };
  }
}

function tryDevice(kind: DeviceKind): { error?: string } {
  const { error } = tryTo(() => new Device({ kind }).dispose());
  return error === undefined ? {} : { error };
}

async function selfTest(device: DeviceKind): Promise<SelfTest> {
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

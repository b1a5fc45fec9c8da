import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { writeTinyModel } from '../support/tiny-model';

let folder: string;
let weights: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'glnet-exit-'));
  weights = path.join(folder, 'tiny.safetensors');
  await writeTinyModel(weights);
});
afterAll(() => rm(folder, { recursive: true }));

/** Runs test/exit/program.ts, which starts a long segmentation and then does what the name says. */
function run(
  name: string,
  device: string,
): Promise<{ code: number | null; signal: string | null; output: string }> {
  return new Promise((resolve, reject) => {
    const root = path.join(__dirname, '../..');
    const program = path.join(__dirname, 'program.ts');
    const child = spawn(process.execPath, [path.join(root, 'scripts/run-ts.js'), program, name, weights], {
      env: { ...process.env, GLNET_TEST_DEVICE: device },
    });
    let output = '';
    child.stdout.on('data', (data) => (output += data));
    child.stderr.on('data', (data) => (output += data));
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, output }));
  });
}

describe.each([
  ['cpu', ['exit', 'throw', 'finish', 'leave-open', 'worker-terminate', 'worker-exit', 'workers']],
  // The CUDA engine: streams, marks and a thread that waits for them. It has two threads more to end.
  ['emulator:all', ['exit', 'throw', 'leave-open', 'worker-terminate']],
])('%s', (device, names) => {
  test.each(names)(
    '%s: the process ends as it should, and no crash',
    async (name) => {
      const result = await run(name, device);
      expect(result).toMatchObject({ code: { exit: 7, throw: 1 }[name] ?? 0, signal: null });
      expect(result.output).toContain(name === 'throw' ? 'thrown in mid-job' : `${name}: as planned`);
    },
    300_000,
  );
});

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
function run(name: string): Promise<{ code: number | null; signal: string | null; output: string }> {
  return new Promise((resolve, reject) => {
    const root = path.join(__dirname, '../..');
    const program = path.join(__dirname, 'program.ts');
    const child = spawn(process.execPath, [path.join(root, 'scripts/run-ts.js'), program, name, weights]);
    let output = '';
    child.stdout.on('data', (data) => (output += data));
    child.stderr.on('data', (data) => (output += data));
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, output }));
  });
}

test.each([
  ['exit', 7],
  ['throw', 1],
  ['finish', 0],
  ['leave-open', 0],
  ['worker-terminate', 0],
  ['worker-exit', 0],
  ['workers', 0],
])('%s: the process ends with code %i, and no crash', async (name, code) => {
  const result = await run(name);
  expect(result).toMatchObject({ code, signal: null });
  expect(result.output).toContain(name === 'throw' ? 'thrown in mid-job' : `${name}: as planned`);
});

/** A training that is killed and goes on gives what one gives that was never stopped. */
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { allModes, type Mode } from '../../src/checkpoint/model-file';
import { runFiles } from '../../src/training/trainer';
import { type Finished, glnet } from '../support/command';
import { tinyTraining, writeTinyDataset } from '../support/tiny-dataset';

const steps = 30;
let folder: string;
const at = (...names: string[]): string => path.join(folder, ...names);
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'glnet-train-'));
  await writeTinyDataset(at('data'));
  await writeFile(at('train.json'), JSON.stringify({ ...tinyTraining, steps, patchesPerScene: 3 }));
});
afterAll(() => rm(folder, { recursive: true }));

type Signal = 'SIGKILL' | 'SIGINT';

/** The lines of a phase's metrics, without what depends on the clock. */
function metrics(run: string, phase: Mode): unknown[] {
  const file = at(run, runFiles.metrics(phase));
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line.endsWith('}'))
    .map((line) => {
      const { seconds, waited, poolPeakBytes, ...rest } = JSON.parse(line) as Record<string, unknown>;
      return rest;
    });
}

/** Trains; sends a signal once a phase has logged some lines. */
async function train(run: string, stop?: { phase: Mode; lines: number; signal: Signal }): Promise<Finished> {
  const args = ['train', '-d', at('data'), '-o', at(run), '--all-phases', '-c', at('train.json')];
  if (existsSync(at(run))) args.push('--resume');
  let timer: NodeJS.Timeout | undefined;
  try {
    return await glnet([...args, '--threads', '1'], {
      onStart(child) {
        if (!stop) return;
        timer = setInterval(() => {
          if (metrics(run, stop.phase).length < stop.lines) return;
          clearInterval(timer);
          child.kill(stop.signal);
        }, 5);
      },
    });
  } finally {
    clearInterval(timer);
  }
}

test('killed or interrupted in each phase, a training goes on as if it had not been', async () => {
  const whole = await train('whole');
  expect(whole).toMatchObject({ code: 0 });

  const stops: { phase: Mode; lines: number; signal: Signal; code: number | null }[] = [
    { phase: 'global', lines: 6, signal: 'SIGKILL', code: null },
    { phase: 'global', lines: 14, signal: 'SIGINT', code: 130 },
    { phase: 'global-to-local', lines: 9, signal: 'SIGKILL', code: null },
    { phase: 'bidirectional', lines: 11, signal: 'SIGKILL', code: null },
    { phase: 'bidirectional', lines: 18, signal: 'SIGINT', code: 130 },
  ];
  for (const { code, ...stop } of stops) {
    const stopped = await train('stopped', stop);
    expect(stopped.code).toBe(code);
    expect(metrics('stopped', stop.phase).length).toBeLessThan(steps);
  }
  expect(await train('stopped')).toMatchObject({ code: 0 });
  expect((await readdir(at('stopped'))).filter((name) => name.endsWith('.tmp'))).toEqual([]);

  for (const phase of allModes) {
    expect(metrics('whole', phase).length).toBeGreaterThan(steps);
    expect(metrics('stopped', phase)).toEqual(metrics('whole', phase));
  }
  const model = (run: string) => readFileSync(at(run, runFiles.model));
  expect(Buffer.compare(model('stopped'), model('whole'))).toBe(0);
}, 900_000);

test('a run is not begun anew over another, nor gone on with under other settings', async () => {
  const again = await glnet([
    'train',
    '-d',
    at('data'),
    '-o',
    at('whole'),
    '--all-phases',
    '-c',
    at('train.json'),
  ]);
  expect(again).toMatchObject({ code: 2, stderr: expect.stringContaining('--resume') });
  const other = await glnet([
    ...['train', '-d', at('data'), '-o', at('whole'), '--all-phases', '-c', at('train.json')],
    ...['--resume', '--learning-rate', '0.5'],
  ]);
  expect(other).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('other settings, data or weights (learningRate)'),
  });
});

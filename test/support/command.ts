/** Runs `glnet` as a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';

const root = path.join(__dirname, '../..');
const start = [path.join(root, 'scripts/run-ts.js'), path.join(root, 'src/cli/main.ts')];

export interface Finished {
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** Called with the process and all that it wrote to standard error so far, whenever that grows. */
  onStderr?: (child: ChildProcess, stderr: string) => void;
  onStart?: (child: ChildProcess) => void;
}

export function glnet(
  args: readonly string[],
  { cwd, env, onStderr, onStart }: RunOptions = {},
): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...start, ...args], { cwd, env: { ...process.env, ...env } });
    const result: Finished = { code: null, stdout: '', stderr: '' };
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      result.stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      result.stderr += text;
      onStderr?.(child, result.stderr);
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ ...result, code }));
    onStart?.(child);
  });
}

/** PyTorch as a peer, where it is installed. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';

/** A Python that has PyTorch: Debian's package belongs to the system's, which need not be the first in the path. */
function findPython(): string | undefined {
  return ['python3', '/usr/bin/python3'].find((python) => {
    const { status } = spawnSync(python, ['-c', 'import torch'], { stdio: 'ignore' });
    return status === 0;
  });
}

/**
 * Runs a program of bench/peers in a process of its own.
 * @returns what it prints as JSON; undefined, with a note to the user, where there is no PyTorch
 */
export function runPyTorch<T>(program: string, flags: readonly string[]): T | undefined {
  const python = findPython();
  if (!python) {
    console.error('bench: no figures of PyTorch, which is not installed (Debian: python3-torch)');
    return undefined;
  }
  const { stdout, status } = spawnSync(
    python,
    [path.join(__dirname, '../peers', program), ...flags, '--json'],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  if (status !== 0) throw new Error(`PyTorch's process ended with ${status}`);
  return JSON.parse(stdout.toString()) as T;
}

import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import os from 'node:os';
import { binding } from '../../src/binding';

/** Writes what a benchmark found as JSON, with the machine, the versions and the commit that it was found on. */
export function save(file: string, found: Readonly<Record<string, unknown>>): void {
  const git = spawnSync('git', ['rev-parse', 'HEAD'], { cwd: __dirname });
  const { oneDNN, isa } = binding().machine();
  const machine = { cpu: os.cpus()[0]?.model, cores: os.availableParallelism(), memory: os.totalmem(), isa };
  const versions = { node: process.versions.node, oneDNN, commit: git.stdout.toString().trim() };
  writeFileSync(file, `${JSON.stringify({ machine, versions, ...found }, undefined, 1)}\n`);
}

/**
 * Runs benchmarks.
 *
 *   npm run bench                          the suite: ops, then whole segmentations beside their peers
 *   npm run bench -- --out bench/results   the suite, each result as JSON in that folder
 *   npm run bench -- bench/model.ts ...    one of them, or another program of this folder, with its options
 *   npm run bench -- bench/model.ts --help what it does, and its options
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

const suite = [
  ['bench/ops.ts', []],
  ['bench/model.ts', ['--precision=float32,bfloat16']],
] as const;

/** @returns the program's exit code */
function run(program: string, flags: readonly string[]): number {
  const args = [path.join(__dirname, '../scripts/run-ts.js'), program, ...flags];
  return spawnSync(process.execPath, args, { stdio: 'inherit' }).status ?? 1;
}

/** What a program says of itself: the comment that it begins with. */
function help(program: string): string {
  const [, comment = ''] = /^\/\*\*\n([\s\S]*?)\n \*\//.exec(readFileSync(program, 'utf8')) ?? [];
  return comment.replaceAll(/^ \* ?/gm, '');
}

function programs(): string[] {
  const files = readdirSync(__dirname).filter((name) => name.endsWith('.ts') && name !== 'run.ts');
  return files.map((name) => `bench/${name}`);
}

const [first, ...rest] = process.argv.slice(2);
if (first?.endsWith('.ts') && !existsSync(first)) {
  console.error(`bench: there is no program ${first}; expected one of ${programs().join(', ')}`);
  process.exitCode = 2;
} else if (first === '--help' || rest.includes('--help')) {
  console.log(help(first?.endsWith('.ts') ? first : __filename));
} else if (first?.endsWith('.ts')) {
  process.exitCode = run(first, rest);
} else if (first === undefined || (first === '--out' && rest.length === 1)) {
  for (const [program, flags] of suite) {
    const out = first && [`--out=${path.join(rest[0]!, `${path.basename(program, '.ts')}.json`)}`];
    console.log(`\n== ${program}`);
    const status = run(program, [...flags, ...(out ?? [])]);
    if (status !== 0) process.exitCode = status;
  }
} else {
  console.error(
    'bench: name a program, for example: npm run bench -- bench/model.ts; without one the suite runs',
  );
  process.exitCode = 2;
}

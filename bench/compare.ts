/**
 * Compares two results of the same benchmark: each figure of both, and the second as a multiple of the first. Says what
 * else differs, the machine above all.
 *
 *   npm run bench -- bench/compare.ts before.json after.json
 */
import { readFileSync } from 'node:fs';
import { formatBytes, formatColumns, formatSeconds } from '../src/cli/format';
import { compare } from './support/compare';

function read(file: string) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new Error(`${file}: ${(error as Error).message}; expected what a benchmark wrote with --out`);
  }
}

/** By what the name says. */
function format(name: string, value: number): string {
  if (/milliseconds/.test(name)) return `${value.toPrecision(3)} ms`;
  if (/seconds/i.test(name) && !/PerSecond/.test(name)) return formatSeconds(value);
  if (/bytes|weights|activations|staging|total|reserved/i.test(name)) return formatBytes(value);
  return String(Math.round(value * 1000) / 1000);
}

try {
  const files = process.argv.slice(2);
  if (files.length !== 2) {
    throw new Error('expected two files: npm run bench -- bench/compare.ts before.json after.json');
  }
  const { conditions, figures, missing } = compare(read(files[0]!), read(files[1]!));
  for (const condition of conditions) console.log(`differs: ${condition}`);
  for (const name of missing) console.log(`only in one: ${name}`);
  if (figures.length === 0) throw new Error(`${files.join(' and ')} have no figure in common`);
  console.log(
    formatColumns(
      figures.map(({ name, before, after }) => [
        name,
        format(name, before),
        format(name, after),
        before === 0 ? '' : `x ${(after / before).toFixed(3)}`,
      ]),
    ),
  );
} catch (error) {
  console.error(`compare: ${(error as Error).message}`);
  process.exitCode = 2;
}

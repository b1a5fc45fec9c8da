/** What all experiments share: options, the folder of results, and where the figures come from. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { binding } from '../../src/binding';
import { exitCodeOf, formatBytes } from '../../src/cli/format';
import { catchInterrupts } from '../../src/cli/interrupt';
import { GlnetError } from '../../src/errors';

export interface Experiment {
  readonly name: string;
  /** The data set's folder; undefined for experiments that make their own. */
  readonly data: string | undefined;
  readonly seeds: readonly number[];
  /** Factor on the steps of all phases. */
  readonly scale: number;
  /** Variants that are wanted; undefined: all. */
  readonly only: readonly string[] | undefined;
  /** Where all of it is written. */
  readonly out: string;
  /** Stops after the step in progress; run again, the experiment goes on there. */
  readonly signal: AbortSignal;
}

export interface ExperimentOptions {
  readonly name: string;
  /** What the argument DATA must hold; without it the experiment takes none. */
  readonly data?: string;
  /** Default of `--seeds`. */
  readonly seeds: readonly number[];
  /** What `--only` may name. */
  readonly variants?: readonly string[];
}

/** Runs an experiment as a program: reads its options, shows its errors, sets the exit code. */
export function runExperiment(
  options: ExperimentOptions,
  run: (experiment: Experiment) => Promise<void>,
): void {
  const interrupt = catchInterrupts(() =>
    console.error('experiment: stopping after this step; press Ctrl-C again to end at once'),
  );
  const start = async () =>
    run({ ...parseOptions(options, process.argv.slice(2)), signal: interrupt.signal });
  start()
    .catch((error: Error) => {
      const stopped = interrupt.signal.aborted && (error as GlnetError).code === 'ERR_ABORTED';
      console.error(
        stopped
          ? 'experiment: stopped; the same command goes on where it was'
          : `experiment: ${process.env.GLNET_DEBUG === '1' ? error.stack : error.message}`,
      );
      process.exitCode = interrupt.exitCode ?? exitCodeOf(error);
    })
    .finally(() => interrupt.release());
}

/** @throws GlnetError ERR_INVALID_ARGUMENT naming what is wrong. */
export function parseOptions(
  { name, data, seeds, variants }: ExperimentOptions,
  args: readonly string[],
): Omit<Experiment, 'signal'> {
  const usage = `usage: npm run experiment -- ${name}${data === undefined ? '' : ' DATA'} [--seeds ${seeds}] [--scale 1]${variants ? ` [--only ${variants}]` : ''} [--out DIR]`;
  const fail = (message: string): never => {
    throw new GlnetError('ERR_INVALID_ARGUMENT', `${message}\n${usage}`);
  };
  const { values, positionals } = (() => {
    try {
      return parseArgs({
        args: [...args],
        allowPositionals: true,
        options: {
          seeds: { type: 'string', default: seeds.join() },
          scale: { type: 'string', default: '1' },
          only: { type: 'string' },
          out: { type: 'string' },
        },
      });
    } catch (error) {
      return fail((error as Error).message);
    }
  })();
  const [folder, ...more] = positionals;
  if (data !== undefined && folder === undefined) fail(`no data folder was given; expected ${data}`);
  if (data === undefined && folder !== undefined)
    fail(`${folder}: this experiment makes its own data; expected no folder`);
  if (more.length > 0) fail(`${more.join(' ')}: expected one data folder`);

  const chosen = values.seeds.split(',').map(Number);
  const isSeed = (seed: number, i: number) =>
    Number.isInteger(seed) && seed >= 0 && seed <= 0xffffffff && chosen.indexOf(seed) === i;
  if (!chosen.every(isSeed) || values.seeds.trim() === '')
    fail(`--seeds is ${values.seeds}; expected different whole numbers from 0, such as 0,1,2`);
  const scale = Number(values.scale);
  if (!(scale > 0 && scale <= 1)) fail(`--scale is ${values.scale}; expected a number above 0, at most 1`);
  const only = values.only?.split(',');
  if (only && !variants) fail('--only was given, but this experiment has no variants; leave it out');
  const unknown = only?.filter((id) => !variants!.includes(id)) ?? [];
  if (unknown.length > 0)
    fail(`--only names ${unknown.join(', ')}; expected some of ${variants!.join(', ')}`);
  return {
    name,
    data: folder,
    seeds: chosen,
    scale,
    only,
    // A run-through must never be taken for the experiment.
    out: values.out ?? path.join('out', 'experiments', scale === 1 ? name : `${name}-scale-${scale}`),
  };
}

/** Where figures come from. */
export function provenance(): {
  readonly machine: { cpu: string | undefined; cores: number; memory: number; isa: string };
  readonly versions: { glnet: string; node: string; oneDNN: string; commit: string };
} {
  const root = path.join(__dirname, '../..');
  const git = (...args: string[]) =>
    spawnSync('git', args, { cwd: root, encoding: 'utf8' }).stdout?.trim() ?? '';
  const { version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as {
    version: string;
  };
  const { oneDNN, isa } = binding().machine();
  const changed = git('status', '--porcelain', '--untracked-files=no') !== '';
  return {
    machine: { cpu: os.cpus()[0]?.model, cores: os.availableParallelism(), memory: os.totalmem(), isa },
    versions: {
      glnet: version,
      node: process.versions.node,
      oneDNN,
      commit: (git('rev-parse', 'HEAD') || 'unknown') + (changed ? ' (with changes)' : ''),
    },
  };
}

/**
 * Writes `table.md` and `results.json`, and shows the table.
 * @param runs what was computed, now or when the program was run before
 */
export function writeReport(
  { name, out, scale, seeds }: Experiment,
  title: string,
  runs: readonly { readonly commit: string }[],
  sections: readonly string[],
  results: object,
): void {
  const { machine, versions } = provenance();
  const commits = [...new Set(runs.map(({ commit }) => commit))];
  const notes = [
    ...(scale === 1 ? [] : [`**A run-through with ${scale} of the steps: its figures mean nothing.**`]),
    `Seeds ${seeds.join(', ')}. ${machine.cores} cores of ${machine.cpu} (${machine.isa}), ${formatBytes(machine.memory)}; ` +
      `glnet ${versions.glnet}, commit ${commits.join(' and ')}, Node.js ${versions.node}, oneDNN ${versions.oneDNN}.`,
  ];
  const text = `${[`# ${title}`, ...notes, ...sections].join('\n\n')}\n`;
  mkdirSync(out, { recursive: true });
  writeFileSync(path.join(out, 'table.md'), text);
  const json = { experiment: name, machine, versions: { ...versions, commits }, seeds, scale, ...results };
  writeFileSync(path.join(out, 'results.json'), `${JSON.stringify(json, undefined, 1)}\n`);
  console.log(`\n${text}\n${path.join(out, 'table.md')}, results.json and pictures/ are written`);
}

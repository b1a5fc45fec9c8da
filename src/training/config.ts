/** What a training run is told: a JSON file, some of whose fields the command's options override. */
import { readFile } from 'node:fs/promises';
import type { z } from 'zod';
import { fileError } from '../checkpoint/file';
import type { Mode } from '../checkpoint/model-file';
import { GlnetError } from '../errors';
import { rateAt, type Schedule, scheduleProblems } from '../nn/schedules';
import { defaultTerms } from './phases';
import type { PhaseFields, schema } from './schema';

/** The reference implementation's, but for γ, which is the paper's. */
const phaseDefaults: PhaseFields = {
  batch: 6,
  patchBatch: 6,
  schedule: { kind: 'polynomial' },
  optimiser: { type: 'adam', weightDecay: 5e-4 },
  losses: [{ type: 'focal', gamma: 6 }],
  lambda: 0.15,
  saveEvery: 100,
  checkpointing: true,
};

type Resolved =
  | 'batch'
  | 'patchBatch'
  | 'schedule'
  | 'optimiser'
  | 'losses'
  | 'lambda'
  | 'saveEvery'
  | 'checkpointing'
  | 'learningRate'
  | 'terms';
/** A phase's settings, everything resolved. */
export type PhaseConfig = Omit<PhaseFields, Resolved> & {
  readonly [Key in Resolved]-?: NonNullable<PhaseFields[Key]>;
};

export type TrainConfig = z.output<typeof schema>;

/** Learning rates and epochs of the reference implementation. */
const reference: Readonly<Record<Mode, { learningRate: number; epochs: number }>> = {
  global: { learningRate: 5e-5, epochs: 120 },
  'global-to-local': { learningRate: 2e-5, epochs: 50 },
  bidirectional: { learningRate: 5e-5, epochs: 120 },
};

/**
 * Checks a configuration and completes it with the defaults.
 * @param source names it in the errors
 * @throws GlnetError ERR_INVALID_ARGUMENT with every wrong field named.
 */
export function parseTrainConfig(value: unknown, source = 'the configuration'): TrainConfig {
  const { schema } = require('./schema') as typeof import('./schema');
  const result = schema.safeParse(value, { reportInput: true });
  if (result.success) return result.data;
  const problems = result.error.issues.map(({ path, message, input }) => {
    // Of what holds other fields, these are named by themselves.
    const value = typeof input === 'object' || input === undefined ? '' : ` (it is ${JSON.stringify(input)})`;
    return `${path.join('.') || 'it'}: ${message}${value}`;
  });
  throw new GlnetError('ERR_INVALID_ARGUMENT', [`${source} is wrong:`, ...problems].join('\n  '));
}

/**
 * Reads a file for {@link parseTrainConfig}.
 * @throws GlnetError ERR_FILE if it can't be read, or not as JSON.
 */
export async function readTrainConfig(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw fileError(path, 'read it', cause);
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new GlnetError('ERR_FILE', `${path}: can't be read as JSON: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/** What holds for a phase. */
export function phaseConfig(config: TrainConfig, phase: Mode): PhaseConfig {
  const { phaseFields } = require('./schema') as typeof import('./schema');
  const own = given(config.phases[phase] ?? {});
  const common = given(
    Object.fromEntries(Object.keys(phaseFields).map((key) => [key, config[key as keyof PhaseFields]])),
  );
  const { steps, epochs, ...rest }: PhaseFields = {
    ...phaseDefaults,
    learningRate: reference[phase].learningRate,
    terms: [...defaultTerms[phase]],
    ...common,
    ...own,
  };
  // A phase that says how long it takes in one unit drops what the rest says in the other.
  const length = 'steps' in own ? { steps } : 'epochs' in own ? { epochs } : { steps, epochs };
  if (length.steps === undefined && length.epochs === undefined) length.epochs = reference[phase].epochs;
  return { ...rest, ...length } as PhaseConfig;
}

function given(fields: object): Partial<PhaseFields> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

/** Steps of a phase, and steps of an epoch. */
export function lengthOf(phase: PhaseConfig, images: number): { steps: number; epoch: number } {
  const epoch = Math.max(1, Math.ceil(images / phase.batch));
  return { steps: phase.steps ?? Math.max(1, Math.round(phase.epochs! * epoch)), epoch };
}

/** The learning rate of a step, counted from 0. */
export function learningRate(
  { schedule: course, learningRate: rate }: PhaseConfig,
  step: number,
  steps: number,
): number {
  return rateAt({ ...course, rate } as Schedule, step, steps);
}

/** A line for each setting of a phase that fits neither the phase nor the data. */
export function phaseProblems(phase: Mode, config: PhaseConfig, steps: number, classes: number): string[] {
  const { schedule: course, learningRate: rate, classWeights, losses, terms } = config;
  const problems = scheduleProblems({ ...course, rate }, `phase ${phase}: schedule`);
  if ((course.warmup ?? 0) >= steps) {
    problems.push(
      `phase ${phase}: schedule.warmup is ${course.warmup}, expected fewer than its ${steps} steps`,
    );
  }
  if (classWeights && classWeights.length !== classes) {
    problems.push(
      `phase ${phase}: classWeights has ${classWeights.length} numbers, expected ${classes}, one for each class`,
    );
  }
  if (classWeights && losses.every(({ type }) => type === 'lovasz')) {
    problems.push(`phase ${phase}: classWeights are given, and its only loss is lovasz, which takes none`);
  }
  const possible = defaultTerms[phase];
  if (phase !== 'global' && !terms.some((term) => possible.includes(term))) {
    problems.push(
      `phase ${phase}: terms is ${JSON.stringify(terms)}, expected at least one of ${possible.join(', ')}`,
    );
  }
  return problems;
}

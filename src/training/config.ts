/** What a training run is told: a JSON file, some of whose fields the command's options override. */
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { fileError } from '../checkpoint/file';
import { allModes, type Mode } from '../checkpoint/model-file';
import { GlnetError } from '../errors';
import { allSharing, type Backbone, backbones } from '../models/parameters';
import { rateAt, type Schedule, scheduleProblems } from '../nn/schedules';
import { lossNames } from './losses';
import { defaultTerms } from './phases';

const positive = z.number().int().positive();
/** Of a running average. */
const decayRate = z.number().min(0).lt(1);
const side = positive.multipleOf(4);

const optimiser = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('adam'),
    betas: z.tuple([decayRate, decayRate]).optional(),
    epsilon: z.number().positive().optional(),
    weightDecay: z.number().min(0).default(5e-4),
  }),
  z
    .strictObject({
      type: z.literal('sgd'),
      momentum: decayRate.optional(),
      nesterov: z.boolean().optional(),
      weightDecay: z.number().min(0).default(5e-4),
    })
    .refine(({ momentum, nesterov }) => !nesterov || momentum !== 0, 'nesterov needs a momentum above 0'),
]);

/** A learning rate's course without the rate itself. */
export type Course = Schedule extends infer One ? (One extends Schedule ? Omit<One, 'rate'> : never) : never;

const schedule = z.custom<Course>().superRefine((value, context) => {
  const course = typeof value === 'object' && value !== null ? { ...value, rate: Number.MAX_VALUE } : value;
  for (const problem of scheduleProblems(course)) {
    const [, field, message] = /^schedule(?:\.(\w+))? (.*)$/.exec(problem)!;
    context.addIssue({ code: 'custom', path: field ? [field] : [], message: message! });
  }
});

const loss = z.strictObject({
  type: z.enum(lossNames),
  weight: z.number().positive().optional(),
  gamma: z.number().min(0).optional(),
});

/** What may differ from phase to phase; see {@link phaseDefaults}. */
const phaseFields = {
  /** Either `steps` of the optimiser or `epochs` over the data; default the reference's epochs. */
  steps: positive.optional(),
  epochs: z.number().positive().optional(),
  /** Scenes of a step. */
  batch: positive.optional(),
  /** The most patches at a time. */
  patchBatch: positive.optional(),
  /** Patches of each scene that are trained on, drawn anew each time; default all. Phases 2 and 3. */
  patchesPerScene: positive.optional(),
  /** Default the reference's of the phase. */
  learningRate: z.number().positive().optional(),
  schedule: schedule.optional(),
  optimiser: optimiser.optional(),
  /** Largest norm of the whole gradient; larger ones are scaled down to it. Default no limit. */
  clip: z.number().positive().optional(),
  losses: z.array(loss).min(1).optional(),
  /** Factors on the classes' terms. */
  classWeights: z
    .array(z.number().min(0))
    .refine((weights) => weights.some((weight) => weight > 0), 'expected at least one number above 0')
    .optional(),
  /** λ of the feature regulariser. */
  lambda: z.number().min(0).optional(),
  /** Which outputs' losses are minimised, of those that the phase has; default as in the paper. Phases 2 and 3. */
  terms: z
    .array(z.enum(['global', 'local', 'ensemble', 'feature']))
    .min(1)
    .optional(),
  /** Evaluate every so many steps, and after the last; 0: only after the last. Default once an epoch. */
  evaluateEvery: z.number().int().min(0).optional(),
  /** Stop when this many evaluations in a row brought nothing better. Default never. */
  patience: positive.optional(),
  /** Save the state every so many steps, beside every evaluation. */
  saveEvery: positive.optional(),
  /** Recompute activations in the walk back rather than keep them: a tenth slower, two thirds of the memory. Default true. */
  checkpointing: z.boolean().optional(),
};

const oneLength = { path: ['epochs'], message: 'cannot be given beside steps: give one of the two' };
function hasOneLength({ steps, epochs }: { steps?: unknown; epochs?: unknown }): boolean {
  return steps === undefined || epochs === undefined;
}

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

const schema = z
  .strictObject({
    model: z
      .strictObject({
        backbone: z.enum(Object.keys(backbones) as [Backbone, ...Backbone[]]).default('resnet50'),
        width: z.number().positive().default(1),
        fpn: z
          .strictObject({ channels: positive.default(256), smooth: positive.default(128) })
          .default({ channels: 256, smooth: 128 }),
        patch: side.min(52).default(508),
        global: side.min(64).default(508),
        sharing: z.enum(allSharing as [(typeof allSharing)[number]]).default('deep'),
      })
      .prefault({}),
    /** A scene is a whole image, or a square of so many pixels at a random place of one. */
    scene: z.union([z.literal('image'), positive]).default('image'),
    /** A flip with probability 1/2, then a quarter turn or more with probability 1/2. */
    augment: z.boolean().default(true),
    seed: z.number().int().min(0).max(0xffffffff).default(0),
    /** Patches only within the box of the foreground, widened by `margin` times its longer side. */
    coarseToFine: z.strictObject({ margin: z.number().min(0).default(0.1) }).optional(),
    ...phaseFields,
    /** Overrides for single phases. */
    phases: z
      .partialRecord(
        z.enum(allModes as [Mode]),
        z.strictObject(phaseFields).partial().refine(hasOneLength, oneLength),
      )
      .default({}),
  })
  .refine(hasOneLength, oneLength);

type Schema = z.output<typeof schema>;

type PhaseFields = z.output<z.ZodObject<typeof phaseFields>>;
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

export type TrainConfig = Schema;

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

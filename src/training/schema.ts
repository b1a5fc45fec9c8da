/** What a training configuration may hold. Apart from what reads it, since zod takes 5 MB and 40 ms to load. */
import { z } from 'zod';
import { allModes, type Mode } from '../checkpoint/model-file';
import { allSharing, type Backbone, backbones } from '../models/parameters';
import { type Schedule, scheduleProblems } from '../nn/schedules';
import { lossNames } from './losses';

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

/** What may differ from phase to phase; see config.ts. */
export const phaseFields = {
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

export const schema = z
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

export type PhaseFields = z.output<z.ZodObject<typeof phaseFields>>;

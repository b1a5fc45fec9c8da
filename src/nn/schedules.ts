/** Learning rates over the steps of a training: a warm-up, then a decay. */
import { GlnetError } from '../errors';

interface Common {
  /** The highest rate, greater than 0: that of the first step after the warm-up. */
  readonly rate: number;
  /** Steps in which the rate rises linearly to `rate`, 0 or more; fewer than the training has. Default 0. */
  readonly warmup?: number;
}

/** The rate stays. */
export interface ConstantSchedule extends Common {
  readonly kind: 'constant';
}

/** rate · (1 - t)^power, where t is the part of the steps after the warm-up that are done: in [0, 1). */
export interface PolynomialSchedule extends Common {
  readonly kind: 'polynomial';
  /** Greater than 0. Default 0.9, as GLNet is trained. */
  readonly power?: number;
}

/** Half a cosine from `rate` down to `floor` (Loshchilov and Hutter, "SGDR", 2017, without restarts). */
export interface CosineSchedule extends Common {
  readonly kind: 'cosine';
  /** From 0 to `rate`. Default 0. */
  readonly floor?: number;
}

/** The rate is multiplied by `factor` at each of the times `at`. */
export interface StepSchedule extends Common {
  readonly kind: 'step';
  /**
   * Parts of the whole training, warm-up included: ascending numbers between 0 and 1, such as [0.6, 0.85]. A time
   * between two steps is that of the nearer one.
   */
  readonly at: readonly number[];
  /** Greater than 0 and at most 1. Default 0.1. */
  readonly factor?: number;
}

export type Schedule = ConstantSchedule | PolynomialSchedule | CosineSchedule | StepSchedule;

const defaults = { warmup: 0, power: 0.9, floor: 0, factor: 0.1 } as const;

/** The fields that each kind has besides `kind`, `rate` and `warmup`. */
const ownFields: Readonly<Record<Schedule['kind'], readonly string[]>> = {
  constant: [],
  polynomial: ['power'],
  cosine: ['floor'],
  step: ['at', 'factor'],
};

/**
 * The learning rate of a step. In a warm-up of n steps, step i takes (i + 1) / (n + 1) of the rate, so that the first
 * step learns already and step n is the first at the full rate; the decay spans the steps after the warm-up.
 *
 * @param schedule valid by {@link scheduleProblems}
 * @param step from 0 to `total - 1`
 * @param total steps of the training, at least 1
 * @throws GlnetError ERR_INVALID_ARGUMENT for a step or a total out of range, or a warm-up that leaves no step
 */
export function rateAt(schedule: Schedule, step: number, total: number): number {
  const { rate, warmup = defaults.warmup } = schedule;
  if (!Number.isInteger(total) || total < 1) invalid('total', total, 'a whole number of steps, at least 1');
  if (!Number.isInteger(step) || step < 0 || step >= total) {
    invalid('step', step, `an integer from 0 to ${total - 1}`);
  }
  if (warmup >= total) invalid('warmup', warmup, `fewer than the ${total} steps of the training`);
  if (step < warmup) return (rate * (step + 1)) / (warmup + 1);

  const done = (step - warmup) / (total - warmup);
  switch (schedule.kind) {
    case 'constant':
      return rate;
    case 'polynomial':
      return rate * (1 - done) ** (schedule.power ?? defaults.power);
    case 'cosine': {
      const floor = schedule.floor ?? defaults.floor;
      return floor + (rate - floor) * 0.5 * (1 + Math.cos(Math.PI * done));
    }
    case 'step': {
      const passed = schedule.at.filter((time) => step >= Math.round(time * total)).length;
      return rate * (schedule.factor ?? defaults.factor) ** passed;
    }
  }
}

/**
 * A line for each wrong field of a schedule, as a configuration file may hold it; none if it is a {@link Schedule}.
 * @param name what the lines call the schedule, such as `optimizer.schedule`
 */
export function scheduleProblems(value: unknown, name = 'schedule'): string[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return [`${name} is ${JSON.stringify(value)}, expected an object with "kind" and "rate"`];
  }
  const fields = value as Readonly<Record<string, unknown>>;
  const problems: string[] = [];
  const expect = (valid: boolean, field: string, expected: string): void => {
    if (!valid) problems.push(`${name}.${field} is ${JSON.stringify(fields[field])}, expected ${expected}`);
  };
  const isNumber = (found: unknown): found is number => typeof found === 'number' && Number.isFinite(found);

  const { kind, rate, warmup = defaults.warmup } = fields;
  const kinds = Object.keys(ownFields);
  if (!(typeof kind === 'string' && kinds.includes(kind))) {
    expect(false, 'kind', `one of ${kinds.join(', ')}`);
    return problems;
  }
  const known = ['kind', 'rate', 'warmup', ...ownFields[kind as Schedule['kind']]];
  for (const field of Object.keys(fields)) {
    if (!known.includes(field)) {
      problems.push(`${name}.${field} is not a field of the kind ${kind}, which has ${known.join(', ')}`);
    }
  }

  expect(isNumber(rate) && rate > 0, 'rate', 'a number greater than 0');
  expect(Number.isSafeInteger(warmup) && Number(warmup) >= 0, 'warmup', 'a whole number of steps, 0 or more');
  const { power = defaults.power, floor = defaults.floor, factor = defaults.factor, at } = fields;
  if (kind === 'polynomial') expect(isNumber(power) && power > 0, 'power', 'a number greater than 0');
  if (kind === 'cosine') {
    expect(isNumber(floor) && floor >= 0 && floor <= Number(rate), 'floor', 'a number from 0 to the rate');
  }
  if (kind === 'step') {
    const times: readonly unknown[] = Array.isArray(at) ? at : [];
    const ascend = times.every(
      (time, i) => isNumber(time) && time > (i === 0 ? 0 : Number(times[i - 1])) && time < 1,
    );
    expect(
      times.length > 0 && ascend,
      'at',
      'ascending parts of the training between 0 and 1, such as [0.6, 0.85]',
    );
    expect(isNumber(factor) && factor > 0 && factor <= 1, 'factor', 'a number greater than 0 and at most 1');
  }
  return problems;
}

function invalid(name: string, found: number, expected: string): never {
  throw new GlnetError('ERR_INVALID_ARGUMENT', `${name} is ${found}; expected ${expected}`);
}

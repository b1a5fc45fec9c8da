import { rateAt, type Schedule, scheduleProblems } from '../../../src/nn/schedules';

const invalid = expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' });

function rates(schedule: Schedule, total: number): number[] {
  return Array.from({ length: total }, (_, step) => rateAt(schedule, step, total));
}

function expectRates(schedule: Schedule, expected: readonly number[]): void {
  const found = rates(schedule, expected.length);
  expected.forEach((rate, i) => {
    expect([i, found[i]]).toEqual([i, expect.closeTo(rate, 12)]);
  });
}

test('constant', () => {
  expectRates({ kind: 'constant', rate: 0.5 }, [0.5, 0.5, 0.5]);
  expectRates({ kind: 'constant', rate: 0.8, warmup: 3 }, [0.2, 0.4, 0.6, 0.8, 0.8]);
});

test('polynomial', () => {
  expectRates({ kind: 'polynomial', rate: 3, power: 2 }, [3, 3 * 0.5625, 0.75, 0.1875]);
  // 0.75^0.9, 0.5^0.9, 0.25^0.9
  expectRates({ kind: 'polynomial', rate: 1 }, [1, 0.77188950672357, 0.535886731268147, 0.287174588749259]);
  // The decay spans the four steps after the warm-up.
  expectRates({ kind: 'polynomial', rate: 3, power: 1, warmup: 2 }, [1, 2, 3, 2.25, 1.5, 0.75]);
});

test('cosine', () => {
  // cos of 0, 60 and 120 degrees
  expectRates({ kind: 'cosine', rate: 2 }, [2, 1.5, 0.5]);
  expectRates({ kind: 'cosine', rate: 2, floor: 1 }, [2, 1.75, 1.25]);
  expectRates({ kind: 'cosine', rate: 2, warmup: 1 }, [1, 2, 1.5, 0.5]);
});

test('step', () => {
  expectRates({ kind: 'step', rate: 1, at: [0.5, 0.75] }, [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]);
  expectRates({ kind: 'step', rate: 1, at: [0.5], factor: 0.5, warmup: 1 }, [0.5, 1, 0.5, 0.5]);
  // 0.55 · 100 is a little more than 55 in floating point.
  const schedule: Schedule = { kind: 'step', rate: 1, at: [0.55] };
  expect([54, 55].map((step) => rateAt(schedule, step, 100))).toEqual([1, 0.1]);
});

test('refuses steps outside of the training and a warm-up that fills it', () => {
  const schedule: Schedule = { kind: 'polynomial', rate: 1, warmup: 2 };
  for (const step of [-1, 10, 0.5, Number.NaN]) expect(() => rateAt(schedule, step, 10)).toThrow(invalid);
  for (const total of [0, -1, 1.5, Number.NaN]) expect(() => rateAt(schedule, 0, total)).toThrow(invalid);
  expect(() => rateAt(schedule, 0, 2)).toThrow('warmup is 2; expected fewer than the 2 steps');
  expect(rateAt(schedule, 2, 3)).toBe(1);
});

test.each([
  [null, 'schedule is null, expected an object'],
  [[], 'schedule is [], expected an object'],
  [{ rate: 1 }, 'schedule.kind is undefined, expected one of constant, polynomial, cosine, step'],
  [{ kind: 'toString', rate: 1 }, 'schedule.kind is "toString"'],
  [{ kind: 'constant' }, 'schedule.rate is undefined, expected a number greater than 0'],
  [{ kind: 'constant', rate: 0 }, 'schedule.rate is 0'],
  [{ kind: 'constant', rate: '1e-4' }, 'schedule.rate is "1e-4"'],
  [{ kind: 'constant', rate: 1, warmup: -1 }, 'schedule.warmup is -1'],
  [{ kind: 'constant', rate: 1, warmup: 1.5 }, 'schedule.warmup is 1.5'],
  [{ kind: 'constant', rate: 1, power: 2 }, 'schedule.power is not a field of the kind constant'],
  [{ kind: 'polynomial', rate: 1, power: 0 }, 'schedule.power is 0'],
  [{ kind: 'cosine', rate: 1, floor: 2 }, 'schedule.floor is 2, expected a number from 0 to the rate'],
  [{ kind: 'step', rate: 1 }, 'schedule.at is undefined'],
  [{ kind: 'step', rate: 1, at: [] }, 'schedule.at is []'],
  [{ kind: 'step', rate: 1, at: [0.5, 0.5] }, 'schedule.at is [0.5,0.5], expected ascending parts'],
  [{ kind: 'step', rate: 1, at: [0] }, 'schedule.at is [0]'],
  [{ kind: 'step', rate: 1, at: [30] }, 'schedule.at is [30]'],
  [{ kind: 'step', rate: 1, at: [0.5], factor: 2 }, 'schedule.factor is 2'],
])('names what is wrong with %j', (value, message) => {
  expect(scheduleProblems(value)).toEqual([expect.stringContaining(message)]);
});

test('names every wrong field, by the name that is given', () => {
  const value = { kind: 'cosine', rate: -1, warmup: 'long' };
  expect(scheduleProblems(value, 'phases.global.schedule').map((line) => line.split(' ')[0])).toEqual([
    'phases.global.schedule.rate',
    'phases.global.schedule.warmup',
    'phases.global.schedule.floor',
  ]);
});

test('accepts every kind', () => {
  const schedules: Schedule[] = [
    { kind: 'constant', rate: 1e-4 },
    { kind: 'polynomial', rate: 1e-4, power: 0.9, warmup: 10 },
    { kind: 'cosine', rate: 1e-4, floor: 1e-6 },
    { kind: 'step', rate: 1e-4, at: [0.6, 0.85], factor: 0.1 },
  ];
  for (const schedule of schedules) expect(scheduleProblems(schedule)).toEqual([]);
});

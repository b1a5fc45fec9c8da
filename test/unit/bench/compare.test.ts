import { compare } from '../../../bench/support/compare';

const result = (seconds: number, batch: number) => ({
  machine: { cpu: 'a' },
  settings: { batch },
  results: [
    { mode: 'global', precision: 'float32', seconds, reports: [{ seconds: 1 }], median: { bytes: 10 } },
    { mode: 'global', precision: 'bfloat16', seconds: 3, peer: null },
  ],
});

test('figures are paired by what they are of, whatever their order', () => {
  const before = result(4, 2);
  const after = { ...result(2, 2), results: [...result(2, 2).results].reverse() };
  expect(compare(before, after)).toEqual({
    conditions: [],
    figures: [
      { name: 'results.global float32.seconds', before: 4, after: 2 },
      { name: 'results.global float32.median.bytes', before: 10, after: 10 },
      { name: 'results.global bfloat16.seconds', before: 3, after: 3 },
    ],
    missing: [],
  });
});

test('what differs beside the figures is told, and what only one has', () => {
  const after = { ...result(4, 3), machine: { cpu: 'b', cores: 2 }, more: 1 };
  const { conditions, missing, figures } = compare(result(4, 2), after);
  expect(conditions).toEqual([
    'machine.cpu: a, then b',
    'settings.batch: 2, then 3',
    'machine.cores: none, then 2',
  ]);
  expect(missing).toEqual(['more']);
  expect(figures).toHaveLength(3);
});

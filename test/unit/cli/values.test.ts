/** What the command reads from its arguments, and how it writes numbers. */
import {
  formatBytes,
  formatClock,
  formatColumns,
  formatRate,
  formatSeconds,
  plural,
} from '../../../src/cli/format';
import {
  parseBands,
  parseBytes,
  parseChoices,
  parseClasses,
  parseCount,
  parseNames,
  parseStretch,
} from '../../../src/cli/parse';
import { Pace } from '../../../src/cli/progress';

test.each([
  ['1GB', 1e9],
  ['512MiB', 512 * 2 ** 20],
  ['2e9', 2e9],
  ['1.5 gib', 1.5 * 2 ** 30],
  ['64kB', 64000],
  ['100', 100],
  ['1e3MB', 1e9],
])('%s is %d bytes', (text, bytes) => {
  expect(parseBytes(text)).toBe(bytes);
});

test.each(['', '0', '-1GB', '1 G B', '1XB', 'GB', '0x10', '1e30', 'NaN', 'Infinity', '1constructor'])(
  '%j is no size',
  (text) => {
    expect(() => parseBytes(text)).toThrow(/Expected a size such as 1GB/);
  },
);

test('counts', () => {
  expect(parseCount('1e9')).toBe(1e9);
  for (const text of ['0', '-3', '1.5', '', ' ', 'x']) expect(() => parseCount(text)).toThrow(/whole number/);
});

test('bands, stretch and names', () => {
  expect(parseBands('4,3,2')).toEqual([4, 3, 2]);
  for (const text of ['1,2', '1,2,3,4', '0,1,2', 'r,g,b', ''])
    expect(() => parseBands(text)).toThrow(/counted from 1/);
  expect(parseStretch('0,3000.5')).toEqual([0, 3000.5]);
  expect(parseStretch('-5,5')).toEqual([-5, 5]);
  for (const text of ['1', '3,2', '2,2', ',5', '1,2,3', 'a,b']) {
    expect(() => parseStretch(text)).toThrow(/the lesser first/);
  }
  expect(parseNames('no building, building')).toEqual(['no building', 'building']);
  expect(() => parseNames('a,,b')).toThrow(/commas/);
});

test('classes and choices', () => {
  expect(parseClasses('0, 12,254')).toEqual([0, 12, 254]);
  for (const text of ['', 'a', '-1', '1.5', '0,,1', '255']) {
    expect(() => parseClasses(text)).toThrow(/class indices from 0/);
  }
  const parse = parseChoices(['red', 'blue']);
  expect([parse('red'), parse('blue, red')]).toEqual([['red'], ['blue', 'red']]);
  for (const text of ['', 'green', 'red,red', 'red,']) expect(() => parse(text)).toThrow(/some of red, blue/);
});

test('columns', () => {
  expect(
    formatColumns([
      ['name', 'n', 'last'],
      ['x', '100', ''],
      ['long name', '7', 'a'],
    ]),
  ).toBe('  name         n  last\n  x          100\n  long name    7     a');
  expect(
    formatColumns(
      [
        ['a', 'b'],
        ['aa', 'bb'],
      ],
      2,
    ),
  ).toBe('  a   b\n  aa  bb');
});

test('units', () => {
  expect([0, 999, 1000, 999_600, 1_870_000_000].map(formatBytes)).toEqual([
    '0 B',
    '999 B',
    '1.00 kB',
    '1.00 MB',
    '1.87 GB',
  ]);
  expect([0.004, 9.5, 59.96, 119.6, 3725].map(formatSeconds)).toEqual([
    '0.00 s',
    '9.50 s',
    '60.0 s',
    '2:00 min',
    '1:02:05 h',
  ]);
  expect([0, 8.4, 3599.9].map(formatClock)).toEqual(['0:00', '0:08', '1:00:00']);
  expect([0.6666, 3, 1234.5].map(formatRate)).toEqual(['0.667/s', '3/s', '1235/s']);
  expect([plural(1, 'patch'), plural(2, 'patch'), plural(0, 'image')]).toEqual([
    '1 patch',
    '2 patches',
    '0 images',
  ]);
});

test('the pace of patches counts from the end of the stage before', () => {
  let now = 0;
  const pace = new Pace(() => now);
  now = 1000;
  expect(pace.describe({ stage: 'read', done: 5, total: 10 })).toBe('reading rows 5/10');
  now = 2000;
  pace.describe({ stage: 'read', done: 10, total: 10 });
  now = 4000;
  expect(pace.describe({ stage: 'patches', done: 4, total: 36 })).toBe('patches 4/36  2/s  0:16 left');
  now = 6000;
  expect(pace.describe({ stage: 'patches', done: 12, total: 36 })).toBe('patches 12/36  3/s  0:08 left');
});

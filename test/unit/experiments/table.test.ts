import { parseOptions } from '../../../experiments/support/experiment';
import {
  formatSpread,
  markdownTable,
  type Named,
  orderStatement,
  signed,
  spreadOf,
} from '../../../experiments/support/table';

const named = (name: string, ...values: number[]): Named => ({ name, mIoU: spreadOf(values) });

test('a table has a rule under its head', () => {
  const rows = [
    ['', 'mIoU'],
    ['deep', '0.5'],
  ];
  expect(markdownTable(rows)).toBe('|  | mIoU |\n| --- | ---: |\n| deep | 0.5 |');
});

test('a spread is mean, lowest and highest', () => {
  const spread = spreadOf([0.5, 0.25, 0.75]);
  expect(spread).toEqual({ mean: 0.5, min: 0.25, max: 0.75, values: [0.5, 0.25, 0.75] });
  expect(formatSpread(spread, 2)).toBe('0.50 (0.25 to 0.75)');
  expect(formatSpread(spreadOf([0.5]), 2)).toBe('0.50');
  expect([signed(0.0125, 2), signed(-0.5, 1)]).toEqual(['+0.01', '-0.5']);
});

test('an order holds only where all seeds of one lie above all of the other', () => {
  const high = named('deep', 0.7, 0.74);
  const low = named('none', 0.6, 0.62);
  expect(orderStatement(high, low)).toMatchObject({
    verdict: 'as expected',
    text:
      'deep is above none: 0.720 and 0.610, difference +0.110 (+0.100 to +0.120); ' +
      'beyond the spread of the seeds, as expected',
  });
  expect(orderStatement(low, high)).toMatchObject({
    verdict: 'reversed',
    text: expect.stringMatching(/^none is below deep: .* -0\.110 .* against what was expected$/),
  });
  // Better with each seed, and yet the ranges meet.
  const wide = named('wide', 0.61, 0.72);
  const below = named('below', 0.6, 0.71);
  expect(orderStatement(wide, below)).toMatchObject({
    verdict: 'open',
    text: expect.stringMatching(/^wide is above below: .* no order is shown$/),
  });
});

test('differences are of equal seeds', () => {
  const { difference } = orderStatement(named('a', 0.5, 0.75), named('b', 0.75, 0.5));
  expect(difference.values).toEqual([-0.25, 0.25]);
  expect(difference.mean).toBe(0);
});

test('a single seed shows no order', () => {
  const { verdict, text } = orderStatement(named('a', 0.9), named('b', 0.1));
  expect(verdict).toBe('open');
  expect(text).toMatch(/difference \+0\.800; a single seed/);
});

describe('options of an experiment', () => {
  const own = { name: 'x', seeds: [0, 1], variants: ['deep', 'global'] };

  test('have defaults, and a run-through has a folder of its own', () => {
    expect(parseOptions(own, [])).toEqual({
      name: 'x',
      data: undefined,
      seeds: [0, 1],
      scale: 1,
      only: undefined,
      out: 'out/experiments/x',
    });
    const given = ['--scale', '0.5', '--seeds=3,1', '--only', 'deep', 'folder'];
    expect(parseOptions({ ...own, data: 'images' }, given)).toMatchObject({
      data: 'folder',
      seeds: [3, 1],
      scale: 0.5,
      only: ['deep'],
      out: 'out/experiments/x-scale-0.5',
    });
  });

  test.each([
    [['--scale', '0'], /--scale is 0; expected/],
    [['--scale', 'all'], /--scale is all; expected/],
    [['--seeds', '1,1'], /--seeds is 1,1; expected/],
    [['--seeds', ''], /--seeds is ; expected/],
    [['--seeds', '-1'], /--seeds/],
    [['--only', 'deep,shallow'], /--only names shallow; expected some of deep, global/],
    [['folder'], /folder: this experiment makes its own data/],
    [['--fast'], /Unknown option '--fast'/],
  ])('refuse %j', (args, message) => {
    expect(() => parseOptions(own, args)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT', message: expect.stringMatching(message) }),
    );
  });

  test('refuse --only where there are no variants', () => {
    expect(() => parseOptions({ name: 'x', seeds: [0] }, ['--only', 'deep'])).toThrow(/has no variants/);
  });

  test('ask for the data', () => {
    expect(() => parseOptions({ ...own, data: 'the images' }, [])).toThrow(/expected the images/);
  });
});

/** Figures over several seeds, and what may be said of them. */

export type Cells = readonly (readonly string[])[];

/** A table in Markdown: the first row is the head; the first column flush left, the others flush right. */
export function markdownTable(rows: Cells): string {
  const [head, ...body] = rows;
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const rule = head!.map((_, i) => (i === 0 ? '---' : '---:'));
  return [head!, rule, ...body].map(line).join('\n');
}

/** Values of several seeds. */
export interface Spread {
  readonly mean: number;
  readonly min: number;
  readonly max: number;
  /** In the order of the seeds. */
  readonly values: readonly number[];
}

/** @param values at least one */
export function spreadOf(values: readonly number[]): Spread {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return { mean, min: Math.min(...values), max: Math.max(...values), values };
}

/** `0.512 (0.498 to 0.520)`; of a single value `0.512`. */
export function formatSpread({ mean, min, max, values }: Spread, digits = 3): string {
  const range = ` (${min.toFixed(digits)} to ${max.toFixed(digits)})`;
  return mean.toFixed(digits) + (values.length > 1 ? range : '');
}

export interface Named {
  readonly name: string;
  readonly mIoU: Spread;
}

/** What is found of an order that is expected. */
export type Verdict =
  /** All seeds of one lie above all of the other, and so it was expected. */
  | 'as expected'
  /** All seeds of one lie above all of the other, the other way round. */
  | 'reversed'
  /** Seeds of one lie among those of the other, or there is only one seed. */
  | 'open';

export interface OrderStatement {
  readonly better: string;
  readonly worse: string;
  /** Of the mean IoU, better less worse, seed by seed. */
  readonly difference: Spread;
  readonly verdict: Verdict;
  readonly text: string;
}

/**
 * Compares two variants that were trained with the same seeds.
 * @param better the one that is expected to have the higher mean IoU
 */
export function orderStatement(better: Named, worse: Named): OrderStatement {
  const difference = spreadOf(better.mIoU.values.map((value, i) => value - worse.mIoU.values[i]!));
  const seeds = better.mIoU.values.length;
  const verdict: Verdict =
    seeds === 1
      ? 'open'
      : better.mIoU.min > worse.mIoU.max
        ? 'as expected'
        : better.mIoU.max < worse.mIoU.min
          ? 'reversed'
          : 'open';
  const relation =
    difference.mean > 0 ? 'is above' : difference.mean < 0 ? 'is below' : 'is on the mean equal to';
  const meaning =
    seeds === 1
      ? 'a single seed, so nothing is known of the spread'
      : {
          'as expected': 'beyond the spread of the seeds, as expected',
          reversed: 'beyond the spread of the seeds, against what was expected',
          open: 'within the spread of the seeds, so no order is shown',
        }[verdict];
  const text =
    `${better.name} ${relation} ${worse.name}: ${better.mIoU.mean.toFixed(3)} and ${worse.mIoU.mean.toFixed(3)}, ` +
    `difference ${formatDifference(difference)}; ${meaning}`;
  return { better: better.name, worse: worse.name, difference, verdict, text };
}

/** `+0.014 (+0.010 to +0.019)`. */
function formatDifference({ mean, min, max, values }: Spread): string {
  return signed(mean) + (values.length > 1 ? ` (${signed(min)} to ${signed(max)})` : '');
}

export function signed(value: number, digits = 3): string {
  return `${value < 0 ? '' : '+'}${value.toFixed(digits)}`;
}

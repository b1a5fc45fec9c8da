/** Which samples train, which validate, and which test. */
import { readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { GlnetError } from '../errors';
import { Random } from '../nn/random';
import { compareNames, filesOf, type Problem, type Sample, type SplitName, splitNames } from './dataset';
import { isObject, isStrings, readJson, type SplitRule } from './description';

export interface Splits {
  readonly ids: Record<SplitName, string[]>;
  readonly source: string;
  readonly problems: Problem[];
}

/** Names under which people keep lists of ids; `crossvali` is that of the GLNet authors. */
const listFiles: Readonly<Record<SplitName, readonly string[]>> = {
  train: ['train.txt'],
  val: ['val.txt', 'validation.txt', 'crossvali.txt'],
  test: ['test.txt'],
};

/**
 * Splits the labelled samples: by `splits.json` or the lists `train.txt`, `val.txt`, `test.txt` in the folder, else
 * by the rule.
 *
 * @param names Further names of samples that lists may use, such as those of their files.
 * @throws {GlnetError} ERR_FILE for a list that can't be read.
 */
export async function splitSamples(
  root: string,
  files: readonly string[],
  samples: readonly Sample[],
  names: ReadonlyMap<string, string>,
  rule: SplitRule,
): Promise<Splits> {
  const labelled = samples.filter(({ mask }) => mask !== undefined);
  if (files.includes('splits.json')) {
    const file = join(root, 'splits.json');
    const json = await readJson(file);
    const isSplits = (value: unknown): value is Partial<Record<SplitName, string[]>> =>
      isObject(value) &&
      Object.entries(value).every(([key, list]) => splitNames.includes(key as never) && isStrings(list));
    if (!isSplits(json)) {
      throw new GlnetError(
        'ERR_FILE',
        `${file}: expected {"train": [ids], "val": [ids], "test": [ids]}, each a list of strings`,
      );
    }
    return fromLists(json, labelled, samples, names, 'splits.json in the folder');
  }
  const found: Partial<Record<SplitName, string>> = {};
  for (const split of splitNames) {
    const file = listFiles[split].find((name) => files.includes(name));
    if (file !== undefined) found[split] = file;
  }
  if (found.train !== undefined) rule = { kind: 'lists', lists: found };
  return byRule(root, labelled, samples, names, rule);
}

async function byRule(
  root: string,
  labelled: readonly Sample[],
  samples: readonly Sample[],
  names: ReadonlyMap<string, string>,
  rule: SplitRule,
): Promise<Splits> {
  if (rule.kind === 'lists') {
    const lists: Partial<Record<SplitName, readonly string[]>> = {};
    const sources: string[] = [];
    for (const split of splitNames) {
      const list = rule.lists[split];
      if (list === undefined) continue;
      lists[split] = typeof list === 'string' ? await readList(join(root, list)) : list;
      if (typeof list === 'string') sources.push(list);
    }
    const source = sources.length > 0 ? `${sources.join(', ')} in the folder` : 'the description’s lists';
    return fromLists(lists, labelled, samples, names, source);
  }
  if (rule.kind === 'names') {
    const ids: Splits['ids'] = { train: [], val: [], test: [] };
    for (const { id, image } of labelled) {
      const split = rule.splitOf(id, relative(root, filesOf(image)[0]!));
      if (split !== undefined) ids[split].push(id);
    }
    if (ids.train.length === 0 || ids.val.length + ids.test.length === 0) {
      return byRule(root, labelled, samples, names, rule.otherwise);
    }
    return { ids, source: rule.source, problems: emptySplits(ids) };
  }
  const ids = byFractions(labelled, rule.fractions, rule.seed);
  const shares = splitNames.map((split) => `${Number((100 * rule.fractions[split]).toFixed(1))} % ${split}`);
  const reason = rule.reason === undefined ? '' : `: ${rule.reason}`;
  return {
    ids,
    source: `drawn at random, ${shares.join(', ')}, seed ${rule.seed}${reason}`,
    problems: emptySplits(ids),
  };
}

/** Ids, a line each, or names of files; blank lines and what follows a `#` don't count. */
async function readList(file: string): Promise<string[]> {
  const text = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new GlnetError(
      'ERR_FILE',
      `${file}: this list of a split can't be read (${cause.code}); expected a text file with an id a line`,
      { cause },
    );
  });
  return text
    .split('\n')
    .map((line) => line.replace(/#.*/, '').trim())
    .filter((line) => line !== '');
}

function fromLists(
  lists: Readonly<Partial<Record<SplitName, readonly string[]>>>,
  labelled: readonly Sample[],
  samples: readonly Sample[],
  names: ReadonlyMap<string, string>,
  source: string,
): Splits {
  const ids: Splits['ids'] = { train: [], val: [], test: [] };
  const problems: Problem[] = [];
  const isLabelled = new Set(labelled.map(({ id }) => id));
  const known = new Set(samples.map(({ id }) => id));
  const seen = new Map<string, SplitName>();
  for (const split of splitNames) {
    const list = lists[split];
    if (list?.length === 0) {
      problems.push({
        kind: 'empty-split',
        message: `the list of ${split} is empty (${source}); expected ids`,
      });
    }
    for (const name of list ?? []) {
      const id = known.has(name) ? name : (names.get(name) ?? name);
      if (!isLabelled.has(id)) {
        const what = known.has(id) ? 'has no mask' : 'is not in the data set';
        problems.push({
          kind: 'unknown-id',
          id,
          message: `${name}: is listed in ${split} (${source}), but ${what}; expected the id of a labelled image`,
        });
        continue;
      }
      const other = seen.get(id);
      if (other !== undefined) {
        const where = other === split ? `twice in ${split}` : `in ${other} and in ${split}`;
        problems.push({
          kind: 'split-overlap',
          id,
          message: `${name}: is listed ${where} (${source}); expected each image once`,
        });
        if (other === split) continue;
      }
      seen.set(id, split);
      ids[split].push(id);
    }
  }
  problems.push(...emptySplits(ids, lists), ...partedGroups(samples, ids));
  return { ids, source, problems };
}

/** What is missing for a training; lists that are empty themselves have been named already. */
function emptySplits(
  ids: Splits['ids'],
  lists: Readonly<Partial<Record<SplitName, readonly string[]>>> = {},
): Problem[] {
  const problems: Problem[] = [];
  const isNamed = (split: SplitName) => lists[split]?.length === 0;
  if (ids.train.length === 0 && !isNamed('train')) {
    problems.push({ kind: 'empty-split', message: 'the split train has no image; expected at least one' });
  }
  if (ids.val.length + ids.test.length === 0 && !isNamed('val') && !isNamed('test')) {
    problems.push({
      kind: 'empty-split',
      message:
        'the splits val and test have no image; expected at least one in either, to measure the result',
    });
  }
  return problems;
}

/** Samples of one group in several splits. */
function partedGroups(samples: readonly Sample[], ids: Splits['ids']): Problem[] {
  const groupOf = new Map(samples.map(({ id, group }) => [id, group]));
  const problems: Problem[] = [];
  const first = new Map<string, { split: SplitName; id: string }>();
  const named = new Set<string>();
  for (const split of splitNames) {
    for (const id of ids[split]) {
      const group = groupOf.get(id);
      if (group === undefined) continue;
      const other = first.get(group);
      if (other === undefined) first.set(group, { split, id });
      else if (other.split !== split && other.id !== id && !named.has(group)) {
        named.add(group);
        problems.push({
          kind: 'split-overlap',
          id,
          message: `${id}: is in ${split}, but ${other.id} of the same group ${group} is in ${other.split}; expected a group in one split`,
        });
      }
    }
  }
  return problems;
}

/** Draws groups at random; every split that has a share gets at least one, as far as there are groups. */
function byFractions(
  samples: readonly Sample[],
  fractions: Readonly<Record<SplitName, number>>,
  seed: number,
): Splits['ids'] {
  const groups = new Map<string, string[]>();
  for (const { id, group = id } of samples) groups.set(group, [...(groups.get(group) ?? []), id]);
  const order = new Random(seed, 'split').shuffle([...groups.keys()].sort(compareNames));

  const wanted = splitNames.filter((split) => fractions[split] > 0);
  const counts: Record<SplitName, number> = { train: 0, val: 0, test: 0 };
  for (const split of wanted.slice(0, order.length)) counts[split] = 1;
  let left = order.length - wanted.slice(0, order.length).length;
  for (; left > 0; left--) {
    // The split that lacks most of its share.
    const next = wanted.reduce((a, b) =>
      fractions[b] * order.length - counts[b] > fractions[a] * order.length - counts[a] ? b : a,
    );
    counts[next]++;
  }
  const ids: Splits['ids'] = { train: [], val: [], test: [] };
  let from = 0;
  for (const split of splitNames) {
    const chosen = order.slice(from, from + counts[split]).flatMap((group) => groups.get(group)!);
    ids[split] = chosen.sort(compareNames);
    from += counts[split];
  }
  return ids;
}

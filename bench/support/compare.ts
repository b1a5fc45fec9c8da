/** Two results of a benchmark, figure by figure. */

type Json = undefined | null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** Whose leaves say under which conditions the figures were taken. */
const conditions = ['machine', 'versions', 'settings'];
/** Single runs, of which the medians are there. */
const single = ['reports', 'steps', 'losses'];

export interface Difference {
  readonly name: string;
  readonly before: number;
  readonly after: number;
}

export interface Comparison {
  /** `settings.batch: 2, then 3`, where the two were not taken under the same conditions. */
  readonly conditions: readonly string[];
  readonly figures: readonly Difference[];
  /** Names of figures that one of the two lacks. */
  readonly missing: readonly string[];
}

/** What an item's field says of it. */
const says: Readonly<Record<string, (value: Json) => string>> = {
  mode: String,
  precision: String,
  name: String,
  batch: (value) => `batch ${String(value)}`,
  cudaGraphs: () => 'CUDA graphs',
};

/** An item of a list is named by what it says of itself, such as `global-to-local float32`. */
function nameOf(item: Json, index: number): string {
  if (typeof item !== 'object' || item === null || Array.isArray(item)) return `${index}`;
  const fields = item as { readonly [key: string]: Json };
  const words = Object.entries(says).flatMap(([field, say]) =>
    fields[field] === undefined ? [] : [say(fields[field])],
  );
  return words.length > 0 ? words.join(' ') : `${index}`;
}

function leaves(value: Json, path: readonly string[], into: Map<string, Json>): Map<string, Json> {
  if (Array.isArray(value)) {
    for (const [i, item] of value.entries()) leaves(item, [...path, nameOf(item, i)], into);
  } else if (typeof value === 'object' && value !== null) {
    for (const [key, item] of Object.entries(value)) {
      if (!single.includes(key)) leaves(item, [...path, key], into);
    }
  } else {
    into.set(path.join('.'), value);
  }
  return into;
}

export function compare(before: Json, after: Json): Comparison {
  const [a, b] = [before, after].map((json) => leaves(json, [], new Map())) as [
    Map<string, Json>,
    Map<string, Json>,
  ];
  const isCondition = (name: string) => conditions.some((each) => name.startsWith(`${each}.`));
  const differs: string[] = [];
  const figures: Difference[] = [];
  const missing: string[] = [];
  for (const name of new Set([...a.keys(), ...b.keys()])) {
    const [from, to] = [a.get(name), b.get(name)];
    if (isCondition(name)) {
      if (from !== to) differs.push(`${name}: ${String(from ?? 'none')}, then ${String(to ?? 'none')}`);
    } else if (typeof from === 'number' && typeof to === 'number') {
      figures.push({ name, before: from, after: to });
    } else if (from === undefined || to === undefined) {
      missing.push(name);
    }
  }
  return { conditions: differs, figures, missing };
}

/** `dataset.json`: where the images and masks of a folder are, what the masks mean, and how it is split. */
import { readFile } from 'node:fs/promises';
import type { ClassInfo } from '../checkpoint/model-file';
import { GlnetError } from '../errors';
import type { Colour } from '../raster/png';
import type { Window } from '../raster/raster';
import { ignoredLabel, type LabelCoding, type SplitName, splitNames } from './dataset';
import { Template } from './template';

/** A part of an image; without a width or height it goes to the image's edge. */
export interface Region {
  readonly left: number;
  readonly top: number;
  readonly width?: number | undefined;
  readonly height?: number | undefined;
}

/** Which samples are in which split. */
export type SplitRule =
  /** Ids, or the name of a text file in the data set's folder with an id a line. */
  | {
      readonly kind: 'lists';
      readonly lists: Readonly<Partial<Record<SplitName, readonly string[] | string>>>;
    }
  /** Drawn at random, groups kept together; `reason` says why. */
  | {
      readonly kind: 'fractions';
      readonly fractions: Readonly<Record<SplitName, number>>;
      readonly seed: number;
      readonly reason?: string | undefined;
    }
  /** By what the owner's names of files and folders say; where they say nothing about any but one split, `otherwise`. */
  | {
      readonly kind: 'names';
      readonly source: string;
      readonly splitOf: (id: string, file: string) => SplitName | undefined;
      readonly otherwise: SplitRule;
    };

/** How the files of a folder make a data set. */
export interface Description {
  /** Default: the folder's name. */
  readonly name?: string | undefined;
  readonly classes: readonly ClassInfo[];
  readonly excluded: readonly number[];
  readonly images: readonly Template[];
  readonly masks: readonly Template[];
  readonly coding: LabelCoding;
  readonly mosaic?: { readonly rows: number; readonly columns: number } | undefined;
  /** By the image's id and the region's name; the samples are then `<id>/<name>`. */
  readonly regions?: ReadonlyMap<string, ReadonlyMap<string, Region>> | undefined;
  readonly split: SplitRule;
}

/** Reads JSON. @throws GlnetError ERR_FILE if there is none. */
export async function readJson(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, 'utf8'));
  } catch (cause) {
    throw new GlnetError('ERR_FILE', `${file}: can't be read as JSON: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/**
 * Reads a description. Its fields:
 *
 * - `classes`: 2 to 255 of `{ "name": "water", "color": "#0000FF" }`, in the order of their indices. A colour is that
 *   or `[0, 0, 255]`. `maskColors`, a list, where the masks have another colour or several.
 * - `images`, `masks`: a path below the folder, or a list, with `{id}` in it (see {@link Template}): `masks/{id}.png`.
 * - `labels`: what masks store: `index` (default), `rgb`, or `auto`: indices where a mask is gray.
 * - `ignored`: a list of indices or colours that don't count. Default: `[255]`.
 * - `threshold`: channels of this value or more are 255, the others 0, before colours are looked up. Default: none.
 * - `exclude`: names of classes that the mean of the IoU leaves out.
 * - `mosaic`: `{ "rows": 3, "columns": 3 }`: files with a `{part}` from 1, row by row, are one image.
 * - `regions`: `{ "<id>": { "<name>": { "left": 0, "width": 2730 } } }`: samples `<id>/<name>`, parts of an image.
 * - `split`: `{ "train": […], "val": […], "test": […] }` with ids or the name of a text file each, or
 *   `{ "fractions": { "train": 0.8, "val": 0.1, "test": 0.1 }, "seed": 0 }`. Default: that. Ids of a `{group}` are
 *   not parted.
 * - `name`, and `source`, which is not used: who made the data, and under which licence.
 *
 * @throws {GlnetError} ERR_FILE if the file can't be read as JSON or a field is wrong: each by name, with what it is
 *   and what was expected.
 */
export async function readDescription(file: string): Promise<Description> {
  const value = await readJson(file);
  const problems: string[] = [];
  const description = parse(value, problems);
  if (problems.length > 0) {
    throw new GlnetError('ERR_FILE', [`${file}: its description is wrong:`, ...problems].join('\n  '));
  }
  return description;
}

const fields = [
  'name',
  'source',
  'classes',
  'exclude',
  'images',
  'masks',
  'labels',
  'ignored',
  'threshold',
  'mosaic',
  'regions',
  'split',
];

/** What a seeded split is by default. */
export const defaultFractions = { train: 0.8, val: 0.1, test: 0.1 } as const;

function parse(value: unknown, problems: string[]): Description {
  const expect = (valid: boolean, field: string, found: unknown, expected: string): boolean => {
    if (!valid) problems.push(`${field} is ${JSON.stringify(found)}, expected ${expected}`);
    return valid;
  };
  /** Reports the members of an object that nobody reads, which are most often misspelt. */
  const onlyFields = (
    object: Readonly<Record<string, unknown>>,
    path: string,
    allowed: readonly string[],
  ) => {
    for (const key of Object.keys(object)) {
      if (!allowed.includes(key)) {
        problems.push(`${path}${key} is no field, expected one of ${allowed.join(', ')}`);
      }
    }
  };

  if (!expect(isObject(value), 'the file', value, 'an object')) return value as never;
  const json = value as Record<string, unknown>;
  onlyFields(json, '', fields);
  const { name, exclude = [], labels = 'index', ignored = [ignoredLabel], threshold } = json;
  expect(name === undefined || (typeof name === 'string' && name !== ''), 'name', name, 'a string');

  const classes: ClassInfo[] = [];
  const colours: [Colour, number][] = [];
  const given = json.classes;
  if (
    expect(
      Array.isArray(given) && given.length >= 2 && given.length <= 255,
      'classes',
      given,
      'a list of 2 to 255',
    )
  ) {
    (given as unknown[]).forEach((item, i) => {
      const path = `classes[${i}]`;
      const { name, color, maskColors = [color], ...rest } = Object(item) as Record<string, unknown>;
      onlyFields(rest, `${path}.`, ['name', 'color', 'maskColors']);
      expect(typeof name === 'string' && name !== '', `${path}.name`, name, 'a string');
      const parsed = parseColour(color);
      expect(parsed !== undefined, `${path}.color`, color, colourForm);
      classes.push({ name: String(name), color: parsed ?? [0, 0, 0] });
      if (
        maskColors !== undefined &&
        expect(Array.isArray(maskColors), `${path}.maskColors`, maskColors, 'a list')
      ) {
        for (const maskColour of maskColors as unknown[]) {
          const colour = parseColour(maskColour);
          if (colour) colours.push([colour, i]);
          else if (maskColour !== color) expect(false, `${path}.maskColors`, maskColour, colourForm);
        }
      }
    });
  }
  const names = classes.map(({ name }) => name);
  names.forEach((name, i) => {
    expect(names.indexOf(name) === i, `classes[${i}].name`, name, 'a name of its own');
  });

  const ignoredValues: number[] = [];
  if (expect(Array.isArray(ignored), 'ignored', ignored, 'a list of indices or colours')) {
    for (const item of ignored as unknown[]) {
      const colour = parseColour(item);
      if (colour) colours.push([colour, ignoredLabel]);
      else if (isInteger(item, 0, 255)) ignoredValues.push(item);
      else expect(false, 'ignored', item, `an index from 0 to 255, or ${colourForm}`);
    }
  }
  const kinds = ['index', 'rgb', 'auto'] as const;
  expect(kinds.includes(labels as never), 'labels', labels, `one of ${kinds.join(', ')}`);
  expect(
    threshold === undefined || isInteger(threshold, 1, 255),
    'threshold',
    threshold,
    'an integer from 1 to 255',
  );
  if (labels !== 'index') {
    const seen = new Map<string, number>();
    for (const [colour, label] of colours) {
      const key = colour.join();
      const other = seen.get(key);
      if (other !== undefined && other !== label) {
        const nameOf = (index: number) => (index === ignoredLabel ? 'ignored' : names[index]);
        problems.push(
          `the colour [${colour}] is both ${nameOf(other)} and ${nameOf(label)}, expected one label for each colour`,
        );
      }
      seen.set(key, label);
      expect(
        threshold === undefined || colour.every((part) => part === 0 || part === 255),
        'a colour',
        colour,
        'channels of 0 or 255, since there is a threshold',
      );
    }
  }

  const excluded: number[] = [];
  if (expect(Array.isArray(exclude), 'exclude', exclude, 'a list of names of classes')) {
    for (const item of exclude as unknown[]) {
      const index = names.indexOf(item as string);
      if (expect(index >= 0, 'exclude', item, `one of ${names.join(', ')}`)) excluded.push(index);
    }
  }

  const mosaic = json.mosaic as { rows: number; columns: number } | undefined;
  if (mosaic !== undefined) {
    const { rows, columns, ...rest } = Object(mosaic) as Record<string, unknown>;
    onlyFields(rest, 'mosaic.', ['rows', 'columns']);
    expect(isInteger(rows, 1, 1000), 'mosaic.rows', rows, 'an integer from 1 to 1000');
    expect(isInteger(columns, 1, 1000), 'mosaic.columns', columns, 'an integer from 1 to 1000');
  }
  const templates = (field: 'images' | 'masks'): Template[] => {
    const found = json[field];
    const list = Array.isArray(found) ? found : [found];
    const valid = list.length > 0 && list.every((item) => typeof item === 'string');
    if (!expect(valid, field, found, `a path such as ${field}/{id}.png, or a list of such`)) return [];
    return list.map((text: string) => {
      const template = new Template(text);
      const { problem } = template;
      if (problem !== undefined) problems.push(`${field} is ${JSON.stringify(text)}: ${problem}`);
      else {
        const expected =
          mosaic === undefined ? 'no {part}, since there is no mosaic' : 'a {part}, for the mosaic';
        expect(template.places.includes('part') === (mosaic !== undefined), field, text, expected);
      }
      return template;
    });
  };

  return {
    name: name as string | undefined,
    classes,
    excluded,
    images: templates('images'),
    masks: templates('masks'),
    coding: {
      kind: labels as LabelCoding['kind'],
      classes: classes.length,
      ignoredValues,
      colours,
      threshold: threshold as number | undefined,
    },
    mosaic,
    regions: parseRegions(json.regions, expect, onlyFields),
    split: parseSplit(json.split, expect, onlyFields),
  };
}

type Expect = (valid: boolean, field: string, found: unknown, expected: string) => boolean;
type OnlyFields = (
  object: Readonly<Record<string, unknown>>,
  path: string,
  allowed: readonly string[],
) => void;

function parseRegions(
  value: unknown,
  expect: Expect,
  onlyFields: OnlyFields,
): ReadonlyMap<string, ReadonlyMap<string, Region>> | undefined {
  if (value === undefined) return undefined;
  if (!expect(isObject(value), 'regions', value, 'an object of ids')) return undefined;
  const sides: readonly (keyof Window)[] = ['left', 'top', 'width', 'height'];
  return new Map(
    Object.entries(value as object).map(([id, byName]) => {
      expect(isObject(byName), `regions.${id}`, byName, 'an object of names and regions');
      const regions = Object.entries(Object(byName) as object).map(([name, region]): [string, Region] => {
        const path = `regions.${id}.${name}`;
        expect(isObject(region), path, region, 'an object such as {"left": 0, "width": 2730}');
        const { left = 0, top = 0, width, height } = Object(region) as Partial<Region>;
        onlyFields(Object(region), `${path}.`, sides);
        for (const [side, found] of Object.entries({ left, top })) {
          expect(isInteger(found, 0, 2 ** 31), `${path}.${side}`, found, 'a number of pixels from 0');
        }
        for (const [side, found] of Object.entries({ width, height })) {
          const valid = found === undefined || isInteger(found, 1, 2 ** 31);
          expect(valid, `${path}.${side}`, found, 'a number of pixels from 1');
        }
        return [name, { left, top, width, height }];
      });
      return [id, new Map(regions)];
    }),
  );
}

function parseSplit(value: unknown, expect: Expect, onlyFields: OnlyFields): SplitRule {
  if (value === undefined) return { kind: 'fractions', fractions: defaultFractions, seed: 0 };
  if (!expect(isObject(value), 'split', value, 'an object')) return value as never;
  const split = value as Record<string, unknown>;
  if (split.fractions === undefined) {
    onlyFields(split, 'split.', [...splitNames, 'fractions', 'seed']);
    for (const name of splitNames) {
      const list = split[name];
      expect(
        list === undefined || typeof list === 'string' || isStrings(list),
        `split.${name}`,
        list,
        'a list of ids, or the name of a text file with an id a line',
      );
    }
    return { kind: 'lists', lists: split as Extract<SplitRule, { kind: 'lists' }>['lists'] };
  }
  const { fractions, seed = 0, ...rest } = split;
  onlyFields(rest, 'split.', ['fractions', 'seed']);
  onlyFields(Object(fractions), 'split.fractions.', splitNames);
  const { train = 0, val = 0, test = 0 } = Object(fractions) as Record<string, unknown>;
  const shares = [train, val, test];
  const valid = shares.every((share) => typeof share === 'number' && share >= 0 && share <= 1);
  const sum = valid ? (shares as number[]).reduce((total, share) => total + share, 0) : Number.NaN;
  expect(Math.abs(sum - 1) < 1e-6, 'split.fractions', fractions, 'shares from 0 to 1 that sum to 1');
  expect(isInteger(seed, 0, 2 ** 53 - 1), 'split.seed', seed, 'an integer from 0');
  return {
    kind: 'fractions',
    fractions: { train, val, test } as Record<SplitName, number>,
    seed: seed as number,
  };
}

const colourForm = 'a colour such as "#FF8000" or [255, 128, 0]';

function parseColour(value: unknown): Colour | undefined {
  if (typeof value === 'string' && /^#?[0-9a-f]{6}$/i.test(value)) {
    const packed = Number.parseInt(value.slice(-6), 16);
    return [packed >> 16, (packed >> 8) & 255, packed & 255];
  }
  const isColour =
    Array.isArray(value) && value.length === 3 && value.every((part) => isInteger(part, 0, 255));
  return isColour ? (value as unknown as Colour) : undefined;
}

export function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isInteger(value: unknown, min: number, max: number): value is number {
  return Number.isInteger(value) && (value as number) >= min && (value as number) <= max;
}

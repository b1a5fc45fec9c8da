/** From a folder to a data set, by the names of its files alone. */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { glob } from 'tinyglobby';
import { GlnetError } from '../errors';
import type { Window } from '../raster/raster';
import { type DatasetFormat, datasetFormats, datasetNames } from './classes';
import { compareNames, type Dataset, type ImageFile, type Problem, type Sample } from './dataset';
import { type Description, type Region, readDescription } from './description';
import { openImage } from './labels';
import { layouts, signatures } from './layouts';
import { splitSamples } from './split';
import type { Fields, Template } from './template';

export interface OpenOptions {
  /**
   * The owner's layout, or `folder` for one that a `dataset.json` describes. Default: `auto`, which takes a
   * `dataset.json` where there is one and else looks at the files' names.
   */
  readonly format?: DatasetFormat | undefined;
  /** A description kept elsewhere than in the folder's `dataset.json` (see {@link readDescription}). */
  readonly description?: string | undefined;
}

/** Any image that can be read; other files are of no concern. */
const imageName = /\.(jpe?g|png|webp|gif|tiff?)$/i;

/**
 * Finds the samples of a data set in a folder: DeepGlobe land cover, Inria aerial images and ISIC lesion boundaries as
 * their owners ship them, at any depth, or any folder with a description. No image is read, but for the size of those
 * that have regions without one. What the names show to be wrong is in `problems`, and nothing is thrown for it.
 *
 * Folders in which no image has a mask are taken as unlabelled, if others have masks.
 *
 * @throws {GlnetError} ERR_FILE if the folder, the description or a list can't be read or holds no images, or the
 *   layout isn't recognised; ERR_INVALID_ARGUMENT for a format that is none.
 */
export async function openDataset(root: string, options: OpenOptions = {}): Promise<Dataset> {
  const { format = 'auto' } = options;
  if (!datasetFormats.includes(format)) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `format is ${JSON.stringify(format)}; expected one of ${datasetFormats.join(', ')}`,
    );
  }
  const info = await stat(root).catch(() => undefined);
  if (!info?.isDirectory()) {
    const what = info ? 'is a file' : 'no such folder';
    throw new GlnetError('ERR_FILE', `${root}: ${what}; expected the folder of a data set`);
  }
  const files = (await glob('**/*', { cwd: root, expandDirectories: false })).sort(compareNames);
  const description = await describe(root, files, format, options.description);
  return assemble(root, files, description);
}

async function describe(
  root: string,
  files: readonly string[],
  format: DatasetFormat,
  file: string | undefined,
): Promise<Description> {
  if (file !== undefined) return readDescription(file);
  if (format !== 'auto' && format !== 'folder') return layouts[format];
  if (files.includes('dataset.json')) return readDescription(path.join(root, 'dataset.json'));
  if (format === 'folder') {
    throw new GlnetError(
      'ERR_FILE',
      `${root}: has no dataset.json; expected one, which says where images and masks are and what the masks mean`,
    );
  }
  const found = datasetNames.filter((name) => files.some((file) => signatures[name].test(file)));
  if (found.length === 1) return layouts[found[0]!];
  throw new GlnetError(
    'ERR_FILE',
    found.length > 1
      ? `${root}: could be ${found.join(' or ')}; name one as the format`
      : `${root}: no known layout of a data set; expected {id}_sat.jpg (DeepGlobe), images/{id}.tif with gt/{id}.tif ` +
          '(Inria), ISIC_{id}.jpg (ISIC), or a dataset.json that describes the folder',
  );
}

interface Found extends Fields {
  readonly file: string;
}

async function assemble(root: string, files: readonly string[], description: Description): Promise<Dataset> {
  const problems: Problem[] = [];
  const images = new Map<string, Found[]>();
  const masks = new Map<string, Found[]>();
  for (const file of files) {
    if (!imageName.test(file)) continue;
    const image = bestMatch(description.images, file);
    const mask = bestMatch(description.masks, file);
    if (!image && !mask) continue;
    // A mask's name may fit the images' template too: `{id}.png` and `{id}_mask.png`.
    const isMask = !image || (mask !== undefined && mask.template.literals > image.template.literals);
    const { fields } = isMask ? mask! : image;
    const byId = isMask ? masks : images;
    byId.set(fields.id, [...(byId.get(fields.id) ?? []), { ...fields, file }]);
  }
  if (images.size === 0) {
    const expected = description.images.map(({ text }) => text).join(' or ');
    throw new GlnetError('ERR_FILE', `${root}: has no images; expected files named ${expected}`);
  }

  const labelledFolders = new Set(
    [...images].flatMap(([id, found]) => (masks.has(id) ? found.map(folderOf) : [])),
  );
  const unlabelled = new Map<string, number>();
  const samples: Sample[] = [];
  const names = new Map<string, string>();
  for (const [id, found] of [...images].sort(([a], [b]) => compareNames(a, b))) {
    const image = toImage(root, id, 'images', found, description, problems);
    const maskFiles = masks.get(id);
    const mask = maskFiles && toImage(root, id, 'masks', maskFiles, description, problems);
    const first = path.join(root, found[0]!.file);
    if (!maskFiles) {
      const folder = folderOf(found[0]!);
      if (labelledFolders.size > 0 && !labelledFolders.has(folder)) {
        unlabelled.set(folder, (unlabelled.get(folder) ?? 0) + 1);
      } else {
        const expected = description.masks.map(({ text }) => text.replaceAll('{id}', id)).join(' or ');
        problems.push({
          kind: 'missing-mask',
          id,
          message: `${first}: has no mask; expected ${expected} in ${root}`,
        });
      }
    }
    if (!image || (maskFiles && !mask)) continue;
    for (const { file } of [...found, ...(maskFiles ?? [])]) {
      const base = path.basename(file);
      for (const name of [file, base, path.parse(base).name]) if (!names.has(name)) names.set(name, id);
    }
    const { coding, regions } = description;
    const whole = { id, image, mask, coding, group: found[0]!.group };
    const parts = regions?.get(id);
    if (parts) samples.push(...(await regionSamples(whole, parts)));
    else samples.push(whole);
  }
  for (const [id, found] of masks) {
    if (images.has(id)) continue;
    const expected = description.images.map(({ text }) => text.replaceAll('{id}', id)).join(' or ');
    problems.push({
      kind: 'missing-image',
      id,
      message: `${path.join(root, found[0]!.file)}: this mask has no image; expected ${expected} in ${root}`,
    });
  }
  for (const id of description.regions?.keys() ?? []) {
    if (!images.has(id)) {
      problems.push({ kind: 'unknown-id', id, message: `${id}: has regions, but no image in ${root}` });
    }
  }

  const splits = await splitSamples(root, files, samples, names, description.split);
  const notes = Array.from(
    unlabelled,
    ([folder, count]) => `${path.join(root, folder)}: ${count} images without masks, taken as unlabelled`,
  );
  return {
    name: description.name ?? path.basename(path.resolve(root)),
    root,
    classes: description.classes,
    excluded: description.excluded,
    samples,
    splits: splits.ids,
    splitSource: splits.source,
    problems: [...problems, ...splits.problems],
    notes,
  };
}

/** The template that fits and says most. */
function bestMatch(
  templates: readonly Template[],
  file: string,
): { template: Template; fields: Fields } | undefined {
  let best: { template: Template; fields: Fields } | undefined;
  for (const template of templates) {
    if (best && best.template.literals >= template.literals) continue;
    const fields = template.match(file);
    if (fields) best = { template, fields };
  }
  return best;
}

function folderOf({ file }: Found): string {
  return path.posix.dirname(file);
}

/** One file, or the parts of a mosaic in their order; undefined if they don't make an image. */
function toImage(
  root: string,
  id: string,
  what: 'images' | 'masks',
  found: readonly Found[],
  { mosaic, ...description }: Description,
  problems: Problem[],
): ImageFile | undefined {
  const paths = found.map(({ file }) => path.join(root, file));
  const twice = (message: string) => problems.push({ kind: 'duplicate-id', id, message });
  if (!mosaic) {
    if (found.length > 1)
      twice(`${id}: is the id of ${paths.join(' and of ')}; expected one file for each id`);
    return paths[0]!;
  }
  const count = mosaic.rows * mosaic.columns;
  const parts: (string | undefined)[] = Array.from({ length: count });
  let complete = true;
  found.forEach(({ part }, i) => {
    const other = part === undefined ? undefined : parts[part - 1];
    if (part === undefined || part < 1 || part > count) {
      complete = false;
      problems.push({
        kind: 'size',
        id,
        message: `${paths[i]}: is part ${part} of ${id}; expected 1 to ${count}, the parts of a mosaic of ${mosaic.rows} rows and ${mosaic.columns} columns`,
      });
    } else if (other !== undefined) {
      twice(`${id}: its part ${part} is ${other} and ${paths[i]}; expected one file for each part`);
    } else {
      parts[part - 1] = paths[i]!;
    }
  });
  const missing = parts.flatMap((part, i) => (part === undefined ? [i + 1] : []));
  if (missing.length > 0) {
    const expected = description[what].map(({ text }) => text.replaceAll('{id}', id)).join(' or ');
    problems.push({
      kind: what === 'images' ? 'missing-image' : 'missing-mask',
      id,
      message: `${id}: part ${missing.join(', ')} of its ${what} is missing in ${root}; expected ${count} files named ${expected}`,
    });
    return undefined;
  }
  return complete ? { columns: mosaic.columns, parts: parts as string[] } : undefined;
}

/** A sample for each region. They are of one place, but the description parts them on purpose: no group. */
async function regionSamples(whole: Sample, regions: ReadonlyMap<string, Region>): Promise<Sample[]> {
  const isOpen = [...regions.values()].some(
    ({ width, height }) => width === undefined || height === undefined,
  );
  const size = isOpen ? await sizeOf(whole) : { width: 0, height: 0 };
  return Array.from(regions, ([name, { left, top, width, height }]) => {
    const region: Window = {
      left,
      top,
      width: width ?? size.width - left,
      height: height ?? size.height - top,
    };
    return { ...whole, id: `${whole.id}/${name}`, group: undefined, region };
  });
}

async function sizeOf(sample: Sample): Promise<{ width: number; height: number }> {
  const raster = await openImage(sample);
  await raster.close();
  return { width: raster.width, height: raster.height };
}

/** `glnet import`: the reference implementation's checkpoints, joined to one model file. */
import { stat } from 'node:fs/promises';
import { importReference } from '../checkpoint/import';
import { type ClassInfo, writeModel } from '../checkpoint/model-file';
import { type DatasetName, datasetClasses } from '../datasets/classes';
import { readJson } from '../datasets/description';
import { GlnetError } from '../errors';
import { modelRows, summarize } from './describe';
import { formatBytes, formatTable } from './format';

export interface ImportArguments {
  global: string;
  globalToLocal?: string;
  localToGlobal?: string;
  out: string;
  classes?: string;
  classNames?: string[];
  dataset?: DatasetName;
  patch?: number;
  globalSize?: number;
}

/** @returns the exit code */
export async function importModel(options: ImportArguments): Promise<number> {
  const { out, patch, globalSize, classNames, dataset } = options;
  const named = dataset ? datasetClasses[dataset] : options.classes && (await readClasses(options.classes));
  const { config, tensors } = await importReference(options, {
    ...(named && { classes: named }),
    ...(patch !== undefined && { patch }),
    ...(globalSize !== undefined && { global: globalSize }),
  });
  const classes = classNames ? renamed(options.global, config.classes, classNames) : config.classes;
  const model = { ...config, classes };
  await writeModel(out, model, tensors);
  const { size } = await stat(out);
  const rows = [...modelRows(model, summarize(tensors)), ['file', `${out}, ${formatBytes(size)}`] as const];
  console.log(
    `imported ${[options.global, options.globalToLocal, options.localToGlobal].filter(Boolean).join(', ')}`,
  );
  console.log(formatTable(rows));
  return 0;
}

/** Classes with the names given, in the colours they have. */
function renamed(file: string, classes: readonly ClassInfo[], names: readonly string[]): ClassInfo[] {
  if (names.length !== classes.length) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `${file}: has ${classes.length} classes, but --class-names has ${names.length} (${names.join(', ')})`,
    );
  }
  return classes.map(({ color }, i) => ({ name: names[i]!, color }));
}

/** A JSON list of `{"name": "water", "color": [0, 0, 255]}`; its items are checked with the configuration. */
async function readClasses(file: string): Promise<ClassInfo[]> {
  const value = await readJson(file);
  const isClass = (item: unknown): item is ClassInfo => {
    const { name, color } = Object(item) as Partial<ClassInfo>;
    return typeof name === 'string' && Array.isArray(color);
  };
  if (!Array.isArray(value) || !value.every(isClass)) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `${file}: expected a list such as [{"name": "water", "color": [0, 0, 255]}, …], in the order of the class indices`,
    );
  }
  return value;
}

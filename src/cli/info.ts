/** `glnet info`: what is in a model, a checkpoint or an image. */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { openModel } from '../checkpoint/model-file';
import { openPyTorch } from '../checkpoint/pytorch';
import { openSafetensors } from '../checkpoint/safetensors';
import type { TensorInfo } from '../checkpoint/state-dict';
import { openRaster } from '../raster/raster';
import { patchGrid } from '../tiling';
import { modelRows, summarize, summaryRows } from './describe';
import { errorInfo, exitCodeOf, formatBytes, formatError, formatTable, plural } from './format';

export interface InfoArguments {
  patch?: number;
  json?: boolean;
}

interface Description {
  /** As `--json` prints it. */
  json: Record<string, unknown>;
  title: string;
  rows: [string, string][];
}

const checkpointExtensions = ['.pth', '.pt', '.bin', '.tar', '.pkl'];
const defaultPatch = 508;

/** @returns the exit code */
export async function info(files: readonly string[], options: InfoArguments): Promise<number> {
  const reports: Record<string, unknown>[] = [];
  let exitCode = 0;
  for (const file of files) {
    try {
      const { json, title, rows } = await describe(file, options.patch ?? defaultPatch);
      reports.push({ path: file, ...json });
      if (!options.json) console.log(`${file}: ${title}\n${formatTable(rows)}`);
    } catch (error) {
      if (exitCodeOf(error) === 2) throw error;
      reports.push({ path: file, error: errorInfo(error) });
      console.error(formatError(error));
      exitCode = 1;
    }
  }
  if (options.json) console.log(JSON.stringify(reports, undefined, 2));
  return exitCode;
}

async function describe(file: string, patch: number): Promise<Description> {
  const extension = path.extname(file).toLowerCase();
  if (checkpointExtensions.includes(extension)) return describePyTorch(file);
  if (extension === '.safetensors') return describeSafetensors(file);
  return describeImage(file, patch);
}

async function describeSafetensors(file: string): Promise<Description> {
  const plain = await openSafetensors(file);
  const { tensors } = plain;
  await plain.close();
  if (!plain.metadata.has('glnet')) return describeTensors(file, 'safetensors', tensors);
  const { config, close } = await openModel(file);
  await close();
  const summary = summarize(tensors);
  const fileBytes = (await stat(file)).size;
  return {
    json: { kind: 'model', ...config, ...summary, fileBytes },
    title: 'a glnet model',
    rows: [...modelRows(config, summary), ['file', formatBytes(fileBytes)]],
  };
}

async function describePyTorch(file: string): Promise<Description> {
  const checkpoint = await openPyTorch(file);
  await checkpoint.close();
  return describeTensors(file, 'PyTorch', checkpoint.tensors);
}

/** Tensors by the first part of their names, as in `resnet_global`. */
async function describeTensors(
  file: string,
  format: string,
  tensors: ReadonlyMap<string, TensorInfo>,
): Promise<Description> {
  const groups = new Map<string, Map<string, TensorInfo>>();
  for (const [name, tensor] of tensors) {
    const group = name.slice(0, name.indexOf('.') + 1 || undefined).replace(/\.$/, '');
    if (!groups.has(group)) groups.set(group, new Map());
    groups.get(group)!.set(name, tensor);
  }
  const summary = summarize(tensors);
  const fileBytes = (await stat(file)).size;
  const parts = Array.from(groups, ([name, members]) => ({ name, ...summarize(members) }));
  return {
    json: { kind: 'checkpoint', format, ...summary, fileBytes, groups: parts },
    title: `a ${format} checkpoint, not a glnet model; "glnet import" makes one`,
    rows: [
      ...summaryRows(summary),
      ['file', formatBytes(fileBytes)],
      ...parts.map(({ name, parameters, tensors }): [string, string] => [
        name,
        `${parameters.toLocaleString('en')} in ${plural(tensors, 'tensor')}`,
      ]),
    ],
  };
}

async function describeImage(file: string, patch: number): Promise<Description> {
  const raster = await openRaster(file);
  await raster.close();
  const { width, height, format, bands, bits, geo } = raster;
  const grid = patchGrid(width, height, patch);
  const [columns, rows] = [grid.columns.length, grid.rows.length];
  const maskBytes = width * height;
  return {
    json: {
      kind: 'image',
      width,
      height,
      format,
      bands,
      bits,
      ...(geo && { geo }),
      patches: { patch, columns, rows, count: grid.count },
      maskBytes,
    },
    title: `an image of ${width}x${height} pixels`,
    rows: [
      ['format', `${format}, ${plural(bands, 'band')} of ${bits} bits`],
      ...(geo ? geoRows(geo) : []),
      ['patches', `${columns}x${rows} = ${grid.count} of ${patch} px`],
      ['mask', `${formatBytes(maskBytes)} when held whole; "glnet segment" holds bands of rows`],
    ],
  };
}

function geoRows({
  transform,
  epsg,
}: NonNullable<Awaited<ReturnType<typeof openRaster>>['geo']>): [string, string][] {
  const [x, xByColumn, xByRow, y, yByColumn, yByRow] = transform;
  const turned = xByRow !== 0 || yByColumn !== 0 ? ', rotated' : '';
  return [
    ['place', `upper left corner at (${x}, ${y})${epsg ? `, EPSG:${epsg}` : ''}`],
    ['pixel', `${xByColumn} x ${Math.abs(yByRow)} ground units${turned}`],
  ];
}

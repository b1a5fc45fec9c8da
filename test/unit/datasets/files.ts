/** Data sets of the tests' own making. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';

const root = mkdtempSync(path.join(tmpdir(), 'glnet-datasets-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let folders = 0;

/** A new folder, removed after the tests of the file. */
export function newFolder(): string {
  const folder = path.join(root, String(folders++));
  mkdirSync(folder);
  return folder;
}

export interface Size {
  width: number;
  height: number;
}

/** Writes a file, with the folders above it. */
export function put(folder: string, name: string, content: string | Uint8Array): void {
  const file = path.join(folder, name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, content);
}

/** Writes an image of RGB values, in the format of its name. */
export async function putRgb(
  folder: string,
  name: string,
  { width, height }: Size,
  colour: (x: number, y: number) => readonly number[],
): Promise<void> {
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) data.set(colour(i % width, Math.floor(i / width)), 3 * i);
  const image = sharp(data, { raw: { width, height, channels: 3 } });
  put(folder, name, await image.toFormat(formatOf(name), options(name)).toBuffer());
}

/** Writes a gray image. */
export async function putGray(
  folder: string,
  name: string,
  { width, height }: Size,
  value: (x: number, y: number) => number,
): Promise<void> {
  const data = Uint8Array.from({ length: width * height }, (_, i) => value(i % width, Math.floor(i / width)));
  const image = sharp(data, { raw: { width, height, channels: 1 } }).toColourspace('b-w');
  put(folder, name, await image.toFormat(formatOf(name), options(name)).toBuffer());
}

function formatOf(name: string): 'jpeg' | 'png' | 'tiff' {
  const extension = path.extname(name);
  return extension === '.jpg' ? 'jpeg' : extension === '.png' ? 'png' : 'tiff';
}

function options(name: string): object {
  return formatOf(name) === 'tiff' ? { compression: 'deflate' } : {};
}

/** Any image: its colours differ from pixel to pixel. */
export const photo = (x: number, y: number): number[] => [
  (7 * x) & 255,
  (11 * y) & 255,
  (3 * x + 5 * y) & 255,
];

export function putJson(folder: string, name: string, value: unknown): void {
  put(folder, name, JSON.stringify(value));
}

/** A description of images/{id}.png and index masks/{id}.png of three classes. */
export const threeClasses = {
  classes: [
    { name: 'water', color: '#0000FF' },
    { name: 'land', color: [0, 128, 0] },
    { name: 'ice', color: '#FFFFFF' },
  ],
  images: 'images/{id}.png',
  masks: 'masks/{id}.png',
};

/** Sound samples a to f of 20x10 pixels in that layout, the left half water and the right one land. */
export async function putFolder(
  folder: string,
  description: object = {},
  ids: readonly string[] = ['a', 'b', 'c', 'd', 'e', 'f'],
): Promise<void> {
  putJson(folder, 'dataset.json', { ...threeClasses, ...description });
  for (const id of ids) {
    await putRgb(folder, `images/${id}.png`, { width: 20, height: 10 }, photo);
    await putGray(folder, `masks/${id}.png`, { width: 20, height: 10 }, (x) => (x < 10 ? 0 : 1));
  }
}

/** The golden data's weights and images, rebuilt from their formulas, and its files. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { Device } from '../../src/tensor/device';
import type { Tensor } from '../../src/tensor/tensor';

// In jest's realm a global is looked up slowly, and these are called a billion times.
const { imul, floor, min, max } = Math;

export const fixtures = path.join(__dirname, '../fixtures');

export function readJson<T>(name: string): T {
  return JSON.parse(readFileSync(path.join(fixtures, name), 'utf8')) as T;
}

/** Little-endian float32 values. */
export function readFloats(name: string): Float32Array {
  const { buffer, byteOffset, byteLength } = readFileSync(path.join(fixtures, name));
  return new Float32Array(buffer.slice(byteOffset, byteOffset + byteLength));
}

/** 32-bit finaliser of MurmurHash3. */
function mix(h: number): number {
  h ^= h >>> 16;
  h = imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = imul(h, 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

function fnv1a(text: string): number {
  let h = 0x811c9dc5;
  for (const byte of Buffer.from(text)) h = imul(h ^ byte, 0x01000193);
  return h >>> 0;
}

const golden = 0x9e3779b1;

/** Scale and offset of a parameter's values. */
function rangeOf(name: string, shape: readonly number[]): [number, number] {
  if (shape.length === 4) return [Math.sqrt(3 / (shape[1]! * shape[2]! * shape[3]!)), 0];
  if (name.endsWith('running_mean')) return [0.2, 0];
  if (name.endsWith('running_var')) return [0.3, 1];
  const norm = /\.(bn\d|downsample\.1)\./.exec(name);
  if (name.endsWith('.weight')) return [0.2, norm?.[1] === 'bn3' || norm?.[1] === 'downsample.1' ? 0.5 : 1.4];
  return [norm ? 0.2 : 0.1, 0];
}

/** Values of a parameter by the golden data's formula. */
export function goldenValues(name: string, shape: readonly number[], seed: number): Float32Array {
  const [a, b] = rangeOf(name, shape);
  const base = fnv1a(name) ^ seed;
  const values = new Float32Array(shape.reduce((x, y) => x * y, 1));
  for (let i = 0; i < values.length; i++) {
    const u = (mix((imul(i, golden) + base) | 0) >>> 8) / 2 ** 24;
    values[i] = (2 * u - 1) * a + b;
  }
  return values;
}

/** The reference network's parameters whose names begin with one of the prefixes, on a device. */
export function goldenWeights(
  device: Device,
  seed: number,
  prefixes: readonly string[],
): Map<string, Tensor> {
  const shapes = readJson<Record<string, number[]>>('parameters.json');
  const tensors = new Map<string, Tensor>();
  for (const [name, shape] of Object.entries(shapes)) {
    if (!prefixes.some((prefix) => name.startsWith(prefix)) || name.endsWith('num_batches_tracked')) continue;
    tensors.set(name, device.upload(goldenValues(name, shape, seed), shape, 'float32'));
  }
  return tensors;
}

/** The golden data's image: RGB, row by row. */
export function goldenImage(width: number, height: number, seed: number): Uint8Array {
  const pixels = new Uint8Array(width * height * 3);
  const noise = (y: number, x: number, c: number, s: number) =>
    (mix((imul(y * 4099 + x * 3 + c, golden) + seed + s) | 0) >>> 8) / 2 ** 24;
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < 3; c++, i++) {
        const ramp = c === 0 ? x / width : c === 1 ? y / height : (x + y) / (width + height);
        let value = 60 * ramp;
        for (const [s, a] of [
          [64, 90],
          [8, 50],
          [1, 20],
        ] as const) {
          value += a * noise(floor(y / s), floor(x / s), c, s);
        }
        pixels[i] = min(255, max(0, floor(value)));
      }
    }
  }
  return pixels;
}

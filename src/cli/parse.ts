/** Option values from the command line. They throw InvalidArgumentError, which commander shows with the option. */
import { InvalidArgumentError } from 'commander';

const units: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
};

/** Bytes: `1GB`, `512MiB`, `2e9`, `1.5 GiB`; upper and lower case alike. */
export function parseBytes(text: string): number {
  const [, number, unit] = /^\s*(\d+(?:\.\d+)?(?:e\d+)?)\s*([a-z]*)\s*$/i.exec(text) ?? [];
  const factor = units[unit?.toLowerCase() ?? ''];
  const bytes = Math.floor(Number(number) * (factor ?? Number.NaN));
  if (!Number.isSafeInteger(bytes) || bytes < 1) {
    throw new InvalidArgumentError('Expected a size such as 1GB (10^9 bytes), 512MiB (2^20 each) or 2e9.');
  }
  return bytes;
}

/** A whole number from 1, also as `1e9`. */
export function parseCount(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isSafeInteger(value) || value < 1) {
    throw new InvalidArgumentError('Expected a whole number from 1.');
  }
  return value;
}

/** A number greater than 0. */
export function parsePositive(text: string): number {
  const value = Number(text);
  if (!(value > 0 && Number.isFinite(value))) {
    throw new InvalidArgumentError('Expected a number greater than 0, such as 1e-3.');
  }
  return value;
}

/** A share from 0 to 1. */
export function parseShare(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= 0 && value <= 1)) {
    throw new InvalidArgumentError('Expected a share from 0 to 1, such as 0.1.');
  }
  return value;
}

/** `4,3,2`: three band numbers. */
export function parseBands(text: string): [number, number, number] {
  const bands = text.split(',').map(Number);
  if (bands.length !== 3 || !bands.every((band) => Number.isInteger(band) && band >= 1)) {
    throw new InvalidArgumentError(
      'Expected the bands for red, green and blue, counted from 1, such as 4,3,2.',
    );
  }
  return bands as [number, number, number];
}

/** `0,3000`: the least and the greatest sample value. */
export function parseStretch(text: string): [number, number] {
  const [min, max, ...rest] = text.split(',').map((part) => (part.trim() === '' ? Number.NaN : Number(part)));
  if (!Number.isFinite(min) || !Number.isFinite(max) || rest.length > 0 || min! >= max!) {
    throw new InvalidArgumentError('Expected two sample values, the lesser first, such as 0,3000.');
  }
  return [min!, max!];
}

/** `water,land`: names without blanks around them. */
export function parseNames(text: string): string[] {
  const names = text.split(',').map((name) => name.trim());
  if (names.includes('')) throw new InvalidArgumentError('Expected names with commas between them.');
  return names;
}

/** `0,3`: class indices. */
export function parseClasses(text: string): number[] {
  const indices = text.split(',').map((part) => (/^\s*\d+\s*$/.test(part) ? Number(part) : Number.NaN));
  if (!indices.every((index) => index <= 254)) {
    throw new InvalidArgumentError('Expected class indices from 0, with commas between them, such as 0,3.');
  }
  return indices;
}

/** `ensemble,local`: each once, of those that there are. */
export function parseChoices<T extends string>(choices: readonly T[]): (text: string) => T[] {
  return (text) => {
    const names = text.split(',').map((part) => part.trim()) as T[];
    if (!names.every((name) => choices.includes(name)) || new Set(names).size < names.length) {
      throw new InvalidArgumentError(`Expected some of ${choices.join(', ')}, with commas between them.`);
    }
    return names;
  };
}

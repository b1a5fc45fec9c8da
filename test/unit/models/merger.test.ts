/** Merging row by row, against sums over all patches at once in double precision. */
import type { BranchMaps, Stage } from '../../../src/models/fpn';
import { stages } from '../../../src/models/fpn';
import { Merger, PatchSums, zerosLike } from '../../../src/models/glnet';
import { cast } from '../../../src/tensor/cast';
import { Device } from '../../../src/tensor/device';
import type { Tensor } from '../../../src/tensor/tensor';
import { boxGrid, cropOf, type PatchGrid, patchGrid } from '../../../src/tiling';

const sizes = [4, 7, 13, 26];
const channels = 3;

let device: Device;
beforeEach(() => {
  device = new Device();
});
afterEach(() => {
  expect(device.leaks).toBe(0);
  expect(device.memory().active).toBe(0);
  device.dispose();
});

const maps = [...stages].flatMap((stage, s) => sizes.map((size, level) => ({ stage, level, size, s })));

function mapsOf(make: (map: { stage: Stage; level: number; size: number; s: number }) => Tensor): BranchMaps {
  const made = (stage: Stage) => maps.filter((map) => map.stage === stage).map(make);
  return Object.fromEntries(stages.map((stage) => [stage, made(stage)])) as unknown as BranchMaps;
}

const all = (all: BranchMaps): Tensor[] => Object.values(all).flat();

/** What a patch says of a map: any values that differ. */
function valuesOf(patch: number, s: number, level: number, size: number): Float32Array {
  return Float32Array.from(
    { length: size * channels },
    (_, i) => (((i + 1) * 7919 * (patch + 1) * (s + 2) * (level + 3)) % 251) / 16,
  );
}

/** The mean of all patches where any lies, where patches cover whole pixels: their sum by the coverage of the grid. */
function expected(grid: PatchGrid, s: number, level: number, size: number): Float64Array {
  const sum = new Float64Array(size * size * channels);
  for (let patch = 0; patch < grid.count; patch++) {
    const { top, left, height, width } = cropOf(grid, patch, size, size);
    const values = valuesOf(patch, s, level, height * width);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width * channels; x++)
        sum[((top + y) * size + left) * channels + x]! += values[y * width * channels + x]!;
    }
  }
  const axis = (starts: readonly number[], length: number): number[] => {
    const counts = Array.from(
      { length },
      (_, i) => starts.filter((s) => s <= i && i < s + grid.patch).length,
    );
    return Array.from({ length: size }, (_, i) => {
      const at = Math.max(((i + 0.5) * length) / size - 0.5, 0);
      const low = Math.min(Math.floor(at), length - 1);
      const high = Math.min(low + 1, length - 1);
      return counts[low]! + (counts[high]! - counts[low]!) * (at - low);
    });
  };
  const [rows, columns] = [axis(grid.rows, grid.paddedHeight), axis(grid.columns, grid.paddedWidth)];
  return sum.map((value, i) => {
    const pixel = Math.floor(i / channels);
    const coverage = rows[Math.floor(pixel / size)]! * columns[pixel % size]!;
    return coverage === 0 ? 0 : value / coverage;
  });
}

/**
 * Adds all patches of a row as predict.ts does: so many at a time, and where memory lacks, half as many from there on.
 * @param failures of the batches to come: how many maps are added before memory lacks
 */
function addRow(
  grid: PatchGrid,
  sums: PatchSums,
  row: number,
  like: BranchMaps,
  { batch, failures }: { batch: number; failures: readonly number[] } = { batch: 2, failures: [] },
): void {
  const columns = grid.columns.length;
  const left = [...failures];
  for (let column = 0; column < columns; ) {
    const count = Math.min(batch, columns - column);
    const patches = Array.from({ length: count }, (_, i) => row * columns + column + i);
    const fails = left.shift();
    for (const { stage, level, size, s } of maps.slice(0, fails)) {
      const { height, width } = cropOf(grid, patches[0]!, like[stage][level]!.dim(2), size);
      const values = patches.map((each) => valuesOf(each, s, level, height * width));
      const data = Float32Array.from(values.flatMap((each) => [...each]));
      using x = device.upload(data, [count, height, width, channels], 'float32');
      sums.add(stage, level, x, patches);
    }
    if (fails === undefined) column += count;
    else batch = Math.ceil(count / 2);
  }
}

const box = { top: 150, left: 90, width: 170, height: 140 };
const grids = {
  'rows that overlap': patchGrid(400, 400, 100),
  'one row': patchGrid(400, 100, 100),
  'part of the image': boxGrid(400, 400, 100, box),
  'many rows on few pixels': patchGrid(2000, 2000, 100),
};

describe.each(Object.entries(grids))('%s', (_, grid) => {
  const global = (dtype: 'float32' | 'bfloat16'): BranchMaps =>
    mapsOf(({ size }) => {
      const data = new Float32Array(size * size * channels).fill(Number.NaN);
      const map = device.upload(data, [1, size, size, channels], 'float32');
      if (dtype === 'float32') return map;
      using wide = map;
      return cast(wide, dtype);
    });

  async function check(merged: BranchMaps, limit: number): Promise<void> {
    for (const { stage, level, size, s } of maps) {
      const map = merged[stage][level]!;
      using wide = map.dtype === 'float32' ? map.alias() : device.run1('cast', { x: map, dtype: 'float32' });
      const got = (await wide.data()) as Float32Array;
      const worst = expected(grid, s, level, size).reduce(
        (most, value, i) => Math.max(most, Math.abs(value - got[i]!) / Math.max(1, Math.abs(value))),
        0,
      );
      expect({ stage, level, isClose: worst <= limit }).toEqual({ stage, level, isClose: true });
    }
  }

  const plainly = { batch: 2, failures: [] };
  test.each([
    ['float32', plainly, 1e-5],
    ['float32', { batch: 2, failures: [5] }, 1e-5],
    ['float32', { batch: 5, failures: [1] }, 1e-5],
    ['float32', { batch: 6, failures: [9, 4, 11] }, 1e-5],
    ['bfloat16', plainly, 4e-3],
  ] as const)('row by row into %s, %o', async (dtype, tries, limit) => {
    const merged = global(dtype);
    const merger = new Merger(grid, merged);
    for (let row = 0; row < grid.rows.length; row++) {
      const sums = new PatchSums(grid, merged, row, row + 1);
      addRow(grid, sums, row, merged, tries);
      merger.settle(sums);
    }
    await check(merged, limit);
    for (const map of all(merged)) map.dispose();
  });

  test('all rows at once', async () => {
    const like = global('float32');
    const merged = zerosLike(like);
    const sums = new PatchSums(grid, like);
    for (let row = 0; row < grid.rows.length; row++) addRow(grid, sums, row, like);
    new Merger(grid, merged).settle(sums);
    await check(merged, 1e-5);
    for (const map of [...all(merged), ...all(like)]) map.dispose();
  });

  test('rows that are read later are left alone', async () => {
    const merged = global('float32');
    const merger = new Merger(grid, merged);
    for (let row = 0; row + 1 < grid.rows.length; row++) {
      const sums = new PatchSums(grid, merged, row, row + 1);
      addRow(grid, sums, row, merged);
      merger.settle(sums);
      for (const { stage, level, size } of maps) {
        const values = (await merged[stage][level]!.data()) as Float32Array;
        const { top } = cropOf(grid, (row + 1) * grid.columns.length, size, size);
        const settled = values.findIndex(Number.isNaN) / (size * channels);
        expect({ stage, level, row, settled }).toEqual({ stage, level, row, settled: top });
      }
    }
    // An end in the middle leaves nothing behind.
    merger.dispose();
    for (const map of all(merged)) map.dispose();
  });
});

test('sums that are not merged go', () => {
  const [, grid] = Object.entries(grids)[0]!;
  const like = mapsOf(({ size }) => device.zeros([1, size, size, channels], 'float32'));
  const sums = new PatchSums(grid, like, 1, 2);
  sums.dispose();
  for (const map of all(like)) map.dispose();
});

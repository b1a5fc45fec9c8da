import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { axisStarts, cropOf, patchGrid, patchRect } from '../../src/tiling';

const golden = JSON.parse(readFileSync(join(__dirname, '../fixtures/golden.json'), 'utf8'));
const invalid = expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' });

/** The rule, step by step: count up until the patches cover the axis, then until they overlap enough. */
function countByRule(length: number, patch: number): number {
  let n = 1;
  while (n * patch < length) n++;
  while (patch - (length - patch) / (n - 1) < 50) n++;
  return n;
}

describe('axisStarts', () => {
  test('2448 px in patches of 508 give 6 patches with 120 px of overlap', () => {
    expect(axisStarts(2448, 508)).toEqual([0, 388, 776, 1164, 1552, 1940]);
  });

  test('counts as the rule does, covers the axis, overlaps by 50 or more', () => {
    const wrong: unknown[] = [];
    for (const patch of [52, 100, 124, 252, 508]) {
      for (let length = patch + 1; length < patch + 1500; length += 7) {
        const starts = axisStarts(length, patch);
        const steps = starts.slice(1).map((start, k) => start - starts[k]!);
        const right =
          starts.length === countByRule(length, patch) &&
          starts[0] === 0 &&
          starts.at(-1) === length - patch &&
          // Rounding may take one pixel of the overlap away.
          steps.every((step) => step > 0 && step <= patch - 50 + 1);
        if (!right) wrong.push({ patch, length, starts });
      }
    }
    expect(wrong).toEqual([]);
  });

  test('rounds ties to the even start', () => {
    // Steps of 48.5 and 45.5: 48.5 goes down to 48 (even), 45.5 up to 46 (even).
    expect(axisStarts(197, 100)).toEqual([0, 48, 97]);
    expect(axisStarts(191, 100)).toEqual([0, 46, 91]);
  });

  test('one patch covers an axis that is not longer', () => {
    expect(axisStarts(508, 508)).toEqual([0]);
    expect(axisStarts(1, 508)).toEqual([0]);
    expect(axisStarts(509, 508)).toEqual([0, 1]);
  });

  test('refuses patches that cannot overlap by 50 or are no multiple of 4', () => {
    for (const patch of [0, -4, 48, 50, 126.5, 510, Number.NaN]) {
      expect(() => axisStarts(1000, patch)).toThrow(invalid);
      expect(() => axisStarts(10, patch)).toThrow(invalid);
    }
    expect(() => axisStarts(0, 508)).toThrow(invalid);
    expect(() => axisStarts(10.5, 508)).toThrow(invalid);
  });
});

describe('patchGrid', () => {
  test.each(['wide', 'square508'])('places the patches of the golden case %s', (name) => {
    const { width, height, patch, patchTopLeft } = golden.eval[name];
    const grid = patchGrid(width, height, patch);
    const placed = Array.from({ length: grid.count }, (_, i) => {
      const { top, left } = patchRect(grid, i);
      return [top, left];
    });
    expect(placed).toEqual(patchTopLeft);
  });

  test('pads an axis shorter than a patch', () => {
    expect(patchGrid(600, 300, 508)).toEqual({
      patch: 508,
      width: 600,
      height: 300,
      paddedWidth: 600,
      paddedHeight: 508,
      rows: [0],
      columns: [0, 92],
      count: 2,
    });
  });

  test('refuses an index outside of the grid', () => {
    const grid = patchGrid(600, 600, 508);
    for (const index of [-1, 4, 0.5, Number.NaN]) expect(() => patchRect(grid, index)).toThrow(invalid);
  });
});

describe('cropOf', () => {
  test('lies where the patch lies, in the map’s pixels', () => {
    const grid = patchGrid(2448, 2448, 508);
    // 508 / 2448 * 127 = 26.35; 388 / 2448 * 127 = 20.13; 1940 / 2448 * 127 = 100.6
    expect(cropOf(grid, 0, 127, 127)).toEqual({ top: 0, left: 0, width: 26, height: 26 });
    expect(cropOf(grid, 1, 127, 127)).toEqual({ top: 0, left: 20, width: 26, height: 26 });
    expect(cropOf(grid, 35, 127, 127)).toEqual({ top: 101, left: 101, width: 26, height: 26 });
  });

  test('rows and columns are scaled apart', () => {
    const grid = patchGrid(496, 372, 124);
    // Patch 34 is at (248, 372): of a 31x62 map, rows 248/372*31 = 20.67, columns 372/496*62 = 46.5, to the even 46.
    expect(cropOf(grid, 34, 62, 31)).toEqual({ top: 21, left: 46, width: 16, height: 10 });
  });

  test('moves back into the map where rounding ran past its edge', () => {
    // The last patch starts at 508 of 1016 and takes half: of 127 pixels both are 63.5, to the even 64; 64 + 64 > 127.
    const grid = patchGrid(1016, 1016, 508);
    expect(grid.rows.at(-1)).toBe(508);
    expect(cropOf(grid, grid.count - 1, 127, 127)).toEqual({ top: 63, left: 63, width: 64, height: 64 });
  });

  test('is never empty and always inside the map', () => {
    const outside: unknown[] = [];
    for (const length of [509, 600, 2448, 5001, 30000]) {
      const grid = patchGrid(length, 508, 508);
      for (let size = 1; size < 40; size++) {
        for (let i = 0; i < grid.count; i++) {
          const { left, width } = cropOf(grid, i, size, 1);
          if (width < 1 || left < 0 || left + width > size) outside.push({ length, size, i, left, width });
        }
      }
    }
    expect(outside).toEqual([]);
  });

  test('the only patch of a small image takes the whole map', () => {
    expect(cropOf(patchGrid(100, 300, 508), 0, 16, 16)).toEqual({ top: 0, left: 0, width: 16, height: 16 });
  });

  test('refuses maps without pixels', () => {
    expect(() => cropOf(patchGrid(600, 600, 508), 0, 0, 16)).toThrow(invalid);
  });
});

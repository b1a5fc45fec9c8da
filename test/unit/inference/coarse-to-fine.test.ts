/** Coarse to fine: boxes and their patches, turned windows, and whole segmentations. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { GLNet } from '../../../src';
import { allModes, type Mode, writeModel } from '../../../src/checkpoint/model-file';
import { fromFloat32, toFloat32 } from '../../../src/checkpoint/state-dict';
import { randomWeights } from '../../../src/cli/self-test';
import { foregroundBox, refinedBox } from '../../../src/inference/coarse-to-fine';
import { allTurns, swapsSides, turnedWindow, windowInTurned } from '../../../src/inference/turns';
import { boxGrid, MIN_OVERLAP, patchGrid, patchRect } from '../../../src/tiling';
import { goldenImage } from '../../support/golden';
import { tinyConfig } from '../../support/tiny-model';

describe('foregroundBox', () => {
  const of = (...rows: number[][]) =>
    foregroundBox(Uint8Array.from(rows.flat()), rows[0]!.length, rows.length);

  test('holds every label but 0 and the ignored one', () => {
    expect(of([0, 0, 0, 0], [0, 0, 3, 0], [0, 1, 0, 0])).toEqual({ top: 1, left: 1, width: 2, height: 2 });
    expect(of([255, 0, 0], [0, 0, 0], [0, 0, 2])).toEqual({ top: 2, left: 2, width: 1, height: 1 });
    expect(of([1, 0], [0, 1])).toEqual({ top: 0, left: 0, width: 2, height: 2 });
  });

  test('is none without foreground', () => {
    expect(of([0, 255], [0, 0])).toBeUndefined();
    expect(foregroundBox(Uint8Array.of(7, 0), 2, 1, 7)).toBeUndefined();
  });
});

describe('refinedBox', () => {
  const grid = [10, 20] as const;
  const size = [1000, 1000] as const;

  test('maps to the image and widens each side by a share of the longer one', () => {
    // 100 x 50 pixels a cell: 200 x 400 px, widened by 40.
    expect(refinedBox({ top: 4, left: 3, width: 2, height: 8 }, grid, size, { margin: 0.1 })).toEqual({
      top: 160,
      left: 260,
      width: 280,
      height: 480,
    });
  });

  test('stays inside the image and covers broken cells', () => {
    expect(refinedBox({ top: 0, left: 8, width: 2, height: 20 }, grid, size, { margin: 0.3 })).toEqual({
      top: 0,
      left: 500,
      width: 500,
      height: 1000,
    });
    expect(refinedBox({ top: 1, left: 1, width: 1, height: 1 }, [3, 3], [100, 50], { margin: 0 })).toEqual({
      top: 16,
      left: 33,
      width: 34,
      height: 18,
    });
  });
});

describe('boxGrid', () => {
  test('covers the box and stays in the image, with enough overlap', () => {
    const wrong: unknown[] = [];
    for (const [width, height] of [
      [300, 200],
      [60, 300],
      [64, 64],
      [50, 40],
    ] as const) {
      for (let left = 0; left < width; left += 13) {
        for (let top = 0; top < height; top += 17) {
          for (const share of [0.01, 0.3, 1]) {
            const box = {
              left,
              top,
              width: Math.ceil((width - left) * share),
              height: Math.ceil((height - top) * share),
            };
            const grid = boxGrid(width, height, 64, box);
            const axis = (starts: readonly number[], start: number, extent: number, length: number) =>
              starts[0]! <= start &&
              starts.at(-1)! + 64 >= start + extent &&
              starts[0]! >= 0 &&
              starts.at(-1)! + 64 <= Math.max(length, 64) &&
              starts.every(
                (at, i) => i === 0 || (at > starts[i - 1]! && at - starts[i - 1]! <= 64 - MIN_OVERLAP + 1),
              );
            const right =
              axis(grid.columns, left, box.width, width) &&
              axis(grid.rows, top, box.height, height) &&
              grid.count === grid.rows.length * grid.columns.length &&
              grid.width === width &&
              grid.height === height;
            if (!right) wrong.push({ width, height, box, grid });
          }
        }
      }
    }
    expect(wrong).toEqual([]);
  });

  test('lays one patch with a small box in its middle, moved into the image at an edge', () => {
    const small = { left: 140, top: 2, width: 20, height: 10 };
    expect(patchRect(boxGrid(300, 200, 64, small), 0)).toEqual({ left: 118, top: 0, width: 64, height: 64 });
    expect(boxGrid(300, 200, 64, small).count).toBe(1);
  });

  test('of the whole image is the image’s own', () => {
    const whole = { left: 0, top: 0, width: 300, height: 200 };
    expect(boxGrid(300, 200, 64, whole)).toEqual(patchGrid(300, 200, 64));
  });
});

describe('windows of turned images', () => {
  /** Mirrors, then turns anticlockwise by quarters, as native/ops/turn.h says, pixel by pixel. */
  function turned(image: number[][], turn: number): number[][] {
    let result = turn & 4 ? image.map((row) => [...row].reverse()) : image;
    for (let quarter = 0; quarter < (turn & 3); quarter++) {
      const columns = result[0]!.length;
      result = Array.from({ length: columns }, (_, y) => result.map((row) => row[columns - 1 - y]!));
    }
    return result;
  }
  const [width, height] = [5, 3];
  const cut = (
    image: number[][],
    { left, top, width: w, height: h }: { left: number; top: number; width: number; height: number },
  ) => image.slice(top, top + h).map((row) => row.slice(left, left + w));

  test.each(allTurns)('turn %i, every window', (turn) => {
    const image = Array.from({ length: height }, (_, y) =>
      Array.from({ length: width }, (_, x) => y * width + x),
    );
    const whole = turned(image, turn);
    expect(whole.length).toBe(swapsSides(turn) ? width : height);
    for (let top = 0; top < height; top++) {
      for (let left = 0; left < width; left++) {
        for (let h = 1; h <= height - top; h++) {
          for (let w = 1; w <= width - left; w++) {
            const window = { left, top, width: w, height: h };
            const there = windowInTurned(turn, width, height, window);
            expect(cut(whole, there)).toEqual(turned(cut(image, window), turn));
            expect(turnedWindow(turn, width, height, there)).toEqual(window);
          }
        }
      }
    }
  });
});

describe('segmentations', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'glnet-coarse-'));
  const models = new Map<string, Promise<GLNet>>();
  afterAll(async () => {
    for (const model of models.values()) await (await model).dispose();
    rmSync(folder, { recursive: true });
  });
  const [width, height] = [300, 220];

  /** Noise with a bright spot. */
  const data = goldenImage(width, height, 3);
  for (let y = 80; y < 140; y++) data.fill(255, 3 * (y * width + 120), 3 * (y * width + 190));
  const image = { data, width, height, channels: 3 } as const;

  /**
   * A model of random weights up to a mode.
   * @param background added to the global branch's score of class 0: with 0.9 it sees foreground in a part of the image
   */
  function modelOf(mode: Mode, background: number): Promise<GLNet> {
    const name = `${mode} ${background}`;
    const made = models.get(name) ?? makeModel(path.join(folder, `${name}.safetensors`), mode, background);
    models.set(name, made);
    return made;
  }
  async function makeModel(file: string, mode: Mode, background: number): Promise<GLNet> {
    const config = { ...tinyConfig, patch: 100, modes: allModes.slice(0, allModes.indexOf(mode) + 1) };
    const weights = randomWeights(config, 5);
    const key = 'global.fpn_global.classify.bias';
    const bias = toFloat32(weights.get(key)!);
    bias[0]! += background;
    weights.set(key, fromFloat32([bias.length], bias));
    await writeModel(file, config, weights);
    return GLNet.load(file, { threads: 1 });
  }
  const tensors = (model: GLNet): number => model.devices[0]!.memory.tensors;

  describe.each(['global-to-local', 'bidirectional'] as const)('%s', (mode) => {
    test.each([false, true])('only the box is refined, with flips and turns %s', async (flipRotate) => {
      const model = await modelOf(mode, 0.9);
      const options = { mode: 'coarse-to-fine', margin: 0, flipRotate } as const;
      const { labels, confidence, report } = await model.segment(image, options);
      const { box, share, patches, allPatches } = report.refinement!;
      expect(share).toBeCloseTo((box!.width * box!.height) / (width * height), 12);
      expect(share).toBeGreaterThan(0.05);
      expect(share).toBeLessThan(0.8);
      expect(allPatches).toBe(patchGrid(width, height, 100).count);
      expect(patches).toBe(boxGrid(width, height, 100, box!).count);
      expect(patches).toBeLessThan(allPatches);
      // A box has as many patches however it is turned.
      expect(report.patches).toBe((flipRotate ? 8 : 1) * patches);

      const inside = (i: number): boolean => {
        const [x, y] = [i % width, Math.floor(i / width)];
        return x >= box!.left && x < box!.left + box!.width && y >= box!.top && y < box!.top + box!.height;
      };
      expect(labels.filter((label, i) => label !== 0 && !inside(i))).toHaveLength(0);
      expect(labels.filter((label, i) => label !== 0 && inside(i)).length).toBeGreaterThan(0);
      expect(confidence.every((value) => value > 0)).toBe(true);

      const before = tensors(model);
      const again = await model.segment(image, options);
      expect(Buffer.compare(again.labels, labels)).toBe(0);
      expect(tensors(model)).toBe(before);
    });

    test('planning it for a limit leaves no trace', async () => {
      const model = await modelOf(mode, 0.9);
      const rows = Array.from({ length: height }, (_, y) => data.slice(3 * width * y, 3 * width * (y + 1)));
      const upsideDown = { ...image, data: Uint8Array.from(rows.reverse().flatMap((row) => [...row])) };
      const options = { mode: 'coarse-to-fine', margin: 0 } as const;
      const { labels, confidence, report } = await model.segment(upsideDown, options);
      // So there are rows above the box.
      expect(report.refinement!.box!.top).toBeGreaterThan(10);
      const file = path.join(folder, `${mode} 0.9.safetensors`);
      await using limited = await GLNet.load(file, { threads: 1, memoryLimit: 1e9 });
      const planned = await limited.segment(upsideDown, options);
      expect(planned.report.plannedPeakBytes).toBe(planned.report.poolPeakBytes);
      expect(Buffer.compare(planned.labels, labels)).toBe(0);
      expect(Buffer.compare(planned.confidence, confidence)).toBe(0);
    });

    test.each([false, true])(
      'the whole image is refined as ever, with flips and turns %s',
      async (flipRotate) => {
        const model = await modelOf(mode, -1000);
        const coarse = await model.segment(image, { mode: 'coarse-to-fine', flipRotate });
        const plain = await model.segment(image, { mode, flipRotate });
        expect(coarse.report.refinement).toMatchObject({ share: 1, box: { left: 0, top: 0, width, height } });
        expect(new Set(plain.labels).size).toBeGreaterThan(1);
        expect(Buffer.compare(coarse.labels, plain.labels)).toBe(0);
        expect(Buffer.compare(coarse.confidence, plain.confidence)).toBe(0);
      },
    );

    test.each([false, true])(
      'without foreground no patch runs, with flips and turns %s',
      async (flipRotate) => {
        const model = await modelOf(mode, 1000);
        for (const output of ['ensemble', 'local'] as const) {
          const { labels, confidence, report } = await model.segment(image, {
            mode: 'coarse-to-fine',
            output,
            flipRotate,
          });
          expect(report.patches).toBe(0);
          expect(report.refinement).toEqual({
            box: undefined,
            share: 0,
            patches: 0,
            allPatches: patchGrid(width, height, 100).count,
          });
          expect(labels.every((label) => label === 0)).toBe(true);
          expect(confidence.every((value) => value === 255)).toBe(true);
        }
        const before = tensors(model);
        const { labels } = await model.segment(image, {
          mode: 'coarse-to-fine',
          output: 'global',
          flipRotate,
        });
        expect(labels.every((label) => label === 0)).toBe(true);
        expect(tensors(model)).toBe(before);
      },
    );
  });

  test('the box holds what the global branch sees, and hardly more', async () => {
    const model = await modelOf('global-to-local', 0.9);
    const { labels } = await model.segment(image, { mode: 'global' });
    const { report } = await model.segment(image, { mode: 'coarse-to-fine', margin: 0 });
    const found = foregroundBox(labels, width, height)!;
    const box = report.refinement!.box!;
    const sides = ({ left, top, width: w, height: h }: typeof box) => [-left, -top, left + w, top + h];
    sides(box).forEach((side, i) => {
      expect(side).toBeGreaterThanOrEqual(sides(found)[i]!);
      expect(side).toBeLessThanOrEqual(sides(found)[i]! + 2);
    });
  });

  test('is refused without a local branch, and with a margin that is no share', async () => {
    const invalid = (message: RegExp) => ({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    });
    const global = await modelOf('global', 0);
    await expect(global.segment(image, { mode: 'coarse-to-fine' })).rejects.toMatchObject(
      invalid(/mode is coarse-to-fine; this model has no local branch/),
    );
    const model = await modelOf('global-to-local', 0.9);
    for (const margin of [-0.1, 1.5, Number.NaN]) {
      await expect(model.segment(image, { mode: 'coarse-to-fine', margin })).rejects.toMatchObject(
        invalid(/margin is .*; expected a share from 0 to 1/),
      );
    }
  });
});

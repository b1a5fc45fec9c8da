import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { contextScene, type Scene, sceneClasses, writeScenes } from '../../../experiments/context/scenes';

const invalid = expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' });

/** Small enough to be quick: two landmarks of each colour. */
const small = { size: 512, spacing: 256, objects: 8 };
const scenes = Array.from({ length: 4 }, (_, index) => contextScene(1, index, small));

function shares(scene: Scene, classes: number): number[] {
  const counts = new Array<number>(classes).fill(0);
  for (const label of scene.labels) counts[label]!++;
  return counts.map((count) => count / scene.labels.length);
}

test('equal arguments give equal scenes, others give others', () => {
  const again = contextScene(1, 0, small);
  expect(Buffer.compare(again.pixels, scenes[0]!.pixels)).toBe(0);
  expect(Buffer.compare(again.labels, scenes[0]!.labels)).toBe(0);
  expect(again.landmarks).toEqual(scenes[0]!.landmarks);
  for (const other of [scenes[1]!, contextScene(2, 0, small)]) {
    expect(Buffer.compare(other.labels, again.labels)).not.toBe(0);
    expect(Buffer.compare(other.pixels, again.pixels)).not.toBe(0);
  }
});

test('has the size, and few but enough pixels of every class', () => {
  const sums = [0, 0, 0, 0, 0];
  for (const scene of scenes) {
    expect([scene.width, scene.height, scene.pixels.length, scene.labels.length]).toEqual([
      512,
      512,
      512 * 512 * 3,
      512 * 512,
    ]);
    shares(scene, 5).forEach((share, label) => {
      sums[label]! += share / scenes.length;
    });
  }
  expect(sums.reduce((a, b) => a + b)).toBeCloseTo(1, 10);
  expect(sums[0]).toBeGreaterThan(0.8);
  for (const share of sums.slice(1)) expect(share).toBeGreaterThan(0.004);
});

test('a landmark has a class, and so have the hedges to which it is the nearest, away from all of them', () => {
  const wrong: unknown[] = [];
  for (const { labels, width, landmarks } of scenes) {
    for (let i = 0; i < labels.length; i++) {
      if (labels[i] === 0) continue;
      const [x, y] = [i % width, Math.floor(i / width)];
      const distances = landmarks.map((landmark) => Math.hypot(x - landmark.x, y - landmark.y));
      const nearest = Math.min(...distances);
      const { biome } = landmarks[distances.indexOf(nearest)]!;
      const onLandmark = nearest < 28;
      if (labels[i] !== 1 + biome || (!onLandmark && nearest < 64))
        wrong.push({ x, y, label: labels[i], biome, nearest });
    }
  }
  expect(wrong).toEqual([]);
});

test("a sixth of the resolution shows landmarks' colours, and no hatching", async () => {
  const { pixels, labels, width, landmarks } = contextScene(1, 0);
  const side = 124;
  const raster = sharp(pixels, { raw: { width, height: width, channels: 3 } });
  const shrunk = await raster.resize(side, side, { kernel: 'linear' }).raw().toBuffer();
  const red = Array.from({ length: side * side }, (_, i) => shrunk[3 * i]! - shrunk[3 * i + 2]!);
  // Two landmarks of each colour, about 60 px each, less their blurred rims.
  expect(red.filter((difference) => difference > 70).length).toBeGreaterThan(40);
  expect(red.filter((difference) => difference < -70).length).toBeGreaterThan(40);

  /** Root mean square of green's difference of neighbours that both are of a kind. */
  const contrast = (values: Uint8Array, side: number, isOf: (i: number) => boolean) => {
    const at = (x: number, y: number) =>
      Math.floor(((y + 0.5) * width) / side) * width + Math.floor(((x + 0.5) * width) / side);
    const green = (x: number, y: number) => values[3 * (y * side + x) + 1]!;
    let [sum, count] = [0, 0];
    for (let y = 0; y + 1 < side; y++) {
      for (let x = 0; x + 1 < side; x++) {
        if (!isOf(at(x, y))) continue;
        for (const [u, v] of [
          [x + 1, y],
          [x, y + 1],
        ] as const) {
          if (!isOf(at(u, v))) continue;
          sum += (green(x, y) - green(u, v)) ** 2;
          count++;
        }
      }
    }
    return Math.sqrt(sum / count);
  };
  const distance = (i: number, { x, y }: { x: number; y: number }) =>
    Math.hypot((i % width) - x, Math.floor(i / width) - y);
  const isOutside = (i: number) => landmarks.every((landmark) => distance(i, landmark) > 48);
  const ratio = (values: Uint8Array, side: number) =>
    contrast(values, side, (i) => labels[i]! > 0 && isOutside(i)) /
    contrast(values, side, (i) => labels[i] === 0 && isOutside(i));
  expect(ratio(pixels, width)).toBeGreaterThan(3);
  expect(ratio(shrunk, side)).toBeLessThan(2);

  // Well inside the landmarks, where the blurred rim does not reach.
  const texture = (values: Uint8Array, side: number, biomes: number) => {
    const some = landmarks.filter(({ biome }) => biome % 2 === biomes);
    expect(some.length).toBeGreaterThan(0);
    return contrast(values, side, (i) => some.some((landmark) => distance(i, landmark) < 18));
  };
  expect(texture(pixels, width, 1) / texture(pixels, width, 0)).toBeGreaterThan(3);
  expect(texture(shrunk, side, 1) / texture(shrunk, side, 0)).toBeLessThan(1.5);
});

test('refuses options out of range by name', () => {
  for (const [options, name] of [
    [{ size: 300 }, 'size is 300; expected an integer from 384'],
    [{ size: 768.5 }, 'size is 768.5'],
    [{ spacing: 100 }, 'spacing is 100'],
    [{ colours: 1 }, 'colours is 1'],
    [{ colours: 5 }, 'colours is 5; expected an integer from 2 to 4'],
    [{ objects: 0 }, 'objects is 0'],
  ] as const) {
    expect(() => contextScene(1, 0, options)).toThrow(invalid);
    expect(() => contextScene(1, 0, options)).toThrow(name);
  }
  expect(() => contextScene(1, -1)).toThrow(invalid);
});

test('writes a folder data set', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'glnet-scenes-'));
  try {
    await writeScenes(folder, { train: 2, val: 1, test: 1 }, 1, { ...small, colours: 3 });
    const description = JSON.parse(readFileSync(path.join(folder, 'dataset.json'), 'utf8'));
    expect(description.classes).toEqual(sceneClasses(3).map(({ name, color }) => ({ name, color })));
    expect(description.split).toEqual({
      train: ['scene-0000', 'scene-0001'],
      val: ['scene-0002'],
      test: ['scene-0003'],
    });
    const { pixels, labels } = contextScene(1, 3, { ...small, colours: 3 });
    const image = await sharp(path.join(folder, 'images/scene-0003.png')).raw().toBuffer();
    expect(Buffer.compare(image, pixels)).toBe(0);
    // The palette's colours stand for the indices.
    const mask = await sharp(path.join(folder, 'masks/scene-0003.png')).removeAlpha().raw().toBuffer();
    const colours = sceneClasses(3).map(({ color }) => color.join());
    const found = Array.from(labels, (_, i) => colours.indexOf(mask.subarray(3 * i, 3 * i + 3).join()));
    expect(Buffer.compare(Uint8Array.from(found), labels)).toBe(0);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

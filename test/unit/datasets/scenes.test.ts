/** Scenes for training: what they are, that they depend on seed and step alone, and how many are held. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Sample } from '../../../src/datasets/dataset';
import { openImage } from '../../../src/datasets/labels';
import { openDataset } from '../../../src/datasets/open';
import { type Scene, type SceneBatch, SceneLoader, type SceneOptions } from '../../../src/datasets/scenes';
import { newFolder, photo, putFolder, putGray, putRgb } from './files';

jest.mock('../../../src/datasets/labels', () => {
  const actual = jest.requireActual('../../../src/datasets/labels');
  return { ...actual, openImage: jest.fn(actual.openImage) };
});

const sizes: Record<string, { width: number; height: number }> = {
  a: { width: 20, height: 10 },
  b: { width: 20, height: 10 },
  c: { width: 31, height: 17 },
  d: { width: 9, height: 40 },
  e: { width: 64, height: 64 },
};
const labelAt = (x: number, y: number) => (x + 2 * y) % 3;
let samples: readonly Sample[];
let folder: string;

beforeAll(async () => {
  folder = newFolder();
  await putFolder(folder, {}, ['a', 'b']);
  for (const [id, size] of Object.entries(sizes)) {
    await putRgb(folder, `images/${id}.png`, size, photo);
    await putGray(folder, `masks/${id}.png`, size, labelAt);
  }
  ({ samples } = await openDataset(folder));
});

async function take(options: SceneOptions, from: number, to: number, of = samples): Promise<SceneBatch[]> {
  const batches: SceneBatch[] = [];
  for await (const batch of new SceneLoader(of, options).batches(from, to)) batches.push(batch);
  return batches;
}

const place = ({ id, left, top, width, height, turn }: Scene) => ({ id, left, top, width, height, turn });
const places = (batches: SceneBatch[]) => batches.map(({ scenes }) => scenes.map(place));

/** Pixels and labels are those of the place that the scene names. */
function expectContent({ left, top, width, height, pixels, labels }: Scene): void {
  const expected = { pixels: [] as number[], labels: [] as number[] };
  for (let y = top; y < top + height; y++) {
    for (let x = left; x < left + width; x++) {
      expected.pixels.push(...photo(x, y));
      expected.labels.push(labelAt(x, y));
    }
  }
  expect(Array.from(pixels)).toEqual(expected.pixels);
  expect(Array.from(labels)).toEqual(expected.labels);
}

test('whole images: each once a round, in another order each time', async () => {
  const batches = await take({ batch: 2, seed: 1 }, 0, 10);
  expect(batches.map(({ step }) => step)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  const scenes = batches.flatMap((batch) => batch.scenes);
  for (const scene of scenes) {
    expect(scene).toMatchObject({ left: 0, top: 0, ...sizes[scene.id]! });
    expectContent(scene);
  }
  const rounds = [0, 1, 2, 3].map((round) => scenes.slice(5 * round, 5 * round + 5).map(({ id }) => id));
  for (const round of rounds) expect([...round].sort()).toEqual(['a', 'b', 'c', 'd', 'e']);
  expect(new Set(rounds.map((round) => round.join())).size).toBeGreaterThan(1);
});

test('squares: inside the image, all places, what is smaller is taken whole', async () => {
  const scenes = (await take({ batch: 10, seed: 2, scene: 16 }, 0, 100)).flatMap((batch) => batch.scenes);
  const places = new Set<string>();
  for (const { id, left, top, width, height } of scenes) {
    const size = sizes[id]!;
    expect({ width, height }).toEqual({ width: Math.min(16, size.width), height: Math.min(16, size.height) });
    expect(left >= 0 && left + width <= size.width && top >= 0 && top + height <= size.height).toBe(true);
    places.add(`${id} ${left} ${top}`);
  }
  for (const scene of scenes.slice(0, 30)) expectContent(scene);
  // All places of a (5 of them), and of c (16 times 2).
  expect([...places].filter((name) => name.startsWith('a')).length).toBe(5);
  expect([...places].filter((name) => name.startsWith('c')).length).toBe(32);
});

test('flips with probability 1/2, then quarter turns with probability 1/2', async () => {
  const batches = await take({ batch: 100, seed: 3, scene: 1 }, 0, 40);
  const counts = new Array<number>(8).fill(0);
  for (const { turn } of batches.flatMap(({ scenes }) => scenes)) counts[turn]! += 1;
  // Turn 0 and the flip alone have probability 1/4 each, the others 1/12: within 5 standard deviations of 4000.
  counts.forEach((count, turn) => {
    const p = turn % 4 === 0 ? 1 / 4 : 1 / 12;
    expect(Math.abs(count - 4000 * p)).toBeLessThan(5 * Math.sqrt(4000 * p * (1 - p)));
  });
  const plain = await take({ batch: 100, seed: 3, scene: 1, augment: false }, 0, 1);
  expect(new Set(plain[0]!.scenes.map(({ turn }) => turn))).toEqual(new Set([0]));
});

test('order, places and turns follow from seed and step, whatever is read ahead, kept, or came before', async () => {
  const options = { batch: 3, seed: 4, scene: 8 };
  const expected = places(await take(options, 0, 12));
  expect(places(await take({ ...options, prefetch: 5, cacheBytes: 0, parallel: 1 }, 0, 12))).toEqual(
    expected,
  );
  for (const from of [1, 5, 11]) {
    expect(places(await take(options, from, 12))).toEqual(expected.slice(from));
  }
  expect(places(await take({ ...options, seed: 5 }, 0, 12))).not.toEqual(expected);
  // The same loader, left and taken up again.
  const loader = new SceneLoader(samples, options);
  const seen: SceneBatch[] = [];
  for await (const batch of loader.batches()) if (seen.push(batch) === 4) break;
  for await (const batch of loader.batches(4, 12)) seen.push(batch);
  expect(places(seen)).toEqual(expected);
});

describe('what is held', () => {
  /** Counts images that are opened and closed. */
  function watch() {
    const opened: string[] = [];
    let open = 0;
    let most = 0;
    const mock = jest.mocked(openImage);
    const original = mock.getMockImplementation()!;
    mock.mockImplementation(async (sample) => {
      opened.push(sample.id);
      most = Math.max(most, ++open);
      const image = await original(sample);
      const close = image.close.bind(image);
      image.close = async () => {
        open--;
        await close();
      };
      return image;
    });
    return { opened, most: () => most, open: () => open, restore: () => mock.mockImplementation(original) };
  }
  const settle = () => new Promise((resolve) => setTimeout(resolve, 100));

  test('no more batches than asked for are read ahead, and a loop that is left ends the reading', async () => {
    // Enough for one round, so that no image serves two scenes.
    const many = Array.from({ length: 40 }, (_, i) => ({ ...samples[i % 5]! }));
    for (const prefetch of [1, 3]) {
      const watched = watch();
      const loader = new SceneLoader(many, { batch: 2, seed: 1, prefetch, cacheBytes: 0 });
      const batches = loader.batches();
      expect(watched.opened).toHaveLength(0);
      for (let taken = 1; taken <= 4; taken++) {
        await batches.next();
        const expected = 2 * (taken + prefetch);
        for (let i = 0; i < 100 && watched.opened.length < expected; i++) await settle();
        await settle();
        expect(watched.opened).toHaveLength(expected);
      }
      await batches.return();
      const read = watched.opened.length;
      await settle();
      expect(watched.opened).toHaveLength(read);
      expect(watched.open()).toBe(0);
      watched.restore();
    }
  });

  test('no more images at a time than asked for', async () => {
    const watched = watch();
    await take({ batch: 5, seed: 1, prefetch: 4, cacheBytes: 0, parallel: 2 }, 0, 8);
    expect(watched.most()).toBe(2);
    watched.restore();
  });

  test('images that fit are decoded once', async () => {
    const watched = watch();
    await take({ batch: 2, seed: 1, prefetch: 4 }, 0, 20);
    expect([...watched.opened].sort()).toEqual(['a', 'b', 'c', 'd', 'e']);
    watched.restore();
  });

  test('of those that don’t fit together, the one used last stays', async () => {
    const watched = watch();
    const pair = [samples[0]!, samples[1]!];
    // One of them takes 800 bytes.
    await take({ batch: 1, seed: 1, prefetch: 1, parallel: 1, cacheBytes: 900 }, 0, 40, pair);
    const order = (await take({ batch: 1, seed: 1 }, 0, 40, pair)).map(({ scenes }) => scenes[0]!.id);
    const changes = order.filter((id, i) => id !== order[i - 1]);
    expect(watched.opened.slice(0, changes.length)).toEqual(changes);
    watched.restore();
  });

  test('of images larger than what is kept, only the square is read', async () => {
    const watched = watch();
    const batches = await take({ batch: 1, seed: 1, scene: 8, cacheBytes: 64 * 64 * 4 - 1 }, 0, 20, [
      samples[4]!,
    ]);
    for (const { scenes } of batches) expectContent(scenes[0]!);
    expect(batches[0]!.scenes[0]!.pixels).toHaveLength(8 * 8 * 3);
    // Once to see how large it is.
    expect(watched.opened).toHaveLength(21);
    watched.restore();
  });
});

test('a file that can’t be read is named when it is its turn, and ends the reading', async () => {
  const broken = newFolder();
  await putFolder(broken, {}, ['a', 'b', 'c']);
  writeFileSync(path.join(broken, 'masks/b.png'), 'no image');
  await putGray(broken, 'masks/c.png', { width: 20, height: 9 }, () => 0);
  const set = (await openDataset(broken)).samples;
  const order = await take({ batch: 1, seed: 1 }, 0, 3, [samples[0]!, samples[1]!, samples[2]!]);
  const first = order.findIndex(({ scenes }) => scenes[0]!.id !== 'a');
  const seen: string[] = [];
  const reading = async () => {
    for await (const { scenes } of new SceneLoader(set, { batch: 1, seed: 1, prefetch: 3 }).batches()) {
      seen.push(scenes[0]!.id);
    }
  };
  await expect(reading()).rejects.toMatchObject({
    message: expect.stringMatching(
      /masks.b\.png: not a PNG|masks.c\.png: is 20x9 pixels, but its image .* is 20x10/,
    ),
  });
  expect(seen).toEqual(order.slice(0, first).map(({ scenes }) => scenes[0]!.id));
});

test.each<[string, Partial<SceneOptions>, RegExp]>([
  ['no batch', { batch: 0 }, /batch is 0; expected a whole number from 1/],
  ['a seed that is none', { seed: -1 }, /seed is -1/],
  ['a scene without pixels', { scene: 0 }, /scene is 0; expected "image", or the side/],
  ['no prefetch', { prefetch: 0 }, /prefetch is 0/],
  ['a negative cache', { cacheBytes: -1 }, /cacheBytes is -1/],
  ['nothing in parallel', { parallel: 0 }, /parallel is 0/],
])('refuses %s', (_, options, message) => {
  const make = () => new SceneLoader(samples, { batch: 1, seed: 0, ...options });
  expect(make).toThrow(
    expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT', message: expect.stringMatching(message) }),
  );
});

test('refuses no samples, samples without masks, and a start that is none', async () => {
  const options = { batch: 1, seed: 0 };
  expect(() => new SceneLoader([], options)).toThrow(/samples is an empty list/);
  expect(() => new SceneLoader([{ ...samples[0]!, mask: undefined }], options)).toThrow(
    /a, which has no mask/,
  );
  await expect(new SceneLoader(samples, options).batches(-1).next()).rejects.toMatchObject({
    code: 'ERR_INVALID_ARGUMENT',
  });
});

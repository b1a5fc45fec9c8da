/**
 * Context scenes: images of the project's own making in which neither branch of GLNet can do without the other.
 *
 * A scene is ground of one texture, divided among landmarks by distance, and the land around a landmark is its biome.
 * Landmarks are discs that differ in colour, and are plain or finely hatched; colour and hatching together are the kind
 * of the biome. Hedges, thin ragged strokes with a hatching of their own, grow everywhere and look the same
 * everywhere; the class of a hedge, and of the landmark itself, is the kind of the biome. Stains are strokes of the same
 * make and mean colour without the hatching, and are ground.
 *
 * - Where a hedge is: its hatching and its outline vanish when the image is downsampled to a sixth; what is left is a
 *   smudge like a stain's. On a patch both are plain.
 * - Which colour its landmark has: most patches have no landmark in sight. On the downsampled image it is plain, so the
 *   aggregation of both branches can tell.
 * - Whether its landmark is hatched: the downsampled image does not show it, and only the patches with the landmark in
 *   them do. One branch has to tell the other: local maps, merged, reach the patches around.
 *
 *   node scripts/run-ts.js experiments/context/scenes.ts DIR [--train 60] [--val 12] [--test 24] [--seed 1]
 *                                                            [--size 768] [--spacing 384] [--colours 2] [--objects 24]
 *
 * writes a folder data set: images/*.png, masks/*.png (class indices) and dataset.json.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import sharp from 'sharp';

import type { ClassInfo } from '../../src/checkpoint/model-file';
import { GlnetError } from '../../src/errors';
import { Random } from '../../src/nn/random';
import { writeIndexPng } from '../../src/raster/write';

const { cos, floor, hypot, max, min, PI, round, sin } = Math;

export interface SceneOptions {
  /** Side of the square scene in pixels; at least `spacing`. */
  readonly size: number;
  /** Mean distance of neighbouring landmarks in pixels, at least 256: less would leave no room for hedges. */
  readonly spacing: number;
  /** Colours of landmarks, 2 to 4: twice as many kinds of biomes, and classes besides the ground. */
  readonly colours: number;
  /** Hedges to place, and stains as well; fewer where there is no room. At least 1. */
  readonly objects: number;
}

export const defaultScene: SceneOptions = { size: 768, spacing: 384, colours: 2, objects: 24 };

export interface Scene {
  readonly width: number;
  readonly height: number;
  /** Red, green, blue: height * width * 3. */
  readonly pixels: Uint8Array;
  /** Class indices, height * width: 0 is the ground, 1 + b what belongs to a biome of kind b. */
  readonly labels: Uint8Array;
  readonly landmarks: readonly Landmark[];
}

export interface Landmark {
  readonly x: number;
  readonly y: number;
  /** The kind: twice the colour's index, and one more where it is hatched. */
  readonly biome: number;
}

type Colour = readonly [number, number, number];

const landmarkColours: readonly Colour[] = [
  [205, 60, 50],
  [55, 90, 215],
  [215, 190, 50],
  [190, 60, 190],
];
const colourNames = ['red', 'blue', 'yellow', 'purple'] as const;
const groundColour: Colour = [128, 132, 104];
/** What hedges and stains add to the ground, on the mean. */
const objectShade: Colour = [-24, -14, -22];

const landmarkRadius = 28;
/** From a landmark to the nearest stroke, in pixels: so few patches see both. */
const clearing = 64;
/** How much farther than its own landmark one of another biome must be, in pixels. */
const border = 48;
/** Between strokes, in pixels. */
const gap = 5;
/** Of the hatchings: pixels from line to line, which a sixth of the resolution cannot show, and contrast. */
const hatchPeriod = 5;
const hatchContrast = 42;
const textures = ['plain', 'hatched'] as const;
/** How far outlines swing, in pixels. */
const raggedness = 3;

/** The classes of scenes: the ground, and the kinds of biomes, in their landmark's colour, darker where it is hatched. */
export function sceneClasses(colours: number): ClassInfo[] {
  return [
    { name: 'ground', color: [0, 0, 0] },
    ...landmarkColours.slice(0, colours).flatMap((colour, i) =>
      textures.map((texture, hatched) => ({
        name: `${colourNames[i]} ${texture}`,
        color: colour.map((value) => round(value * (hatched ? 0.55 : 1))) as unknown as Colour,
      })),
    ),
  ];
}

/**
 * Makes a scene. Equal arguments give equal scenes.
 * @param index which of the seed's scenes, 0 or more
 * @throws GlnetError ERR_INVALID_ARGUMENT for options out of range
 */
export function contextScene(seed: number, index: number, options: Partial<SceneOptions> = {}): Scene {
  const { size, spacing, colours, objects } = checkOptions({ ...defaultScene, ...options });
  const random = new Random(seed, index);
  const landmarks = placeLandmarks(random, size, spacing, colours);
  const ground = paintGround(random, size);
  const ragged = valueNoise(random, size, 6);
  const labels = new Uint8Array(size * size);
  const taken = new Uint8Array(size * size);

  // Hedges and stains by turns, so that both find as much room.
  const placed = [0, 0];
  for (let attempt = 0; attempt < 200 * objects && placed[0]! + placed[1]! < 2 * objects; attempt++) {
    const isHedge = placed[0]! <= placed[1]!;
    const stroke = growStroke(random, size, landmarks);
    if (!stroke || !claim(stroke, size, ragged, taken)) continue;
    placed[isHedge ? 0 : 1]!++;
    const angle = PI * random.uniform();
    for (const pixel of covered(stroke, size, ragged, 0)) {
      const hatch = isHedge ? hatching(pixel % size, floor(pixel / size), angle) : 0;
      for (let c = 0; c < 3; c++) ground[3 * pixel + c]! += objectShade[c]! + hatch;
      if (isHedge) labels[pixel] = 1 + stroke.biome;
    }
  }

  for (const landmark of landmarks) paintLandmark(ground, labels, size, landmark, PI * random.uniform());
  const pixels = new Uint8Array(ground.length);
  for (let i = 0; i < pixels.length; i++) {
    pixels[i] = max(0, min(255, round(ground[i]! + 16 * (random.uniform() - 0.5))));
  }
  return { width: size, height: size, pixels, labels, landmarks };
}

function checkOptions(options: SceneOptions): SceneOptions {
  const limits = {
    spacing: [256, 2 ** 14],
    size: [options.spacing, 2 ** 14],
    colours: [2, landmarkColours.length],
    objects: [1, 1e6],
  } as const;
  for (const [name, [least, most]] of Object.entries(limits)) {
    const value = options[name as keyof SceneOptions];
    if (!Number.isInteger(value) || value < least || value > most) {
      throw new GlnetError(
        'ERR_INVALID_ARGUMENT',
        `${name} is ${value}; expected an integer from ${least} to ${most}`,
      );
    }
  }
  return options;
}

/** One somewhere in the middle of each cell of a square grid; as many of each colour as the cells allow. */
function placeLandmarks(random: Random, size: number, spacing: number, colours: number): Landmark[] {
  const cells = round(size / spacing);
  const cell = size / cells;
  const shuffled = random.shuffle(Array.from({ length: cells * cells }, (_, i) => i % colours));
  return shuffled.map((colour, i) => ({
    x: cell * ((i % cells) + 0.35 + 0.3 * random.uniform()),
    y: cell * (floor(i / cells) + 0.35 + 0.3 * random.uniform()),
    biome: textures.length * colour + random.integer(textures.length),
  }));
}

/** The same everywhere: light and tint that wander over hundreds, dozens and few pixels. */
function paintGround(random: Random, size: number): Float32Array {
  const ground = new Float32Array(size * size * 3);
  const light = [
    [160, 14],
    [40, 12],
    [9, 8],
  ] as const;
  for (const [cell, amplitude] of light) {
    const noise = valueNoise(random, size, cell);
    for (let i = 0; i < ground.length; i++) ground[i]! += amplitude * noise[floor(i / 3)]!;
  }
  for (let c = 0; c < 3; c++) {
    const tint = valueNoise(random, size, 110);
    for (let i = 0; i < tint.length; i++) ground[3 * i + c]! += groundColour[c]! + 9 * tint[i]!;
  }
  return ground;
}

/** Smooth noise in [-1, 1]: random values on a lattice, and between them a blend without corners. */
function valueNoise(random: Random, size: number, cell: number): Float32Array {
  const side = floor((size - 1) / cell) + 2;
  const lattice = Float32Array.from({ length: side * side }, () => 2 * random.uniform() - 1);
  const blend = (t: number) => t * t * (3 - 2 * t);
  const noise = new Float32Array(size * size);
  for (let y = 0, i = 0; y < size; y++) {
    const row = floor(y / cell) * side;
    const v = blend((y % cell) / cell);
    for (let x = 0; x < size; x++, i++) {
      const at = row + floor(x / cell);
      const u = blend((x % cell) / cell);
      const top = lattice[at]! * (1 - u) + lattice[at + 1]! * u;
      const bottom = lattice[at + side]! * (1 - u) + lattice[at + side + 1]! * u;
      noise[i] = top * (1 - v) + bottom * v;
    }
  }
  return noise;
}

interface Stroke {
  readonly biome: number;
  readonly points: readonly { readonly x: number; readonly y: number; readonly radius: number }[];
}

/** A walk of 60 to 180 px that bends at random, with a branch; undefined where it would leave its biome's land. */
function growStroke(random: Random, size: number, landmarks: readonly Landmark[]): Stroke | undefined {
  const points: { x: number; y: number; radius: number }[] = [];
  const start = { x: size * random.uniform(), y: size * random.uniform() };
  const biome = biomeAt(start.x, start.y, landmarks);
  if (biome === undefined) return undefined;

  const step = 3;
  const walk = (x: number, y: number, heading: number, steps: number): boolean => {
    let bend = 0;
    for (let i = 0; i < steps; i++) {
      const radius = 5 + 3 * random.uniform();
      const margin = radius + raggedness;
      const inside = min(x, y) >= margin && max(x, y) < size - margin;
      if (!inside || biomeAt(x, y, landmarks) !== biome) return false;
      points.push({ x, y, radius });
      bend = 0.8 * bend + 0.12 * random.normal();
      heading += bend;
      x += step * cos(heading);
      y += step * sin(heading);
    }
    return true;
  };
  const heading = 2 * PI * random.uniform();
  if (!walk(start.x, start.y, heading, 20 + random.integer(41))) return undefined;
  const fork = points[random.integer(points.length)]!;
  const side = random.integer(2) === 0 ? 1 : -1;
  if (!walk(fork.x, fork.y, heading + side * (0.6 + random.uniform()), 8 + random.integer(13)))
    return undefined;
  return { biome, points };
}

/** The biome of a place; undefined near a landmark and where two biomes meet. */
function biomeAt(x: number, y: number, landmarks: readonly Landmark[]): number | undefined {
  const distances = landmarks.map((landmark) => hypot(x - landmark.x, y - landmark.y));
  const nearest = min(...distances);
  if (nearest < landmarkRadius + clearing) return undefined;
  const { biome } = landmarks[distances.indexOf(nearest)]!;
  const meets = distances.some((distance, i) => landmarks[i]!.biome !== biome && distance < nearest + border);
  return meets ? undefined : biome;
}

/** Pixels of a stroke widened by `more` px; one may come up several times unless it is collected. */
function covered(stroke: Stroke, size: number, ragged: Float32Array, more: number): Set<number> {
  const pixels = new Set<number>();
  for (const { x, y, radius } of stroke.points) {
    const reach = radius + raggedness + more;
    for (let row = max(0, floor(y - reach)); row <= min(size - 1, y + reach); row++) {
      for (let column = max(0, floor(x - reach)); column <= min(size - 1, x + reach); column++) {
        const pixel = row * size + column;
        const limit = radius + raggedness * ragged[pixel]! + more;
        if ((column - x) ** 2 + (row - y) ** 2 < limit ** 2) pixels.add(pixel);
      }
    }
  }
  return pixels;
}

/** Takes a stroke's pixels and a gap around them, unless another stroke has some of them. */
function claim(stroke: Stroke, size: number, ragged: Float32Array, taken: Uint8Array): boolean {
  const pixels = covered(stroke, size, ragged, gap);
  for (const pixel of pixels) if (taken[pixel]) return false;
  for (const pixel of pixels) taken[pixel] = 1;
  return true;
}

/** What hatching adds to a pixel: nothing on the mean. */
function hatching(x: number, y: number, angle: number): number {
  return hatchContrast * sin((2 * PI * (x * cos(angle) + y * sin(angle))) / hatchPeriod);
}

function paintLandmark(
  ground: Float32Array,
  labels: Uint8Array,
  size: number,
  { x, y, biome }: Landmark,
  angle: number,
): void {
  const colour = landmarkColours[floor(biome / textures.length)]!;
  const isHatched = biome % textures.length === 1;
  for (let row = floor(y - landmarkRadius); row <= y + landmarkRadius; row++) {
    for (let column = floor(x - landmarkRadius); column <= x + landmarkRadius; column++) {
      if (hypot(column - x, row - y) >= landmarkRadius) continue;
      const pixel = row * size + column;
      const hatch = isHatched ? hatching(column, row, angle) : 0;
      labels[pixel] = 1 + biome;
      for (let c = 0; c < 3; c++) {
        const i = 3 * pixel + c;
        // The ground's light shows through.
        ground[i] = colour[c]! + hatch + 0.5 * (ground[i]! - groundColour[c]!);
      }
    }
  }
}

/** Splits of a data set, and how many scenes each has. */
export type SceneCounts = Readonly<Record<'train' | 'val' | 'test', number>>;

/**
 * Writes scenes as a folder data set: `images/{id}.png`, `masks/{id}.png` with class indices, `dataset.json`.
 * @throws GlnetError ERR_INVALID_ARGUMENT for options out of range, ERR_FILE if a mask cannot be written
 */
export async function writeScenes(
  folder: string,
  counts: SceneCounts,
  seed: number,
  options: Partial<SceneOptions> = {},
): Promise<void> {
  const { colours } = checkOptions({ ...defaultScene, ...options });
  const classes = sceneClasses(colours);
  await mkdir(path.join(folder, 'images'), { recursive: true });
  await mkdir(path.join(folder, 'masks'), { recursive: true });
  const split: Record<string, string[]> = {};
  let index = 0;
  for (const [name, count] of Object.entries(counts)) {
    const ids: string[] = [];
    split[name] = ids;
    for (let i = 0; i < count; i++, index++) {
      const id = `scene-${String(index).padStart(4, '0')}`;
      const { width, height, pixels, labels } = contextScene(seed, index, options);
      await sharp(pixels, { raw: { width, height, channels: 3 } })
        .png()
        .toFile(path.join(folder, 'images', `${id}.png`));
      const palette = classes.map(({ color }) => color);
      await writeIndexPng(path.join(folder, 'masks', `${id}.png`), { width, height }, labels, palette);
      ids.push(id);
    }
  }
  const description = {
    name: 'context scenes',
    classes,
    images: 'images/{id}.png',
    masks: 'masks/{id}.png',
    labels: 'index',
    split,
  };
  await writeFile(path.join(folder, 'dataset.json'), `${JSON.stringify(description, null, 2)}\n`);
}

async function main(): Promise<void> {
  const number = (name: string, value: number) => ({
    [name]: { type: 'string', default: String(value) } as const,
  });
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      ...number('train', 60),
      ...number('val', 12),
      ...number('test', 24),
      ...number('seed', 1),
      ...number('size', defaultScene.size),
      ...number('spacing', defaultScene.spacing),
      ...number('colours', defaultScene.colours),
      ...number('objects', defaultScene.objects),
    },
  });
  const folder = positionals[0];
  if (folder === undefined || positionals.length > 1) {
    throw new Error(
      'expected one folder: node scripts/run-ts.js experiments/context/scenes.ts DIR [--train 60] …',
    );
  }
  const count = (name: string): number => {
    const value = Number(values[name]);
    if (!Number.isSafeInteger(value) || value < 0) {
      throw new Error(`--${name} is ${values[name]}; expected a whole number, 0 or more`);
    }
    return value;
  };
  const counts = { train: count('train'), val: count('val'), test: count('test') };
  const options = {
    size: count('size'),
    spacing: count('spacing'),
    colours: count('colours'),
    objects: count('objects'),
  };
  await writeScenes(folder, counts, count('seed'), options);
  console.log(
    `${folder}: ${counts.train} scenes to train with, ${counts.val} to validate, ${counts.test} to test`,
  );
}

if (process.argv[1] === __filename) {
  main().catch((error: Error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
}

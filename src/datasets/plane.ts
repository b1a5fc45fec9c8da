/** Several files read as one image, and a part of an image read as if it were all of it. */
import { GlnetError } from '../errors';
import type { Raster, Window } from '../raster/raster';

/** Anything that is read in windows: an image (3 bytes a pixel) or the labels of one (1 byte). */
export interface Plane {
  readonly path: string;
  readonly width: number;
  readonly height: number;
  readWindow(window: Window): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Where the parts of a mosaic lie. */
export interface MosaicGrid {
  readonly width: number;
  readonly height: number;
  readonly windows: readonly Window[];
}

/**
 * Joins parts, row by row. Parts of a row have one height, parts of a column one width.
 *
 * @throws {GlnetError} ERR_IMAGE if a part doesn't fit, by its name.
 */
export function mosaicGrid(
  parts: readonly Pick<Plane, 'path' | 'width' | 'height'>[],
  columns: number,
): MosaicGrid {
  const windows: Window[] = [];
  let top = 0;
  for (let row = 0; row * columns < parts.length; row++) {
    let left = 0;
    const height = parts[row * columns]!.height;
    for (let column = 0; column < columns; column++) {
      const part = parts[row * columns + column]!;
      const width = parts[column]!.width;
      if (part.width !== width || part.height !== height) {
        throw new GlnetError(
          'ERR_IMAGE',
          `${part.path}: is ${part.width}x${part.height} pixels; expected ${width}x${height}, to fit beside the ` +
            `other parts of its mosaic, in row ${row + 1}, column ${column + 1}`,
        );
      }
      windows.push({ left, top, width, height });
      left += width;
    }
    top += height;
  }
  const last = windows.at(-1)!;
  return { width: last.left + last.width, height: last.top + last.height, windows };
}

class MosaicPlane<P extends Plane> implements Plane {
  readonly path: string;
  readonly width: number;
  readonly height: number;
  protected readonly first: P;
  readonly #parts: readonly P[];
  readonly #windows: readonly Window[];
  readonly #channels: number;

  constructor(parts: readonly P[], columns: number, channels: number) {
    const { width, height, windows } = mosaicGrid(parts, columns);
    this.first = parts[0]!;
    this.path = `${this.first.path} … ${parts.at(-1)!.path}`;
    this.width = width;
    this.height = height;
    this.#parts = parts;
    this.#windows = windows;
    this.#channels = channels;
  }

  async readWindow(window: Window): Promise<Uint8Array> {
    checkInside(this, window);
    const channels = this.#channels;
    const target = new Uint8Array(window.width * window.height * channels);
    await Promise.all(
      this.#parts.map(async (part, i) => {
        const place = this.#windows[i]!;
        const common = intersect(window, place);
        if (!common) return;
        const rows = await part.readWindow({
          ...common,
          left: common.left - place.left,
          top: common.top - place.top,
        });
        const bytes = common.width * channels;
        for (let y = 0; y < common.height; y++) {
          const to = (common.top - window.top + y) * window.width + (common.left - window.left);
          target.set(rows.subarray(y * bytes, (y + 1) * bytes), to * channels);
        }
      }),
    );
    return target;
  }

  async close(): Promise<void> {
    await Promise.all(this.#parts.map((part) => part.close()));
  }
}

class MosaicRaster extends MosaicPlane<Raster> implements Raster {
  readonly format = 'mosaic';

  constructor(parts: readonly Raster[], columns: number) {
    super(parts, columns, 3);
  }

  get bands(): number {
    return this.first.bands;
  }

  get bits(): 8 | 16 {
    return this.first.bits;
  }
}

class RegionPlane<P extends Plane> implements Plane {
  readonly path: string;
  readonly width: number;
  readonly height: number;
  readonly #region: Window;

  constructor(
    protected readonly whole: P,
    region: Window,
  ) {
    const { left, top, width, height } = region;
    if (!isInside(whole, region)) {
      throw new GlnetError(
        'ERR_IMAGE',
        `${whole.path}: the region ${width}x${height} at (${left}, ${top}) is empty or not inside the image of ` +
          `${whole.width}x${whole.height} pixels; correct the region`,
      );
    }
    this.path = whole.path;
    this.width = width;
    this.height = height;
    this.#region = region;
  }

  readWindow(window: Window): Promise<Uint8Array> {
    checkInside(this, window);
    const { left, top } = this.#region;
    return this.whole.readWindow({ ...window, left: left + window.left, top: top + window.top });
  }

  close(): Promise<void> {
    return this.whole.close();
  }
}

class RegionRaster extends RegionPlane<Raster> implements Raster {
  get format(): string {
    return this.whole.format;
  }

  get bands(): number {
    return this.whole.bands;
  }

  get bits(): 8 | 16 {
    return this.whole.bits;
  }
}

/** Joins the labels of parts; takes them over, and closes them if they don't fit. */
export function joinLabels(parts: readonly Plane[], columns: number): Promise<Plane> {
  return orClose(parts, () => new MosaicPlane(parts, columns, 1));
}

/**
 * Joins images row by row to one, `columns` to a row. It takes them over: closing it closes them.
 *
 * @throws {GlnetError} ERR_IMAGE if they don't fit (see {@link mosaicGrid}); then they are closed.
 */
export function joinRasters(parts: readonly Raster[], columns: number): Promise<Raster> {
  return orClose(parts, () => new MosaicRaster(parts, columns));
}

/** A part of the labels of an image; takes them over. */
export function cropLabels(labels: Plane, region: Window): Promise<Plane> {
  return orClose([labels], () => new RegionPlane(labels, region));
}

/**
 * A part of an image as an image. It takes the image over.
 *
 * @throws {GlnetError} ERR_IMAGE if the region is empty or not inside the image, which is closed then.
 */
export function cropRaster(raster: Raster, region: Window): Promise<Raster> {
  return orClose([raster], () => new RegionRaster(raster, region));
}

async function orClose<T>(planes: readonly Plane[], make: () => T): Promise<T> {
  try {
    return make();
  } catch (error) {
    await Promise.all(planes.map((plane) => plane.close()));
    throw error;
  }
}

/** Opens all, or closes those that did open and throws the first error. */
export async function openAll<P extends Plane>(
  files: readonly string[],
  open: (file: string) => Promise<P>,
): Promise<P[]> {
  const results = await Promise.allSettled(files.map(open));
  const opened = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  const failed = results.find((result) => result.status === 'rejected');
  if (!failed) return opened;
  await Promise.all(opened.map((plane) => plane.close()));
  throw failed.reason;
}

/** All of an image. */
export function wholeOf({ width, height }: Pick<Plane, 'width' | 'height'>): Window {
  return { left: 0, top: 0, width, height };
}

/** What two rectangles have in common, if anything. */
export function intersect(a: Window, b: Window): Window | undefined {
  const left = Math.max(a.left, b.left);
  const top = Math.max(a.top, b.top);
  const width = Math.min(a.left + a.width, b.left + b.width) - left;
  const height = Math.min(a.top + a.height, b.top + b.height) - top;
  return width > 0 && height > 0 ? { left, top, width, height } : undefined;
}

export function isInside(size: Pick<Plane, 'width' | 'height'>, window: Window): boolean {
  const { left, top, width, height } = window;
  return (
    [left, top, width, height].every(Number.isInteger) &&
    left >= 0 &&
    top >= 0 &&
    width >= 1 &&
    height >= 1 &&
    left + width <= size.width &&
    top + height <= size.height
  );
}

function checkInside(plane: Plane, window: Window): void {
  if (isInside(plane, window)) return;
  const { left, top, width, height } = window;
  throw new GlnetError(
    'ERR_INVALID_ARGUMENT',
    `${plane.path}: window ${width}x${height} at (${left}, ${top}) is empty or not inside ${plane.width}x${plane.height} pixels`,
  );
}

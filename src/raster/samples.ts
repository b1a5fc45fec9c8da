/** From stored samples (8 or 16 bits, any number of channels) to interleaved 8-bit RGB. */

export type SampleArray = Uint8Array | Uint16Array;

/** One channel of stored pixels: pixel `i` is `data[i * step + first]`, mapped by `lut` where there is one. */
export interface Channel {
  readonly data: SampleArray;
  readonly first: number;
  readonly step: number;
  readonly lut?: Uint8Array | undefined;
}

export type RgbChannels = readonly [Channel, Channel, Channel];

/** A walk over stored pixels: pixel (x, y) of the walk is stored pixel `start + x * stepX + y * stepY`. */
export interface Walk {
  readonly start: number;
  readonly stepX: number;
  readonly stepY: number;
  readonly width: number;
  readonly height: number;
}

/**
 * Writes the pixels of a walk as RGB into `target`, whose rows are `targetWidth` pixels apart, from pixel
 * `targetStart` on.
 */
export function writeRgb(
  target: Uint8Array,
  targetStart: number,
  targetWidth: number,
  channels: RgbChannels,
  walk: Walk,
): void {
  const { start, stepX, stepY, width, height } = walk;
  if (stepX === 1 && isPackedRgb(channels)) {
    const { data } = channels[0];
    for (let y = 0; y < height; y++) {
      const from = 3 * (start + y * stepY);
      target.set(data.subarray(from, from + 3 * width), 3 * (targetStart + y * targetWidth));
    }
    return;
  }
  for (let c = 0; c < 3; c++) {
    const { data, first, step, lut } = channels[c]!;
    for (let y = 0; y < height; y++) {
      let from = (start + y * stepY) * step + first;
      let to = 3 * (targetStart + y * targetWidth) + c;
      for (let x = 0; x < width; x++) {
        const value = data[from]!;
        target[to] = lut ? lut[value]! : value;
        from += stepX * step;
        to += 3;
      }
    }
  }
}

/** Whether the channels are the bytes of one interleaved RGB array, so that they can be taken as they are. */
export function isPackedRgb([r, g, b]: RgbChannels): boolean {
  return [r, g, b].every(
    (channel, c) => channel.data === r.data && channel.step === 3 && channel.first === c && !channel.lut,
  );
}

/**
 * Table from a stored sample to 8 bits: with `stretch` [min, max], min becomes 0 and max 255, linearly, rounded
 * and clamped; without, 16 bits keep their upper byte (as OpenCV, libpng and Pillow's 16-bit RGB reader do).
 *
 * @returns 2^bits bytes, or undefined where 8-bit samples stay as they are.
 */
export function sampleLut(bits: 8 | 16, stretch?: readonly [number, number]): Uint8Array | undefined {
  if (!stretch) return bits === 8 ? undefined : Uint8Array.from({ length: 65536 }, (_, v) => v >> 8);
  const [min, max] = stretch;
  return Uint8Array.from({ length: 2 ** bits }, (_, v) =>
    Math.min(255, Math.max(0, Math.round(((v - min) * 255) / (max - min)))),
  );
}

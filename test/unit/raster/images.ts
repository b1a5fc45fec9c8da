/** Images of the tests' own making. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateSync } from 'node:zlib';
import sharp, { type Sharp } from 'sharp';
import { headerChunk, PNG_SIGNATURE, pngChunk } from '../../../src/raster/png';

/** A folder that is removed after the tests of the file. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'glnet-raster-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A pattern in which every pixel and channel differs from its neighbours; interleaved. */
export function pattern(width: number, height: number, channels: number): Uint8Array {
  const data = new Uint8Array(width * height * channels);
  let i = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < channels; c++) data[i++] = x * 7 + y * 13 + c * 85 + ((x * y) >> 3);
    }
  }
  return data;
}

/** The same with 16 bits, so that neither byte follows from the other. */
export function pattern16(width: number, height: number, channels: number): Uint16Array {
  return Uint16Array.from(pattern(width, height, channels), (v, i) => v * 256 + ((i * 31) & 255));
}

export function image(width: number, height: number, channels: 1 | 2 | 3 | 4): Sharp {
  const pixels = sharp(pattern(width, height, channels), { raw: { width, height, channels } });
  return channels < 3 ? pixels.toColourspace('b-w') : pixels;
}

/** 16-bit PNG of the pattern. */
export function png16(width: number, height: number, channels: 1 | 3 | 4): Promise<Buffer> {
  return sharp(pattern16(width, height, channels), { raw: { width, height, channels } })
    .toColourspace(channels === 1 ? 'grey16' : 'rgb16')
    .png()
    .toBuffer();
}

/** A PNG from its parts: rows without filter bytes, and chunks to go before the data. */
export function rawPng(
  size: { width: number; height: number },
  bits: number,
  colourType: number,
  rows: Uint8Array[],
  chunks: Buffer[] = [],
): Buffer {
  const filtered = Buffer.concat(rows.flatMap((row) => [Buffer.from([0]), row]));
  return Buffer.concat([
    PNG_SIGNATURE,
    headerChunk(size, bits, colourType),
    ...chunks,
    pngChunk('IDAT', deflateSync(filtered)),
    pngChunk('IEND', Buffer.alloc(0)),
  ]);
}

/** Picks three of `channels` interleaved channels. */
export function pick(data: Uint8Array | Uint16Array, channels: number, bands: readonly number[]): number[] {
  const rgb: number[] = [];
  for (let i = 0; i < data.length; i += channels) for (const band of bands) rgb.push(data[i + band]!);
  return rgb;
}

/** Cuts a window from interleaved RGB. */
export function cut(
  rgb: ArrayLike<number>,
  width: number,
  window: { left: number; top: number; width: number; height: number },
): number[] {
  const out: number[] = [];
  for (let y = window.top; y < window.top + window.height; y++) {
    const row = 3 * y * width;
    for (let i = row + 3 * window.left; i < row + 3 * (window.left + window.width); i++) out.push(rgb[i]!);
  }
  return out;
}

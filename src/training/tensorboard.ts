/**
 * TensorBoard's event files: records of length-prefixed protocol buffers (tensorboard/compat/proto/event.proto and
 * summary.proto), written without a library, since only a few of their fields are needed.
 */
import { mkdirSync } from 'node:fs';
import { hostname } from 'node:os';
import path from 'node:path';
import { GlnetError } from '../errors';
import { PNG_SIGNATURE } from '../raster/png';
import { AppendFile, checkStep } from './append-file';

/** CRC-32C (Castagnoli), bit-reversed polynomial. */
const CRC_TABLE = Int32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0x82f63b78 ^ (c >>> 1) : c >>> 1;
  return c;
});

/** CRC-32C of bytes, rotated and shifted as record files hold it, so that it is not the checksum of its own record. */
export function maskedCrc32c(bytes: Uint8Array): number {
  let c = -1;
  for (const byte of bytes) c = CRC_TABLE[(c ^ byte) & 0xff]! ^ (c >>> 8);
  c = ~c;
  return (((c >>> 15) | (c << 17)) + 0xa282ead8) >>> 0;
}

export interface EventWriterOptions {
  /**
   * A resumed run: TensorBoard forgets what the folder's older files have after this step, since this run writes it
   * again.
   */
  resumeAt?: number;
  /** Milliseconds since 1970; default the system's clock. */
  now?: () => number;
}

/**
 * Writes scalars and images of a training run to a new event file in a folder, which `tensorboard --logdir` shows. An event
 * is with the system when the call returns.
 */
export class EventWriter {
  readonly #file: AppendFile;
  readonly #now: () => number;

  /**
   * @param folder made if need be
   * @throws GlnetError ERR_FILE if the file cannot be made; ERR_INVALID_ARGUMENT if `resumeAt` is no step.
   */
  constructor(folder: string, { resumeAt, now = Date.now }: EventWriterOptions = {}) {
    if (resumeAt !== undefined) checkStep(folder, 'resumeAt', resumeAt);
    this.#now = now;
    try {
      mkdirSync(folder, { recursive: true });
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      throw new GlnetError('ERR_FILE', `${folder}: this folder can't be made (${code}); choose another one`, {
        cause,
      });
    }
    // TensorBoard reads files in the order of their names, and runs may begin in the same second.
    const stamp = (now() / 1000).toFixed(3).padStart(14, '0');
    const name = `events.out.tfevents.${stamp}.${hostname()}.${process.pid}`;
    this.#file = new AppendFile(path.join(folder, name), 'refuse');
    this.#write(0, bytesField(eventField.fileVersion, Buffer.from('brain.Event:2')));
    if (resumeAt !== undefined) {
      // A session's start makes readers drop this and later steps of older files.
      this.#write(resumeAt + 1, bytesField(eventField.sessionLog, varintField(1, sessionStart)));
    }
  }

  get path(): string {
    return this.#file.path;
  }

  /**
   * @param values by tag, such as `loss/total`; TensorBoard stores them in single precision
   * @throws GlnetError ERR_INVALID_ARGUMENT if the step is none; ERR_FILE; ERR_DISPOSED after {@link close}.
   */
  scalars(step: number, values: Readonly<Record<string, number>>): void {
    const entries = Object.entries(values).map(([tag, value]) => {
      const simple = Buffer.alloc(5);
      simple[0] = (summaryField.simpleValue << 3) | wireType.fixed32;
      simple.writeFloatLE(value, 1);
      return bytesField(1, Buffer.concat([bytesField(summaryField.tag, Buffer.from(tag)), simple]));
    });
    this.#write(step, bytesField(eventField.summary, Buffer.concat(entries)));
  }

  /**
   * @param tag such as `prediction/scene 3`
   * @param png an encoded PNG
   * @throws GlnetError as {@link scalars}, and ERR_INVALID_ARGUMENT if it is no PNG.
   */
  image(step: number, tag: string, png: Uint8Array): void {
    const file = Buffer.from(png.buffer, png.byteOffset, png.byteLength);
    if (file.length < 26 || !file.subarray(0, 8).equals(PNG_SIGNATURE)) {
      throw new GlnetError('ERR_INVALID_ARGUMENT', `the image ${tag} is not a PNG; expected an encoded one`);
    }
    // Height, width, channels, bytes; the size stands in a PNG's first chunk.
    const image = Buffer.concat([
      varintField(1, file.readUInt32BE(20)),
      varintField(2, file.readUInt32BE(16)),
      varintField(3, channelsOf[file[25]!] ?? 3),
      bytesField(4, file),
    ]);
    const value = Buffer.concat([
      bytesField(summaryField.tag, Buffer.from(tag)),
      bytesField(summaryField.image, image),
    ]);
    this.#write(step, bytesField(eventField.summary, bytesField(1, value)));
  }

  /** Idempotent. */
  close(): void {
    this.#file.close();
  }

  /** One event: when, at which step, and what. */
  #write(step: number, what: Buffer): void {
    checkStep(this.path, 'step', step);
    const time = Buffer.alloc(9);
    time[0] = (eventField.wallTime << 3) | wireType.fixed64;
    time.writeDoubleLE(this.#now() / 1000, 1);
    const event = Buffer.concat([time, varintField(eventField.step, step), what]);
    const head = Buffer.alloc(12);
    head.writeBigUInt64LE(BigInt(event.length));
    head.writeUInt32LE(maskedCrc32c(head.subarray(0, 8)), 8);
    const tail = Buffer.alloc(4);
    tail.writeUInt32LE(maskedCrc32c(event));
    this.#file.append(Buffer.concat([head, event, tail]));
  }
}

/** Fields of tensorflow.Event. */
const eventField = { wallTime: 1, step: 2, fileVersion: 3, summary: 5, sessionLog: 7 } as const;
/** Fields of tensorflow.Summary.Value. */
const summaryField = { tag: 1, simpleValue: 2, image: 4 } as const;
/** tensorflow.SessionLog's status START. */
const sessionStart = 1;
const wireType = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;
/** Channels by a PNG's colour type; a palette is shown in colour. */
const channelsOf: Readonly<Record<number, number>> = { 0: 1, 2: 3, 3: 3, 4: 2, 6: 4 };

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  return Buffer.from([...bytes, rest]);
}

function varintField(field: number, value: number): Buffer {
  return Buffer.concat([varint((field << 3) | wireType.varint), varint(value)]);
}

function bytesField(field: number, data: Buffer): Buffer {
  return Buffer.concat([varint((field << 3) | wireType.bytes), varint(data.length), data]);
}

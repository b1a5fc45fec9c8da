/** Logits that wait outside the device, as many as there are of an image, in little memory. */
import { randomUUID } from 'node:crypto';
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { GlnetError } from '../errors';
import type { TensorData } from '../tensor/device';
import type { Tensor } from '../tensor/tensor';

/** A tensor on its way from one device to another, or to a file. */
export interface MovingTensor {
  readonly shape: readonly number[];
  readonly dtype: Tensor['dtype'];
  readonly values: Promise<TensorData>;
}

/** Logits of one batch in the process's memory. */
export interface HostLogits {
  readonly patches: readonly number[];
  readonly shape: readonly number[];
  readonly dtype: Tensor['dtype'];
  readonly values: Uint8Array;
}

/** In the file, or the values themselves. */
type Place = { readonly position: number; readonly length: number } | Uint8Array;

interface Batch extends Omit<HostLogits, 'values'> {
  readonly place: Promise<Place>;
}

interface TemporaryFile {
  readonly handle: FileHandle;
  /** Where it has kept its name. */
  readonly name: string | undefined;
}

/**
 * Batches of logits that wait in a temporary file; in the process's memory where that cannot be made or written. The file
 * has no name from its opening on, so that it goes with the process, however that ends.
 */
export class WaitingLogits {
  readonly #batches: Batch[] = [];
  /** Used in turn: garbage that is not yet collected counts in a process's peak. */
  readonly #buffers: ArrayBuffer[] = [];
  #file: Promise<TemporaryFile | undefined> | undefined;
  #writable = true;
  /** Bytes of the file that are taken. */
  #end = 0;
  /** How many were put. */
  #count = 0;
  #last: Promise<unknown> = Promise.resolve();
  #lastButOne: Promise<unknown> = this.#last;

  /**
   * Resolves when another may be put: no more than two are on their way at a time.
   * @throws what their values end with
   */
  async room(): Promise<void> {
    await this.#lastButOne;
  }

  /** Memory for the values of the batch that is put next, once there is {@link room}. */
  buffer(bytes: number): Uint8Array<ArrayBuffer> {
    return this.#buffer(this.#count, bytes);
  }

  /** Takes logits of patches; wait for {@link room} before. */
  put(patches: readonly number[], { shape, dtype, values }: MovingTensor): void {
    const place = Promise.all([values, this.#last]).then(([array]) => this.#store(bytesOf(array)));
    // Awaited later, and lost if this is closed before: not an unhandled rejection then.
    place.catch(() => {});
    this.#batches.push({ patches, shape, dtype, place });
    this.#count += 1;
    this.#lastButOne = this.#last;
    this.#last = place;
  }

  /**
   * What was put, in the order of the patches; nothing waits afterwards. Values stay as they are until the batch after the
   * next is asked for.
   * @throws GlnetError ERR_FILE if the file cannot be read; what the values have ended with.
   */
  async *take(): AsyncGenerator<HostLogits> {
    const batches = this.#batches.splice(0).sort((a, b) => a.patches[0]! - b.patches[0]!);
    await this.#last;
    let count = 0;
    for (let batch = batches.shift(); batch; batch = batches.shift()) {
      const { place, ...rest } = batch;
      yield { ...rest, values: await this.#load(await place, count++) };
    }
    this.#end = 0;
  }

  /** Ends this, whatever is on its way. */
  async close(): Promise<void> {
    // One may have failed while the other is still being written.
    await Promise.allSettled([this.#lastButOne, this.#last]);
    const file = await this.#file;
    this.#file = undefined;
    if (!file) return;
    await file.handle.close().catch(() => {});
    if (file.name) await unlink(file.name).catch(() => {});
  }

  #buffer(turn: number, bytes: number): Uint8Array<ArrayBuffer> {
    const slot = turn % 2;
    if ((this.#buffers[slot]?.byteLength ?? 0) < bytes) this.#buffers[slot] = new ArrayBuffer(bytes);
    return new Uint8Array(this.#buffers[slot]!, 0, bytes);
  }

  async #store(values: Uint8Array): Promise<Place> {
    this.#file ??= openTemporary();
    const file = await this.#file;
    if (file && this.#writable) {
      const position = this.#end;
      try {
        await write(file.handle, values, position);
        this.#end += values.length;
        return { position, length: values.length };
      } catch {
        this.#writable = false;
      }
    }
    // A copy, as their memory is used again.
    return values.slice();
  }

  async #load(place: Place, turn: number): Promise<Uint8Array> {
    if (place instanceof Uint8Array) return place;
    const values = this.#buffer(turn, place.length);
    await read((await this.#file)!.handle, values, place.position);
    return values;
  }
}

function bytesOf({ buffer, byteOffset, byteLength }: TensorData): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** @returns undefined where there can be none */
async function openTemporary(): Promise<TemporaryFile | undefined> {
  const name = path.join(tmpdir(), `glnet-${randomUUID()}`);
  try {
    const handle = await open(name, 'wx+', 0o600);
    // Not every system lets go of the name of an open file.
    const kept = await unlink(name).then(
      () => undefined,
      () => name,
    );
    return { handle, name: kept };
  } catch {
    return undefined;
  }
}

/** Writes all; the system may take a part at a time. */
async function write(handle: FileHandle, values: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < values.length; ) {
    const { bytesWritten } = await handle.write(values, done, values.length - done, position + done);
    if (bytesWritten === 0) throw new Error('nothing was written');
    done += bytesWritten;
  }
}

/** Reads as much as there is room for; the system may give a part at a time. */
async function read(handle: FileHandle, values: Uint8Array, position: number): Promise<void> {
  try {
    for (let done = 0; done < values.length; ) {
      const { bytesRead } = await handle.read(values, done, values.length - done, position + done);
      if (bytesRead === 0) throw new Error('it ends too early');
      done += bytesRead;
    }
  } catch (cause) {
    const { code = 'it ends too early' } = cause as NodeJS.ErrnoException;
    throw new GlnetError('ERR_FILE', `a temporary file in ${tmpdir()} can't be read back (${code})`, {
      cause,
    });
  }
}

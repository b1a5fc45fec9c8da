/** Logits that wait outside the device, as many as there are of an image, in little memory. */
import { randomUUID } from 'node:crypto';
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileError } from '../checkpoint/file';
import { readAt } from '../read-at';
import type { TensorData } from '../tensor/device';
import type { Tensor } from '../tensor/tensor';
import { HandOver } from './hand-over';

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
  /** Once it is stored. */
  place?: Place;
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
  readonly #stores = new HandOver();

  /**
   * Resolves when another may be put: no more than two are on their way at a time.
   * @throws what their values end with
   */
  room(): Promise<void> {
    return this.#stores.room();
  }

  /** Memory for the values of the batch that is put next, once there is {@link room}. */
  buffer(bytes: number): Uint8Array<ArrayBuffer> {
    return this.#buffer(this.#count, bytes);
  }

  /** Takes logits of patches; wait for {@link room} before. */
  put(patches: readonly number[], { shape, dtype, values }: MovingTensor): void {
    const batch: Batch = { patches, shape, dtype };
    this.#batches.push(batch);
    this.#count += 1;
    this.#stores.add(values, async (array) => {
      batch.place = await this.#store(bytesOf(array));
    });
  }

  /**
   * What was put, in the order of the patches; nothing waits afterwards. Values stay as they are until the batch after the
   * next is asked for.
   * @throws GlnetError ERR_FILE if the file cannot be read; what the values have ended with.
   */
  async *take(): AsyncGenerator<HostLogits> {
    const batches = this.#batches.splice(0).sort((a, b) => a.patches[0]! - b.patches[0]!);
    await this.#stores.end();
    let count = 0;
    for (let batch = batches.shift(); batch; batch = batches.shift()) {
      const { place, ...rest } = batch;
      yield { ...rest, values: await this.#load(place!, count++) };
    }
    this.#end = 0;
  }

  /** Ends this, whatever is on its way. */
  async close(): Promise<void> {
    // What has failed was told where it was asked for.
    await this.#stores.end().catch(() => {});
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
    const { handle } = (await this.#file)!;
    try {
      const bytesRead = await readAt(handle, values, place.position);
      if (bytesRead < values.length) throw new Error('it was cut short');
    } catch (error) {
      throw fileError(tmpdir(), 'read a temporary file back', error);
    }
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

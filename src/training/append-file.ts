import { appendFileSync, closeSync, ftruncateSync, openSync, readFileSync } from 'node:fs';
import { GlnetError } from '../errors';

/**
 * A file that grows. What was appended is with the system when the call returns, whole and in order, so that a process
 * that is killed loses none of it.
 */
export class AppendFile {
  readonly path: string;
  #file: number | undefined;

  /**
   * @param existing what becomes of a file that is there: kept, emptied, or refused
   * @throws GlnetError ERR_FILE if it cannot be opened for writing.
   */
  constructor(path: string, existing: 'keep' | 'empty' | 'refuse') {
    this.path = path;
    this.#file = this.#try(() => openSync(path, { keep: 'a+', empty: 'w', refuse: 'wx' }[existing]));
  }

  /** All that is in it. */
  read(): Buffer {
    return this.#try(() => readFileSync(this.path));
  }

  /** @throws GlnetError ERR_FILE; ERR_DISPOSED after {@link close}. */
  append(data: string | Uint8Array): void {
    const file = this.#open();
    this.#try(() => appendFileSync(file, data));
  }

  /** Cuts off what follows the first `bytes`. */
  truncate(bytes: number): void {
    const file = this.#open();
    this.#try(() => ftruncateSync(file, bytes));
  }

  /** Idempotent. */
  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  #open(): number {
    if (this.#file === undefined) throw new GlnetError('ERR_DISPOSED', `${this.path}: this file was closed`);
    return this.#file;
  }

  #try<T>(access: () => T): T {
    try {
      return access();
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      throw new GlnetError(
        'ERR_FILE',
        `${this.path}: can't be written (${code}); check that its folder exists, may be written to and has room`,
        { cause },
      );
    }
  }
}

/** @throws GlnetError ERR_INVALID_ARGUMENT if it is no number of an optimiser's step. */
export function checkStep(path: string, name: string, step: number): void {
  if (!Number.isSafeInteger(step) || step < 0) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `${path}: ${name} is ${step}; expected a whole number from 0`,
    );
  }
}

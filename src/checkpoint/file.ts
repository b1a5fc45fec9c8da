import { constants } from 'node:buffer';
import { type FileHandle, open, stat } from 'node:fs/promises';

import { GlnetError } from '../errors';
import { readAt } from '../read-at';

/** A malformed checkpoint, its file named. */
export function checkpointError(path: string, message: string, cause?: unknown): GlnetError {
  return new GlnetError('ERR_CHECKPOINT', `${path}: ${message}`, { cause });
}

/** A failure of the file system. */
export function fileError(path: string, doing: string, cause: unknown): GlnetError {
  const { code, message } = cause as NodeJS.ErrnoException;
  const reason =
    code === 'ENOENT' ? 'no such file' : code === 'EACCES' ? 'permission denied' : (message ?? String(cause));
  return new GlnetError('ERR_FILE', `${path}: cannot ${doing}: ${reason}`, { cause });
}

/** A file read by ranges. */
export class RandomAccessFile {
  private closed = false;

  private constructor(
    readonly path: string,
    /** Bytes, when it was opened. */
    readonly size: number,
    private readonly handle: FileHandle,
  ) {}

  /** @throws GlnetError ERR_FILE if it is missing, unreadable or not a regular file. */
  static async open(path: string): Promise<RandomAccessFile> {
    let handle: FileHandle | undefined;
    try {
      // Asked of the name, before opening: to open a pipe would wait for its writer.
      if (!(await stat(path)).isFile()) throw new Error('it is not a regular file');
      handle = await open(path, 'r');
      const { size } = await handle.stat();
      return new RandomAccessFile(path, size, handle);
    } catch (error) {
      await handle?.close();
      throw fileError(path, 'read it', error);
    }
  }

  /** Of the open file. */
  get descriptor(): number {
    if (this.closed) throw new GlnetError('ERR_DISPOSED', `${this.path}: the file has been closed`);
    return this.handle.fd;
  }

  /**
   * Reads `length` bytes from `position` into memory of their own, aligned to any element type.
   * @param what names the bytes in the errors.
   * @throws GlnetError ERR_CHECKPOINT if they do not lie in the file, ERR_FILE, ERR_DISPOSED.
   */
  async read(position: number, length: number, what: string): Promise<Buffer> {
    if (this.closed) throw new GlnetError('ERR_DISPOSED', `${this.path}: the file has been closed`);
    if (!(position >= 0 && length >= 0 && position + length <= this.size)) {
      throw checkpointError(
        this.path,
        `${what} would lie at bytes ${position} to ${position + length}, but the file has ${this.size}: ` +
          'it is damaged or cut short; fetch it again',
      );
    }
    if (length > constants.MAX_LENGTH) {
      throw checkpointError(this.path, `${what} has ${length} bytes, more than a buffer can hold`);
    }
    const buffer = Buffer.allocUnsafeSlow(length);
    const bytesRead = await readAt(this.handle, buffer, position).catch((error) => {
      throw fileError(this.path, 'read it', error);
    });
    if (bytesRead < length) throw checkpointError(this.path, `${what} is cut short: the file has shrunk`);
    return buffer;
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await this.handle.close();
  }
}

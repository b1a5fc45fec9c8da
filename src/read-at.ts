import type { FileHandle } from 'node:fs/promises';

/** Node.js reads at most 2^31 - 1 bytes at once. */
const readAtOnce = 2 ** 30;

/**
 * Reads into all of `bytes`; the system may give a part at a time.
 * @returns how many were read: fewer where the file ends
 */
export async function readAt(handle: FileHandle, bytes: Uint8Array, position: number): Promise<number> {
  let done = 0;
  while (done < bytes.length) {
    const ask = Math.min(bytes.length - done, readAtOnce);
    const { bytesRead } = await handle.read(bytes, done, ask, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

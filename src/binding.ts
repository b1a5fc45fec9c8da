/** Loads the native addon: the only file that touches it. */
import path from 'node:path';
import load from 'node-gyp-build';
import type * as Addon from '../binding';
import { GlnetError, type GlnetErrorCode } from './errors';

export type {
  DType,
  Handle,
  Layout,
  Memory,
  Ops,
  Planned,
  StructLayout,
  TraceEvent,
  WeightPlace,
} from '../binding';
export type NativeDevice = Addon.Device;

const root = path.join(__dirname, '..');
let addon: typeof Addon | undefined;

// OpenMP threads spin while they wait. For long (GNU's default), and a busy machine crawls; not at all, and small
// kernels wait for the system to wake a thread. The runtime reads this once, when the addon is loaded.
if (!process.env.OMP_WAIT_POLICY) process.env.GOMP_SPINCOUNT ??= '5000';

/**
 * The addon, loaded at first use.
 * @throws GlnetError ERR_NATIVE with what can be done about it.
 */
export function binding(): typeof Addon {
  try {
    if (!addon) {
      const loaded = load(root) as typeof Addon;
      // process.exit runs no clean-up of the addon's, and a driver that is unloaded under a running thread crashes.
      process.once('exit', () => loaded.closeQueues());
      addon = loaded;
    }
  } catch (error) {
    throw new GlnetError(
      'ERR_NATIVE',
      `the native addon did not load on ${process.platform}-${process.arch}, Node ${process.versions.node}: ` +
        `${(error as Error).message}\nThings to try:\n` +
        '  - install oneDNN and a C++ compiler, then "npm rebuild glnet" (Debian: apt install libdnnl-dev g++ cmake make)\n' +
        '  - "npm install --force glnet" if node_modules was copied from another machine',
      { cause: error },
    );
  }
  return addon;
}

/** The folder of the addon, and of the libraries and programs that come with it. */
export function addonFolder(): string {
  return path.dirname(load.resolve(root));
}

/** Calls into the addon; its errors become {@link GlnetError}s. */
export function native<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw fromNative(error);
  }
}

/** Awaits a promise of the addon's; its errors become {@link GlnetError}s. */
export async function nativeAsync<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw fromNative(error);
  }
}

function fromNative(error: unknown): unknown {
  const { code, message } = error as { code?: GlnetErrorCode; message: string };
  return code?.startsWith('ERR_') ? new GlnetError(code, message, { cause: error }) : error;
}

/** Transposes a convolution in double precision: see binding.d.ts. Leaves the event loop its turns. */
export function addThrough(...args: Parameters<typeof Addon.addThrough>): Promise<void> {
  return binding().addThrough(...args);
}

/** Frees buffers' memory at once. */
export function detach(buffers: readonly ArrayBuffer[]): void {
  binding().detach(buffers);
}

/** Which devices compute: from the name that a user gives. */
import { GlnetError } from '../errors';
import { Device, type DeviceKind, deviceCount, deviceKinds } from '../tensor/device';

/**
 * A kind of device; or some devices of a kind, by number: `cuda:1`, `cuda:0,2`, `cuda:all`; or `auto`: every CUDA
 * device that this build can use, and where there is none the CPU.
 */
export type DeviceName = 'auto' | DeviceKind | `${DeviceKind}:${string}`;

export interface DeviceChoice {
  kind: DeviceKind;
  /** Numbers of the devices, the first of which does what is not divided among them. */
  indices: readonly number[];
  /** Why `auto` did not find what it would rather have. */
  fallback?: string;
}

/**
 * @throws GlnetError ERR_INVALID_ARGUMENT if the name is not one, or names a device that is not there; ERR_NATIVE if
 *   there are no devices of the kind, with the reason.
 */
export function chooseDevices(name: string): DeviceChoice {
  if (name === 'auto') return chooseBest();
  const [kind, which] = name.split(/:(.*)/s) as [DeviceKind, string | undefined];
  const wrong = (expected: string) =>
    new GlnetError('ERR_INVALID_ARGUMENT', `device is ${name}; expected ${expected}`);
  if (!deviceKinds.includes(kind)) {
    throw wrong(`auto or one of ${deviceKinds.join(', ')}, which may name some: cuda:1, cuda:0,2, cuda:all`);
  }
  const count = deviceCount(kind);
  if (which === undefined) return { kind, indices: [0] };
  if (which === 'all') return { kind, indices: all(count) };
  const indices = which.split(',').map((text) => (/^\d+$/.test(text) ? Number(text) : Number.NaN));
  if (indices.some((index) => !(index < count)) || new Set(indices).size < indices.length) {
    throw wrong(
      `numbers from 0 to ${count - 1}, each once, after '${kind}:', or 'all'; this machine has ${count} of that kind`,
    );
  }
  return { kind, indices };
}

/** The GPUs that can be opened: others may be too old, or taken. */
function chooseBest(): DeviceChoice {
  const indices: number[] = [];
  let fallback: string | undefined;
  try {
    for (const index of all(deviceCount('cuda'))) {
      try {
        new Device({ kind: 'cuda', index }).dispose();
        indices.push(index);
      } catch (error) {
        fallback ??= (error as Error).message;
      }
    }
  } catch (error) {
    if (!(error instanceof GlnetError && error.code === 'ERR_NATIVE')) throw error;
    fallback = error.message;
  }
  return indices.length > 0 ? { kind: 'cuda', indices } : { kind: 'cpu', indices: [0], fallback: fallback! };
}

function all(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

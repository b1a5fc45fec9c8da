/** Builders of checkpoint files, byte by byte, also of hostile ones. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { type DType, dtypeBytes, type HostTensor } from '../../../src/checkpoint/state-dict';

export const fixtures = join(__dirname, '../../fixtures');

/** A folder that goes when the tests of the file have run. */
export function temporaryFolder(): { file(name: string, bytes: Uint8Array | string): string; path: string } {
  const path = mkdtempSync(join(tmpdir(), 'glnet-checkpoint-'));
  afterAll(() => rmSync(path, { recursive: true }));
  return {
    path,
    file(name, bytes) {
      const at = join(path, name);
      writeFileSync(at, bytes);
      return at;
    },
  };
}

/** The code and message of what a promise rejects with; fails if it doesn't. */
export async function rejection(promise: Promise<unknown>): Promise<{ code: unknown; message: string }> {
  try {
    await promise;
  } catch (error) {
    const { code, message } = error as { code: unknown; message: string };
    return { code, message };
  }
  throw new Error('expected a rejection');
}

/** Parts of a pickle. */
export const p = {
  bytes: (...parts: (Uint8Array | string | number)[]): Buffer =>
    Buffer.concat(
      parts.map((part) =>
        typeof part === 'number'
          ? Buffer.of(part)
          : typeof part === 'string'
            ? Buffer.from(part, 'latin1')
            : part,
      ),
    ),
  /** A whole pickle of protocol 2. */
  pickle: (body: Uint8Array): Buffer => p.bytes(0x80, 2, body, '.'),
  none: Buffer.from('N'),
  int(value: number): Buffer {
    const bytes = Buffer.alloc(9);
    bytes.writeBigInt64LE(BigInt(value), 1);
    return p.bytes(0x8a, 9, bytes.subarray(1), value < 0 ? 0xff : 0);
  },
  string(text: string): Buffer {
    const utf8 = Buffer.from(text);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(utf8.length);
    return p.bytes('X', length, utf8);
  },
  global: (module: string, name: string): Buffer => Buffer.from(`c${module}\n${name}\n`),
  tuple: (...items: Uint8Array[]): Buffer => p.bytes('(', ...items, 't'),
  list: (...items: Uint8Array[]): Buffer => p.bytes('](', ...items, 'e'),
  call: (callee: Uint8Array, ...args: Uint8Array[]): Buffer => p.bytes(callee, p.tuple(...args), 'R'),
  dict: (...entries: [string, Uint8Array][]): Buffer =>
    p.bytes('}(', ...entries.flatMap(([key, value]) => [p.string(key), value]), 'u'),
  orderedDict: (...entries: [string, Uint8Array][]): Buffer =>
    p.bytes(
      'ccollections\nOrderedDict\n)R(',
      ...entries.flatMap(([key, value]) => [p.string(key), value]),
      'u',
    ),
  storage: (type: string, key: string, elements: number, view?: Uint8Array): Buffer =>
    p.bytes(
      p.tuple(
        p.string('storage'),
        p.global('torch', type),
        p.string(key),
        p.string('cpu'),
        p.int(elements),
        ...(view ? [view] : []),
      ),
      'Q',
    ),
  tensor: (storage: Uint8Array, offset: number, shape: number[], stride: number[]): Buffer =>
    p.call(
      p.global('torch._utils', '_rebuild_tensor_v2'),
      storage,
      p.int(offset),
      p.tuple(...shape.map(p.int)),
      p.tuple(...stride.map(p.int)),
      Buffer.of(0x89),
      Buffer.from('ccollections\nOrderedDict\n)R'),
    ),
};

export interface ZipOptions {
  /** Sizes and offsets in the zip64 fields only. */
  zip64?: boolean;
  /** Of every record: 0 stored, 8 deflated. */
  method?: number;
  /** General purpose flags: 1 encrypted. */
  flags?: number;
}

/** A zip archive; its checksums are 0, as PyTorch can write them. */
export function zip(
  records: Record<string, Uint8Array>,
  { zip64 = false, method = 0, flags = 0 }: ZipOptions = {},
): Buffer {
  const parts: Buffer[] = [];
  const central: Buffer[] = [];
  let offset = 0;
  const add = (part: Buffer): void => {
    parts.push(part);
    offset += part.length;
  };
  for (const [name, data] of Object.entries(records)) {
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(flags, 6);
    local.writeUInt16LE(method, 8);
    local.writeUInt32LE(data.length, 18);
    local.writeUInt32LE(data.length, 22);
    local.writeUInt16LE(name.length, 26);
    // Padding as PyTorch writes it, so that the local extra field differs from the central one.
    local.writeUInt16LE(7, 28);
    const extra = zip64 ? Buffer.alloc(28) : Buffer.alloc(0);
    if (zip64) {
      extra.writeUInt16LE(1, 0);
      extra.writeUInt16LE(24, 2);
      extra.writeBigUInt64LE(BigInt(data.length), 4);
      extra.writeBigUInt64LE(BigInt(data.length), 12);
      extra.writeBigUInt64LE(BigInt(offset), 20);
    }
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50, 0);
    entry.writeUInt16LE(flags, 8);
    entry.writeUInt16LE(method, 10);
    entry.writeUInt32LE(zip64 ? 0xffffffff : data.length, 20);
    entry.writeUInt32LE(zip64 ? 0xffffffff : data.length, 24);
    entry.writeUInt16LE(name.length, 28);
    entry.writeUInt16LE(extra.length, 30);
    entry.writeUInt32LE(zip64 ? 0xffffffff : offset, 42);
    central.push(entry, Buffer.from(name), extra);
    add(Buffer.concat([local, Buffer.from(name), Buffer.from('FB\x03\x00ZZZ', 'latin1'), data]));
  }
  const directoryOffset = offset;
  const directory = Buffer.concat(central);
  const count = central.length / 3;
  add(directory);
  if (zip64) {
    const record = Buffer.alloc(56);
    record.writeUInt32LE(0x06064b50, 0);
    record.writeBigUInt64LE(44n, 4);
    record.writeBigUInt64LE(BigInt(count), 24);
    record.writeBigUInt64LE(BigInt(count), 32);
    record.writeBigUInt64LE(BigInt(directory.length), 40);
    record.writeBigUInt64LE(BigInt(directoryOffset), 48);
    const locator = Buffer.alloc(20);
    locator.writeUInt32LE(0x07064b50, 0);
    locator.writeBigUInt64LE(BigInt(offset), 8);
    locator.writeUInt32LE(1, 16);
    add(Buffer.concat([record, locator]));
  }
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(zip64 ? 0xffff : count, 8);
  end.writeUInt16LE(zip64 ? 0xffff : count, 10);
  end.writeUInt32LE(zip64 ? 0xffffffff : directory.length, 12);
  end.writeUInt32LE(zip64 ? 0xffffffff : directoryOffset, 16);
  add(end);
  return Buffer.concat(parts);
}

/** A file of `torch.save` in the zip format. */
export function zipCheckpoint(
  object: Uint8Array,
  storages: Record<string, Uint8Array> = {},
  more: Record<string, Uint8Array> = {},
  options?: ZipOptions,
): Buffer {
  const records: Record<string, Uint8Array> = { 'archive/data.pkl': p.pickle(object), ...more };
  for (const [key, data] of Object.entries(storages)) records[`archive/data/${key}`] = data;
  return zip(records, options);
}

const legacyHead = (littleEndian: boolean): Buffer =>
  p.bytes(
    p.pickle(p.bytes(0x8a, 10, Buffer.from('6cfc9c46f9206aa85019', 'hex'))),
    p.pickle(p.bytes('M', 0xe9, 0x03)),
    p.pickle(
      p.dict(['protocol_version', p.int(1001)], ['little_endian', Buffer.of(littleEndian ? 0x88 : 0x89)]),
    ),
  );

/** A file of `torch.save` in the format before PyTorch 1.6; each storage is its element count and its bytes. */
export function legacyCheckpoint(
  object: Uint8Array,
  storages: Record<string, [number, Uint8Array]> = {},
  littleEndian = true,
): Buffer {
  const data = Object.values(storages).map(([elements, bytes]) => {
    const count = Buffer.alloc(8);
    count.writeBigInt64LE(BigInt(elements));
    return Buffer.concat([count, bytes]);
  });
  return p.bytes(
    legacyHead(littleEndian),
    p.pickle(object),
    p.pickle(p.list(...Object.keys(storages).map(p.string))),
    ...data,
  );
}

const storageTypes: Partial<Record<DType, string>> = {
  float32: 'FloatStorage',
  float16: 'HalfStorage',
  int64: 'LongStorage',
};

/** A zip checkpoint of these tensors, each with a storage of its own. */
export function checkpointOf(tensors: ReadonlyMap<string, HostTensor>): Buffer {
  const storages: Record<string, Uint8Array> = {};
  const entries = Array.from(tensors, ([name, { dtype, shape, data }], i): [string, Uint8Array] => {
    storages[i] = data;
    const stride = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, size) => product * size, 1));
    const storage = p.storage(storageTypes[dtype]!, String(i), data.length / dtypeBytes[dtype]);
    return [name, p.tensor(storage, 0, [...shape], stride)];
  });
  return zipCheckpoint(p.orderedDict(...entries), storages);
}

export function float32(...values: number[]): Buffer {
  return Buffer.from(Float32Array.from(values).buffer);
}

/** A small generator of pseudo-random integers below 2^32 (mulberry32), the same on every run. */
export function randomIntegers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  };
}

import { mkdirSync, readdirSync, readFileSync, truncateSync } from 'node:fs';
import { join } from 'node:path';

import {
  openSafetensors,
  readSafetensorsHeader,
  writeSafetensors,
} from '../../../src/checkpoint/safetensors';
import {
  type DType,
  dtypeBytes,
  fromFloat32,
  type StateDict,
  toFloat32,
} from '../../../src/checkpoint/state-dict';
import { rejection, temporaryFolder } from './files';

const folder = temporaryFolder();

/** A file of this header text and data. */
function raw(header: string | Uint8Array, data: Uint8Array = new Uint8Array(), length?: bigint): string {
  const text = Buffer.from(header as string);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(length ?? BigInt(text.length));
  return folder.file('raw.safetensors', Buffer.concat([prefix, text, data]));
}

const allDtypes = Object.keys(dtypeBytes) as DType[];

describe('round trip', () => {
  const tensors: StateDict = new Map(
    allDtypes.map((dtype, i) => [
      `tensor ${dtype}`,
      {
        dtype,
        shape: [3, 1],
        data: Uint8Array.from({ length: 3 * dtypeBytes[dtype] }, (_, k) => (k * 7 + i) % 2),
      },
    ]),
  );
  tensors.set('scalar', fromFloat32([], Float32Array.of(2.5)));
  tensors.set('empty', fromFloat32([0, 4], new Float32Array()));
  tensors.set('"naïve\\ 名"', fromFloat32([1], Float32Array.of(-1)));
  const metadata = new Map([
    ['zebra', 'a "quoted"\nline'],
    ['alpha', '名'],
  ]);
  const path = join(folder.path, 'round.safetensors');
  beforeAll(() => writeSafetensors(path, tensors, metadata));

  test('of every type, name and metadata', async () => {
    const file = await openSafetensors(path);
    expect(new Map([...file.metadata].sort())).toEqual(new Map([...metadata].sort()));
    expect([...file.tensors.keys()].sort()).toEqual([...tensors.keys()].sort());
    for (const [name, { dtype, shape, data }] of tensors) {
      const read = await file.read(name);
      expect({ ...read, data: [...read.data] }).toEqual({ dtype, shape, data: [...data] });
    }
    await file.close();
    expect(await rejection(file.read('scalar'))).toMatchObject({ code: 'ERR_DISPOSED' });
  });

  test('is aligned, and the same whatever the order', async () => {
    const { tensors: entries } = await readSafetensorsHeader(path);
    for (const [name, { dtype, start }] of entries)
      expect([name, start % dtypeBytes[dtype]]).toEqual([name, 0]);
    expect((8 + Number(readFileSync(path).readBigUInt64LE())) % 8).toBe(0);
    const again = join(folder.path, 'again.safetensors');
    await writeSafetensors(again, new Map([...tensors].reverse()), new Map([...metadata].reverse()));
    expect(readFileSync(again).equals(readFileSync(path))).toBe(true);
  });

  test('writes what the format says', async () => {
    const at = join(folder.path, 'bytes.safetensors');
    await writeSafetensors(
      at,
      new Map([['a', fromFloat32([2], Float32Array.of(1, -2))]]),
      new Map([['k', 'v']]),
    );
    const text = '{"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}';
    expect(readFileSync(at).toString('latin1')).toBe(
      `${String.fromCharCode(80)}${'\0'.repeat(7)}${text.padEnd(80)}\0\0\x80\x3f\0\0\0\xc0`,
    );
  });
});

test('one tensor of a large file is read without the rest', async () => {
  const gigabyte = 2 ** 30;
  const path = raw(
    JSON.stringify({
      large: { dtype: 'U8', shape: [gigabyte], data_offsets: [0, gigabyte] },
      small: { dtype: 'F32', shape: [2], data_offsets: [gigabyte, gigabyte + 8] },
    }),
  );
  truncateSync(path, readFileSync(path).length + gigabyte + 8);
  const before = process.memoryUsage().arrayBuffers;
  const file = await openSafetensors(path);
  expect([...toFloat32(await file.read('small'))]).toEqual([0, 0]);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 24);
  await file.close();
});

describe('a file that breaks a rule is refused', () => {
  const entry = (dtype: unknown, shape: unknown, offsets: unknown) =>
    JSON.stringify({ a: { dtype, shape, data_offsets: offsets } });
  const pair = (first: number[], second: number[]) =>
    JSON.stringify({
      a: { dtype: 'U8', shape: [first[1]! - first[0]!], data_offsets: first },
      b: { dtype: 'U8', shape: [second[1]! - second[0]!], data_offsets: second },
    });
  test.each<[string, string | Uint8Array, number, RegExp]>([
    ['header not JSON', '{"a":', 0, /header is not JSON in UTF-8/],
    ['header not UTF-8', Buffer.from('{"\xff":1}', 'latin1'), 0, /header is not JSON in UTF-8/],
    ['header with a byte order mark', '\ufeff{}', 0, /header/],
    ['header that starts with a space', ' {}', 0, /does not start with "\{"/],
    ['header that is a list', '[]', 0, /does not start with "\{"/],
    [
      'key twice',
      '{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"\\u0061":{}}',
      1,
      /"a" is in its header twice/,
    ],
    ['metadata not an object', '{"__metadata__":[]}', 0, /__metadata__ is not an object/],
    ['metadata not of strings', '{"__metadata__":{"k":1}}', 0, /__metadata__\.k is not a string/],
    ['tensor not an object', '{"a":null}', 0, /tensor a is not described by an object/],
    [
      'unknown type',
      entry('F8_E4M3', [1], [0, 1]),
      1,
      /tensor a has dtype "F8_E4M3", expected one of F64, F32/,
    ],
    ['type missing', entry(undefined, [1], [0, 1]), 1, /tensor a has dtype undefined/],
    ['negative size', entry('U8', [-1], [0, 1]), 1, /tensor a has the shape \[-1\]/],
    ['fractional size', entry('U8', [0.5], [0, 1]), 1, /tensor a has the shape \[0\.5\]/],
    ['shape missing', entry('U8', undefined, [0, 1]), 1, /tensor a has the shape undefined/],
    ['three offsets', entry('U8', [1], [0, 1, 1]), 1, /tensor a has the data_offsets \[0,1,1\]/],
    [
      'offsets reversed',
      entry('U8', [1], [1, 0]),
      1,
      /data_offsets 1 to 0, but \(1\) of uint8 takes 1 bytes/,
    ],
    ['shape of other bytes', entry('F32', [2], [0, 4]), 4, /but \(2\) of float32 takes 8 bytes/],
    ['overflowing shape', entry('F32', [2 ** 52, 2 ** 52], [0, 0]), 0, /data_offsets 0 to 0, but/],
    [
      'gap',
      pair([0, 2], [3, 4]),
      4,
      /tensor b starts at byte 3 of the data, but the one before it ends at 2/,
    ],
    ['gap at the start', entry('U8', [1], [1, 2]), 2, /tensor a starts at byte 1/],
    ['overlap', pair([0, 2], [1, 3]), 3, /tensor b starts at byte 1/],
    ['data too short', entry('U8', [4], [0, 4]), 3, /cut short/],
    ['bytes left over', entry('U8', [4], [0, 4]), 5, /its tensors end at byte \d+, but the file has \d+$/],
  ])('%s', async (_, header, bytes, message) => {
    const path = raw(header, new Uint8Array(bytes));
    const error = await rejection(readSafetensorsHeader(path));
    expect(error.code).toBe('ERR_CHECKPOINT');
    expect(error.message).toMatch(message);
    expect(error.message).toContain('raw.safetensors: not a valid safetensors file: ');
  });

  test('a header longer than the limit, or than the file', async () => {
    expect((await rejection(readSafetensorsHeader(raw('{}', undefined, 100_000_001n)))).message).toMatch(
      /100000001 bytes, over the limit of 100000000/,
    );
    expect((await rejection(readSafetensorsHeader(raw('{}', undefined, 2n ** 64n - 1n)))).code).toBe(
      'ERR_CHECKPOINT',
    );
    expect((await rejection(readSafetensorsHeader(raw('{}', undefined, 3n)))).message).toMatch(/cut short/);
  });

  test('nested far too deep', async () => {
    const error = await rejection(readSafetensorsHeader(raw(`{"a":${'['.repeat(1e6)}${']'.repeat(1e6)}}`)));
    expect(error.code).toBe('ERR_CHECKPOINT');
  });
});

describe('writing', () => {
  const tensor = fromFloat32([1], Float32Array.of(1));
  test('refuses bytes that do not match the shape, and the reserved name', async () => {
    const path = join(folder.path, 'wrong.safetensors');
    const short = await rejection(writeSafetensors(path, new Map([['a', { ...tensor, shape: [2] }]])));
    expect(short).toEqual({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(
        /wrong\.safetensors: cannot write tensor a of 4 bytes: \(2\) of float32 takes 8/,
      ),
    });
    const reserved = await rejection(writeSafetensors(path, new Map([['__metadata__', tensor]])));
    expect(reserved).toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
  });

  test('that fails leaves nothing behind', async () => {
    const within = join(folder.path, 'within');
    mkdirSync(join(within, 'taken.safetensors'), { recursive: true });
    const missing = await rejection(
      writeSafetensors(join(within, 'no', 'a.safetensors'), new Map([['a', tensor]])),
    );
    expect(missing).toMatchObject({ code: 'ERR_FILE' });
    const taken = await rejection(
      writeSafetensors(join(within, 'taken.safetensors'), new Map([['a', tensor]])),
    );
    expect(taken).toMatchObject({ code: 'ERR_FILE' });
    expect(taken.message).toMatch(/taken\.safetensors: cannot write it: /);
    expect(readdirSync(within)).toEqual(['taken.safetensors']);
  });

  test('replaces a file as a whole', async () => {
    const path = folder.file('old.safetensors', 'old');
    await writeSafetensors(path, new Map([['a', tensor]]));
    expect((await readSafetensorsHeader(path)).tensors.size).toBe(1);
    expect(readdirSync(folder.path).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });
});

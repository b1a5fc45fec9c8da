/** The safetensors format: 8 bytes of header length, a JSON header, then the tensors' bytes without a gap. */

import { randomBytes } from 'node:crypto';
import { type FileHandle, open, rename, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { GlnetError } from '../errors';
import { checkpointError, fileError, RandomAccessFile } from './file';
import {
  type DType,
  dtypeBytes,
  elementCount,
  formatShape,
  type HostTensor,
  type StateDict,
  type TensorFile,
  type TensorInfo,
} from './state-dict';

/** The format's own limit. */
const maxHeaderBytes = 100_000_000;

const dtypes = new Map<string, DType>([
  ['F64', 'float64'],
  ['F32', 'float32'],
  ['F16', 'float16'],
  ['BF16', 'bfloat16'],
  ['I64', 'int64'],
  ['I32', 'int32'],
  ['I16', 'int16'],
  ['I8', 'int8'],
  ['U8', 'uint8'],
  ['BOOL', 'bool'],
]);
const tags = new Map(Array.from(dtypes, ([tag, dtype]) => [dtype, tag]));

/** A tensor of a safetensors file: `start` and `end` are bytes of the file. */
export interface SafetensorsEntry extends TensorInfo {
  readonly start: number;
  readonly end: number;
}

export interface SafetensorsHeader {
  readonly metadata: ReadonlyMap<string, string>;
  /** In the order of their bytes. */
  readonly tensors: ReadonlyMap<string, SafetensorsEntry>;
}

/** An open safetensors file. */
export interface SafetensorsFile extends TensorFile, SafetensorsHeader {
  readonly tensors: ReadonlyMap<string, SafetensorsEntry>;
  /** Of the open file. */
  readonly descriptor: number;
}

/**
 * Reads and checks the header alone.
 * @throws GlnetError ERR_FILE if the file cannot be read, ERR_CHECKPOINT if it breaks a rule of the format.
 */
export async function readSafetensorsHeader(path: string): Promise<SafetensorsHeader> {
  const { metadata, tensors, close } = await openSafetensors(path);
  await close();
  return { metadata, tensors };
}

/** Opens a file to read some of its tensors; throws as {@link readSafetensorsHeader} does. */
export async function openSafetensors(path: string): Promise<SafetensorsFile> {
  const file = await RandomAccessFile.open(path);
  try {
    const { metadata, tensors } = await readHeader(file);
    return {
      path,
      metadata,
      tensors,
      close: () => file.close(),
      get descriptor() {
        return file.descriptor;
      },
      async read(name: string): Promise<HostTensor> {
        const entry = tensors.get(name);
        if (!entry) throw new GlnetError('ERR_INVALID_ARGUMENT', `${path}: there is no tensor ${name}`);
        const { dtype, shape, start, end } = entry;
        return { dtype, shape, data: await file.read(start, end - start, `tensor ${name}`) };
      },
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function readHeader(file: RandomAccessFile): Promise<SafetensorsHeader> {
  const fail = (message: string, cause?: unknown): GlnetError =>
    checkpointError(file.path, `not a valid safetensors file: ${message}`, cause);

  if (file.size < 8) throw fail(`it has ${file.size} bytes, fewer than the 8 of the header's length`);
  const headerBytes = (await file.read(0, 8, "the header's length")).readBigUInt64LE();
  if (headerBytes > maxHeaderBytes) {
    throw fail(`its header would have ${headerBytes} bytes, over the limit of ${maxHeaderBytes}`);
  }
  const dataStart = 8 + Number(headerBytes);
  const bytes = await file.read(8, Number(headerBytes), 'the header');
  let text: string;
  let header: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    header = JSON.parse(text);
  } catch (error) {
    throw fail(`its header is not JSON in UTF-8 (${(error as Error).message})`, error);
  }
  if (!text.startsWith('{') || !isObject(header)) throw fail('its header does not start with "{"');
  const twice = duplicateKey(text);
  if (twice !== undefined) throw fail(`${JSON.stringify(twice)} is in its header twice`);

  const metadata = new Map<string, string>();
  const entries: [string, SafetensorsEntry][] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name === '__metadata__') {
      if (!isObject(value)) throw fail('__metadata__ is not an object');
      for (const [key, item] of Object.entries(value)) {
        if (typeof item !== 'string') throw fail(`__metadata__.${key} is not a string`);
        metadata.set(key, item);
      }
      continue;
    }
    if (!isObject(value)) throw fail(`tensor ${name} is not described by an object`);
    const dtype = dtypes.get(value.dtype as string);
    if (!dtype) {
      throw fail(
        `tensor ${name} has dtype ${JSON.stringify(value.dtype)}, expected one of ${[...dtypes.keys()].join(', ')}`,
      );
    }
    const { shape, data_offsets: offsets } = value;
    if (!isCounts(shape)) throw fail(`tensor ${name} has the shape ${JSON.stringify(shape)}`);
    if (!isCounts(offsets) || offsets.length !== 2) {
      throw fail(`tensor ${name} has the data_offsets ${JSON.stringify(offsets)}`);
    }
    const [begin, end] = offsets as [number, number];
    const expected = elementCount(shape) * dtypeBytes[dtype];
    if (end - begin !== expected) {
      throw fail(
        `tensor ${name} has data_offsets ${begin} to ${end}, but ${formatShape(shape)} of ${dtype} takes ${expected} bytes`,
      );
    }
    entries.push([name, { dtype, shape, start: dataStart + begin, end: dataStart + end }]);
  }

  entries.sort(([, a], [, b]) => a.start - b.start || a.end - b.end);
  let position = dataStart;
  for (const [name, { start, end }] of entries) {
    if (start !== position) {
      throw fail(
        `tensor ${name} starts at byte ${start - dataStart} of the data, but the one before it ends at ` +
          `${position - dataStart}`,
      );
    }
    position = end;
  }
  if (position !== file.size) {
    throw fail(
      `its tensors end at byte ${position}, but the file has ${file.size}` +
        (position > file.size ? ': it is cut short; fetch it again' : ''),
    );
  }
  return { metadata, tensors: new Map(entries) };
}

/** The first key that an object at the top of valid JSON text has twice; `JSON.parse` would keep the last. */
function duplicateKey(text: string): string | undefined {
  const keys = new Set<string>();
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    const character = text[i]!;
    if (character === '{' || character === '[') depth++;
    else if (character === '}' || character === ']') depth--;
    else if (character === '"') {
      const start = i++;
      while (text[i] !== '"') i += text[i] === '\\' ? 2 : 1;
      if (depth !== 1) continue;
      let next = i + 1;
      while (' \t\n\r'.includes(text[next]!)) next++;
      if (text[next] !== ':') continue;
      const key = JSON.parse(text.slice(start, i + 1)) as string;
      if (keys.has(key)) return key;
      keys.add(key);
    }
  }
  return undefined;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

/**
 * Writes a file of these tensors: beside `path` first, then renamed, so that `path` is never half a file. The same
 * tensors and metadata give the same bytes: tensors lie by falling element size, then by name, each aligned.
 * @throws GlnetError ERR_INVALID_ARGUMENT if a tensor's bytes don't match its shape, ERR_FILE.
 */
export async function writeSafetensors(
  path: string,
  tensors: StateDict,
  metadata: ReadonlyMap<string, string> = new Map(),
): Promise<void> {
  const order = [...tensors].sort(
    ([a, { dtype: s }], [b, { dtype: t }]) => dtypeBytes[t] - dtypeBytes[s] || (a < b ? -1 : 1),
  );
  const header = encodeHeader(path, order, metadata);
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  let handle: FileHandle | undefined;
  try {
    handle = await open(temporary, 'wx');
    await handle.writeFile(header);
    for (const [, { data }] of order) await handle.writeFile(data);
    await handle.sync();
    await handle.close();
    await rename(temporary, path);
  } catch (error) {
    await handle?.close().catch(() => {});
    await unlink(temporary).catch(() => {});
    throw fileError(path, 'write it', error);
  }
  await syncFolder(dirname(path));
}

/** Makes the new name outlast a power cut, where the system can. */
async function syncFolder(path: string): Promise<void> {
  try {
    const folder = await open(path, 'r');
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  } catch {
    // Windows and some network file systems cannot sync a folder; the file itself is complete.
  }
}

function encodeHeader(
  path: string,
  order: readonly [string, HostTensor][],
  metadata: ReadonlyMap<string, string>,
): Buffer {
  const fail = (message: string): GlnetError =>
    new GlnetError('ERR_INVALID_ARGUMENT', `${path}: cannot write ${message}`);
  const fields: string[] = [];
  if (metadata.size > 0) {
    const sorted = [...metadata].sort(([a], [b]) => (a < b ? -1 : 1));
    fields.push(`"__metadata__":${JSON.stringify(Object.fromEntries(sorted))}`);
  }
  let end = 0;
  for (const [name, { dtype, shape, data }] of order) {
    const begin = end;
    end += data.byteLength;
    const expected = elementCount(shape) * dtypeBytes[dtype];
    if (data.byteLength !== expected) {
      throw fail(
        `tensor ${name} of ${data.byteLength} bytes: ${formatShape(shape)} of ${dtype} takes ${expected}`,
      );
    }
    if (name === '__metadata__') throw fail('a tensor of the name __metadata__: the format reserves it');
    const entry = { dtype: tags.get(dtype), shape, data_offsets: [begin, end] };
    fields.push(`${JSON.stringify(name)}:${JSON.stringify(entry)}`);
  }
  const text = Buffer.from(`{${fields.join(',')}}`);
  const length = Math.ceil(text.length / 8) * 8;
  if (length > maxHeaderBytes) throw fail(`a header of ${length} bytes, over the limit of ${maxHeaderBytes}`);
  const header = Buffer.alloc(8 + length, ' ');
  header.writeBigUInt64LE(BigInt(length));
  text.copy(header, 8);
  return header;
}

/** Files of `torch.save`, in the zip format of PyTorch 1.6 and later and in the one before it. */

import * as yauzl from 'yauzl';
import { GlnetError } from '../errors';
import { checkpointError, RandomAccessFile } from './file';
import {
  maxPickleBytes,
  type PickleValue,
  type StorageRef,
  TensorRef,
  TruncatedPickle,
  type Unpickled,
  unpickle,
} from './pickle';
import {
  dtypeBytes,
  elementCount,
  type HostTensor,
  type StateDict,
  type TensorFile,
  type TensorInfo,
} from './state-dict';

/** Where training scripts put the state dict among other things. */
const stateDictKeys = ['state_dict', 'model_state_dict', 'model', 'net'];

const legacyMagic = 0x1950a86a20f9469cfc6cn;
const legacyProtocol = 1001;
const maxZipEntries = 100_000;

/**
 * Opens a file of `torch.save` and lists the tensors of its state dict. Nothing in the file is executed.
 *
 * The state dict may be the file's object itself, or lie under `state_dict`, `model_state_dict`, `model` or `net`,
 * also several deep. The prefix `module.` of DataParallel is removed. Entries that are not tensors are ignored;
 * tensors of every kind are listed, `num_batches_tracked` too.
 * @throws GlnetError ERR_FILE if the file cannot be read; ERR_CHECKPOINT if it is damaged, of another format, or
 * names anything that a state dict does not need.
 */
export async function openPyTorch(path: string): Promise<TensorFile> {
  const file = await RandomAccessFile.open(path);
  try {
    const { value, locate } = await openContainer(file);
    const tensors = stateDictOf(value, path);
    // Views may repeat a storage, but not so that a small file asks for a large memory.
    const budget = 4 * file.size + 2 ** 24;
    let bytes = 0;
    for (const { shape, storage } of tensors.values())
      bytes += elementCount(shape) * dtypeBytes[storage.dtype];
    if (!(bytes <= budget)) {
      throw checkpointError(path, `its tensors take ${bytes} bytes, but the file has only ${file.size}`);
    }
    return new PyTorchFile(file, tensors, locate);
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Reads every tensor of a state dict; see {@link openPyTorch}. */
export async function readPyTorch(path: string): Promise<StateDict> {
  const file = await openPyTorch(path);
  try {
    const state: StateDict = new Map();
    for (const name of file.tensors.keys()) state.set(name, await file.read(name));
    return state;
  } finally {
    await file.close();
  }
}

/** The byte where a storage as a whole begins. */
type Locate = (storage: StorageRef) => Promise<number>;

interface Container {
  value: PickleValue;
  locate: Locate;
}

class PyTorchFile implements TensorFile {
  readonly tensors: ReadonlyMap<string, TensorInfo>;

  constructor(
    private readonly file: RandomAccessFile,
    private readonly refs: Map<string, TensorRef>,
    private readonly locate: Locate,
  ) {
    this.tensors = new Map(
      Array.from(refs, ([name, { storage, shape }]) => [name, { dtype: storage.dtype, shape }]),
    );
  }

  get path(): string {
    return this.file.path;
  }

  async read(name: string): Promise<HostTensor> {
    const ref = this.refs.get(name);
    if (!ref) throw new GlnetError('ERR_INVALID_ARGUMENT', `${this.path}: there is no tensor ${name}`);
    const { storage, shape } = ref;
    const size = dtypeBytes[storage.dtype];
    const start = (await this.locate(storage)) + (storage.start + ref.offset) * size;
    const data = await this.file.read(start, ref.span * size, `tensor ${name}`);
    return { dtype: storage.dtype, shape, data: isContiguous(ref) ? data : gather(data, ref) };
  }

  close(): Promise<void> {
    return this.file.close();
  }
}

async function openContainer(file: RandomAccessFile): Promise<Container> {
  const head = await file.read(0, Math.min(file.size, 512), 'the start of the file');
  if (head.toString('latin1', 0, 2) === 'PK') return openZip(file);
  if (head.toString('latin1', 257, 262) === 'ustar') {
    throw checkpointError(
      file.path,
      'the tar format of the first releases of PyTorch is not supported; load it in PyTorch and save it again',
    );
  }
  if (head[0] === 0x80) return openLegacy(file);
  throw checkpointError(
    file.path,
    `not a file of torch.save: it starts with ${JSON.stringify(head.toString('latin1', 0, 16))}`,
  );
}

/** `<any name>/data.pkl`, and for every storage `<any name>/data/<key>`, stored without compression. */
async function openZip(file: RandomAccessFile): Promise<Container> {
  const { path } = file;
  const entries = new Map<string, yauzl.Entry>();
  let zip: yauzl.ZipFile;
  try {
    // The file is closed with the handle, not by yauzl.
    zip = await yauzl.fromRandomAccessReaderPromise(new ZipReader(file), file.size, { autoClose: false });
    for await (const entry of zip.eachEntry()) {
      if (entries.size === maxZipEntries) throw new Error(`more than ${maxZipEntries} records`);
      if (entries.has(entry.fileName)) throw new Error(`two records are named ${entry.fileName}`);
      entries.set(entry.fileName, entry);
    }
  } catch (error) {
    if ((error as GlnetError).code === 'ERR_FILE') throw error;
    throw checkpointError(
      path,
      `its zip archive is damaged or cut short (${(error as Error).message}); fetch it again`,
      error,
    );
  }

  const pickles = [...entries.keys()].filter((name) => /^([^/]*\/)?data\.pkl$/.test(name));
  if (pickles.length !== 1) {
    throw checkpointError(path, `a zip archive with ${pickles.length} records data.pkl, expected 1`);
  }
  const prefix = pickles[0]!.slice(0, -'data.pkl'.length);
  if (entries.has(`${prefix}constants.pkl`)) {
    throw checkpointError(path, 'a TorchScript archive; save its state_dict() with torch.save instead');
  }

  const find = (name: string): yauzl.Entry => {
    const entry = entries.get(prefix + name);
    if (!entry) throw checkpointError(path, `its zip archive lacks the record ${prefix}${name}`);
    if (entry.compressionMethod !== 0 || entry.isEncrypted()) {
      throw checkpointError(
        path,
        `record ${entry.fileName} is compressed or encrypted; torch.save stores records plainly`,
      );
    }
    return entry;
  };
  const position = async (entry: yauzl.Entry): Promise<number> => {
    try {
      return (await zip.readLocalFileHeaderPromise(entry, { minimal: true })).fileDataStart;
    } catch (error) {
      throw checkpointError(path, `record ${entry.fileName} is damaged: ${(error as Error).message}`, error);
    }
  };
  const readRecord = async (name: string, limit: number): Promise<Buffer> => {
    const entry = find(name);
    if (entry.uncompressedSize > limit) {
      throw checkpointError(
        path,
        `record ${entry.fileName} has ${entry.uncompressedSize} bytes, over ${limit}`,
      );
    }
    return file.read(await position(entry), entry.uncompressedSize, `record ${entry.fileName}`);
  };

  if (entries.has(`${prefix}byteorder`)) {
    const order = (await readRecord('byteorder', 64)).toString('latin1');
    if (order !== 'little')
      throw checkpointError(path, `byte order ${JSON.stringify(order)}, expected "little"`);
  }
  const { value, storages } = unpickle(await readRecord('data.pkl', maxPickleBytes), path);
  for (const { key, dtype, elements } of storages.values()) {
    const bytes = elements * dtypeBytes[dtype];
    const { uncompressedSize } = find(`data/${key}`);
    if (uncompressedSize !== bytes) {
      throw checkpointError(
        path,
        `record ${prefix}data/${key} has ${uncompressedSize} bytes, but ${elements} of ${dtype} take ${bytes}`,
      );
    }
  }
  return { value, locate: ({ key }) => position(find(`data/${key}`)) };
}

/** Checks every range first: yauzl would pass the wild offsets of a damaged archive on to the file system. */
class ZipReader extends yauzl.RandomAccessReader {
  constructor(private readonly file: RandomAccessFile) {
    super();
  }

  override read(
    buffer: Buffer,
    offset: number,
    length: number,
    position: number,
    callback: (error: Error | null) => void,
  ): void {
    this.file.read(position, length, 'a record of the archive').then(
      (bytes) => {
        bytes.copy(buffer, offset);
        callback(null);
      },
      (error: Error) => callback(error),
    );
  }
}

/**
 * Five pickles in a row (magic number, protocol, system, the object, the keys of the storages), then each storage in
 * the order of its key: an int64 count of elements and the elements.
 */
async function openLegacy(file: RandomAccessFile): Promise<Container> {
  const { path } = file;
  let window: Buffer = Buffer.alloc(0);
  const next = async (start: number): Promise<Unpickled> => {
    // The length of a pickle is known only at its end: widen the window until it fits.
    for (;;) {
      try {
        return unpickle(window, path, start);
      } catch (error) {
        const limit = Math.min(file.size, maxPickleBytes);
        if (!(error instanceof TruncatedPickle) || window.length >= limit) throw error;
        window = await file.read(0, Math.min(limit, Math.max(2 ** 18, 4 * window.length)), 'the pickle');
      }
    }
  };

  const magic = await next(0);
  if (magic.value !== legacyMagic) {
    throw checkpointError(path, 'a pickle, but not a file of torch.save: its magic number is missing');
  }
  const protocol = await next(magic.end);
  if (protocol.value !== legacyProtocol) {
    throw checkpointError(path, `the protocol of the old format is not ${legacyProtocol}`);
  }
  const system = await next(protocol.end);
  if (!(system.value instanceof Map) || system.value.get('little_endian') !== true) {
    throw checkpointError(path, 'written on a big-endian machine; save it again on a little-endian one');
  }
  const { value, end, storages } = await next(system.end);
  const keys = await next(end);
  window = Buffer.alloc(0);
  if (!Array.isArray(keys.value)) throw checkpointError(path, 'the list of storage keys is missing');

  const positions = new Map<string, number>();
  let position = keys.end;
  for (const key of keys.value) {
    const storage = typeof key === 'string' ? storages.get(key) : undefined;
    if (!storage || positions.has(storage.key)) {
      throw checkpointError(path, 'its list of storage keys does not match its object');
    }
    const { dtype, elements } = storage;
    const count = (await file.read(position, 8, `storage ${storage.key}`)).readBigInt64LE();
    if (count !== BigInt(elements)) {
      throw checkpointError(
        path,
        `storage ${storage.key} has ${count} elements, but the pickle says ${elements}`,
      );
    }
    positions.set(storage.key, position + 8);
    position += 8 + elements * dtypeBytes[dtype];
  }
  if (position > file.size) {
    throw checkpointError(
      path,
      `its storages end at byte ${position}, but the file has only ${file.size}: it is cut short; fetch it again`,
    );
  }
  for (const key of storages.keys()) {
    if (!positions.has(key)) throw checkpointError(path, `storage ${key} is named but not stored`);
  }
  return { value, locate: async ({ key }) => positions.get(key)! };
}

/** The tensors of the state dict, wherever it lies, with `module.` removed. */
function stateDictOf(value: PickleValue, path: string): Map<string, TensorRef> {
  const found = findStateDict(value, 0);
  if (!found) {
    const held = value instanceof Map ? [...value.keys()].filter((key) => typeof key === 'string') : [];
    throw checkpointError(
      path,
      `no state dict in it: neither tensors nor one of ${stateDictKeys.join(', ')}` +
        (held.length > 0 ? `; it holds ${held.slice(0, 10).join(', ')}` : ''),
    );
  }
  const tensors = new Map<string, TensorRef>();
  for (const [key, tensor] of found) {
    if (typeof key !== 'string' || !(tensor instanceof TensorRef)) continue;
    const name = key.replace(/^(module\.)+/, '');
    if (tensors.has(name))
      throw checkpointError(path, `${name} is there with the prefix module. and without`);
    tensors.set(name, tensor);
  }
  return tensors;
}

function findStateDict(
  value: PickleValue | undefined,
  depth: number,
): Map<PickleValue, PickleValue> | undefined {
  // The depth ends it if a dictionary holds itself.
  if (!(value instanceof Map) || depth > 4) return undefined;
  for (const entry of value.values()) if (entry instanceof TensorRef) return value;
  for (const key of stateDictKeys) {
    const found = findStateDict(value.get(key), depth + 1);
    if (found) return found;
  }
  return undefined;
}

function isContiguous({ shape, stride, span }: TensorRef): boolean {
  let expected = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== 1 && stride[i] !== expected) return span === 0;
    expected *= shape[i]!;
  }
  return true;
}

/** Copies a strided tensor, whose first element is the first of `data`, to row-major order. */
function gather(data: Buffer, { shape, stride, storage }: TensorRef): Uint8Array {
  const Elements = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array, 8: BigUint64Array }[
    dtypeBytes[storage.dtype]
  ] as Uint32ArrayConstructor;
  const source = new Elements(data.buffer, data.byteOffset, data.byteLength / Elements.BYTES_PER_ELEMENT);
  const target = new Elements(elementCount(shape));
  const inner = shape.length - 1;
  const index = shape.map(() => 0);
  for (let to = 0, from = 0; to < target.length; ) {
    for (let i = 0; i < shape[inner]!; i++) target[to++] = source[from + i * stride[inner]!]!;
    for (let axis = inner - 1; axis >= 0; axis--) {
      from += stride[axis]!;
      if (++index[axis]! < shape[axis]!) break;
      from -= stride[axis]! * shape[axis]!;
      index[axis] = 0;
    }
  }
  return new Uint8Array(target.buffer);
}

/**
 * A pickle machine that runs nothing. Python's would call whatever a file names; this one knows the opcodes and
 * the few names that `torch.save` writes for a state dict, builds plain values, and refuses anything else.
 *
 * It has no recursion, and a hostile file costs at most `maxPickleBytes` of text and `maxPickleSteps` objects.
 */

import { GlnetError } from '../errors';
import { checkpointError } from './file';
import { type DType, elementCount, formatShape } from './state-dict';

export const maxPickleBytes = 64 * 2 ** 20;
const maxPickleSteps = 4_000_000;
/** PyTorch's own limit. */
const maxDimensions = 64;

/** A storage, or a window of one, whose bytes lie elsewhere in the file. Counts and offsets are of elements. */
export class StorageRef {
  constructor(
    readonly key: string,
    readonly dtype: DType,
    /** Elements of the whole storage. */
    readonly elements: number,
    /** The window: its first element, and how many. */
    readonly start: number,
    readonly length: number,
  ) {}
}

/** A tensor as a strided window on a storage, checked to lie inside it. Counts and strides are of elements. */
export class TensorRef {
  constructor(
    readonly storage: StorageRef,
    readonly offset: number,
    readonly shape: readonly number[],
    readonly stride: readonly number[],
    /** Distance from the first element to one past the last; 0 when empty. */
    readonly span: number,
  ) {}
}

/** A name that the machine knows, not yet called. */
class Global {
  constructor(readonly name: string) {}
}

/** A value of a harmless class (a NumPy scalar, a device, a dtype) that no state dict needs. */
class Opaque {
  constructor(readonly name: string) {}
}

/** Tuples and lists are arrays; dictionaries, ordered or not, are maps. */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickleValue[]
  | Map<PickleValue, PickleValue>
  | StorageRef
  | TensorRef
  | Global
  | Opaque;

/** The bytes end before the pickle does. */
export class TruncatedPickle extends GlnetError {
  constructor(path: string, position: number) {
    super('ERR_CHECKPOINT', `${path}: the pickle is cut short at byte ${position}; fetch the file again`);
  }
}

export interface Unpickled {
  value: PickleValue;
  /** One past the last byte. */
  end: number;
  /** Every storage named, by key, each as a whole. */
  storages: Map<string, StorageRef>;
}

const storageTypes = new Map<string, DType>([
  ['torch.DoubleStorage', 'float64'],
  ['torch.FloatStorage', 'float32'],
  ['torch.HalfStorage', 'float16'],
  ['torch.BFloat16Storage', 'bfloat16'],
  ['torch.LongStorage', 'int64'],
  ['torch.IntStorage', 'int32'],
  ['torch.ShortStorage', 'int16'],
  ['torch.CharStorage', 'int8'],
  ['torch.ByteStorage', 'uint8'],
  ['torch.BoolStorage', 'bool'],
]);

/** What training scripts put beside the state dict; it becomes {@link Opaque}. */
const opaqueNames = new Set([
  'numpy.core.multiarray.scalar',
  'numpy._core.multiarray.scalar',
  'numpy.dtype',
  '_codecs.encode',
  'torch.device',
  ...['float64', 'float32', 'float16', 'bfloat16', 'int64', 'int32', 'int16', 'int8', 'uint8', 'bool'].map(
    (dtype) => `torch.${dtype}`,
  ),
]);

const callableNames = new Set([
  'collections.OrderedDict',
  'torch.Size',
  'torch._utils._rebuild_tensor',
  'torch._utils._rebuild_tensor_v2',
  'torch._utils._rebuild_parameter',
]);

enum Op {
  MARK = 0x28,
  EMPTY_TUPLE = 0x29,
  STOP = 0x2e,
  BINBYTES = 0x42,
  SHORT_BINBYTES = 0x43,
  BINFLOAT = 0x47,
  BININT = 0x4a,
  BININT1 = 0x4b,
  BININT2 = 0x4d,
  NONE = 0x4e,
  BINPERSID = 0x51,
  REDUCE = 0x52,
  BINSTRING = 0x54,
  SHORT_BINSTRING = 0x55,
  BINUNICODE = 0x58,
  EMPTY_LIST = 0x5d,
  APPEND = 0x61,
  BUILD = 0x62,
  GLOBAL = 0x63,
  APPENDS = 0x65,
  BINGET = 0x68,
  LONG_BINGET = 0x6a,
  BINPUT = 0x71,
  LONG_BINPUT = 0x72,
  SETITEM = 0x73,
  TUPLE = 0x74,
  SETITEMS = 0x75,
  EMPTY_DICT = 0x7d,
  PROTO = 0x80,
  TUPLE1 = 0x85,
  TUPLE2 = 0x86,
  TUPLE3 = 0x87,
  NEWTRUE = 0x88,
  NEWFALSE = 0x89,
  LONG1 = 0x8a,
  SHORT_BINUNICODE = 0x8c,
  STACK_GLOBAL = 0x93,
  MEMOIZE = 0x94,
  FRAME = 0x95,
}

/** Names of the opcodes that are refused, for the message. */
const refusedOpcodes = new Map<number, string>([
  [0x30, 'POP'],
  [0x31, 'POP_MARK'],
  [0x32, 'DUP'],
  [0x46, 'FLOAT'],
  [0x49, 'INT'],
  [0x4c, 'LONG'],
  [0x50, 'PERSID'],
  [0x53, 'STRING'],
  [0x56, 'UNICODE'],
  [0x64, 'DICT'],
  [0x67, 'GET'],
  [0x69, 'INST'],
  [0x6c, 'LIST'],
  [0x6f, 'OBJ'],
  [0x70, 'PUT'],
  [0x81, 'NEWOBJ'],
  [0x82, 'EXT1'],
  [0x83, 'EXT2'],
  [0x84, 'EXT4'],
  [0x8b, 'LONG4'],
  [0x8d, 'BINUNICODE8'],
  [0x8e, 'BINBYTES8'],
  [0x8f, 'EMPTY_SET'],
  [0x90, 'ADDITEMS'],
  [0x91, 'FROZENSET'],
  [0x92, 'NEWOBJ_EX'],
  [0x96, 'BYTEARRAY8'],
  [0x97, 'NEXT_BUFFER'],
  [0x98, 'READONLY_BUFFER'],
]);

/**
 * Reads one pickle from `bytes`, at `start`.
 * @param path the file, named in the errors.
 * @throws GlnetError ERR_CHECKPOINT; {@link TruncatedPickle} if the bytes end too early.
 */
export function unpickle(bytes: Buffer, path: string, start = 0): Unpickled {
  return new Unpickler(bytes, path, start).run();
}

class Unpickler {
  private readonly stack: PickleValue[] = [];
  private readonly marks: number[] = [];
  private readonly memo = new Map<number, PickleValue>();
  private readonly storages = new Map<string, StorageRef>();
  private readonly utf8 = new TextDecoder('utf-8', { fatal: true });
  private steps = 0;
  private opcodeAt = 0;

  constructor(
    private readonly bytes: Buffer,
    private readonly path: string,
    private position: number,
  ) {}

  run(): Unpickled {
    for (;;) {
      this.spend(1);
      this.opcodeAt = this.position;
      const opcode = this.uint8();
      if (opcode === Op.STOP) {
        const value = this.pop();
        return { value, end: this.position, storages: this.storages };
      }
      this.step(opcode);
    }
  }

  private step(opcode: number): void {
    const { stack } = this;
    switch (opcode) {
      case Op.PROTO: {
        const protocol = this.uint8();
        if (protocol < 2 || protocol > 5) throw this.error(`pickle protocol ${protocol}, expected 2 to 5`);
        return;
      }
      case Op.FRAME:
        this.take(8);
        return;

      case Op.NONE:
        stack.push(null);
        return;
      case Op.NEWTRUE:
        stack.push(true);
        return;
      case Op.NEWFALSE:
        stack.push(false);
        return;
      case Op.BININT1:
        stack.push(this.uint8());
        return;
      case Op.BININT2:
        stack.push(this.bytes.readUInt16LE(this.take(2)));
        return;
      case Op.BININT:
        stack.push(this.bytes.readInt32LE(this.take(4)));
        return;
      case Op.LONG1:
        stack.push(this.long(this.uint8()));
        return;
      case Op.BINFLOAT:
        stack.push(this.bytes.readDoubleBE(this.take(8)));
        return;
      case Op.SHORT_BINUNICODE:
        stack.push(this.unicode(this.uint8()));
        return;
      case Op.BINUNICODE:
        stack.push(this.unicode(this.uint32()));
        return;
      case Op.SHORT_BINSTRING:
        stack.push(this.latin1(this.uint8()));
        return;
      case Op.BINSTRING:
        stack.push(this.latin1(this.uint32()));
        return;
      case Op.SHORT_BINBYTES:
        stack.push(this.blob(this.uint8()));
        return;
      case Op.BINBYTES:
        stack.push(this.blob(this.uint32()));
        return;

      case Op.MARK:
        this.marks.push(stack.length);
        return;
      case Op.EMPTY_TUPLE:
      case Op.EMPTY_LIST:
        stack.push([]);
        return;
      case Op.TUPLE:
        stack.push(this.popToMark());
        return;
      case Op.TUPLE1:
      case Op.TUPLE2:
      case Op.TUPLE3:
        stack.push(this.popMany(opcode - Op.TUPLE1 + 1));
        return;
      case Op.EMPTY_DICT:
        stack.push(new Map());
        return;
      case Op.APPEND: {
        const item = this.pop();
        this.list().push(item);
        return;
      }
      case Op.APPENDS: {
        const items = this.popToMark();
        const list = this.list();
        for (const item of items) list.push(item);
        return;
      }
      case Op.SETITEM: {
        const [key, value] = this.popMany(2);
        this.dictionary().set(key!, value!);
        return;
      }
      case Op.SETITEMS: {
        const items = this.popToMark();
        if (items.length % 2 !== 0) throw this.error('SETITEMS with a key that has no value');
        const dictionary = this.dictionary();
        for (let i = 0; i < items.length; i += 2) dictionary.set(items[i]!, items[i + 1]!);
        return;
      }

      case Op.BINPUT:
        this.memo.set(this.uint8(), this.top());
        return;
      case Op.LONG_BINPUT:
        this.memo.set(this.uint32(), this.top());
        return;
      case Op.MEMOIZE:
        this.memo.set(this.memo.size, this.top());
        return;
      case Op.BINGET:
        stack.push(this.recall(this.uint8()));
        return;
      case Op.LONG_BINGET:
        stack.push(this.recall(this.uint32()));
        return;

      case Op.GLOBAL: {
        const module = this.line();
        stack.push(this.global(module, this.line()));
        return;
      }
      case Op.STACK_GLOBAL: {
        const [module, name] = this.popMany(2);
        if (typeof module !== 'string' || typeof name !== 'string') {
          throw this.error('STACK_GLOBAL without two strings');
        }
        stack.push(this.global(module, name));
        return;
      }
      case Op.REDUCE: {
        const args = this.pop();
        stack.push(this.call(this.pop(), args));
        return;
      }
      case Op.BUILD: {
        // An OrderedDict's attributes (`_metadata`: versions of modules) or a NumPy dtype's state: not needed.
        this.pop();
        const target = this.top();
        if (!(target instanceof Map || target instanceof Opaque)) {
          throw this.error(`BUILD would set the state of ${describe(target)}`);
        }
        return;
      }
      case Op.BINPERSID:
        stack.push(this.storage(this.pop()));
        return;

      default: {
        const name = refusedOpcodes.get(opcode);
        const hex = `0x${opcode.toString(16).padStart(2, '0')}`;
        throw this.error(
          name
            ? `pickle opcode ${name} (${hex}) is refused: no state dict needs it`
            : `${hex} is not a pickle opcode`,
        );
      }
    }
  }

  private global(module: string, name: string): PickleValue {
    const full = `${module}.${name}`;
    if (opaqueNames.has(full)) return new Opaque(full);
    if (callableNames.has(full) || storageTypes.has(full)) return new Global(full);
    throw this.error(
      `the pickle names ${JSON.stringify(full.slice(0, 200)).slice(1, -1)}, which no state dict needs; it is refused and nothing ` +
        'was run. If you trust the file, load it in PyTorch and save only its state_dict()',
    );
  }

  private call(callee: PickleValue, args: PickleValue): PickleValue {
    if (!Array.isArray(args)) throw this.error('REDUCE without a tuple of arguments');
    if (callee instanceof Opaque) return callee;
    const name = callee instanceof Global ? callee.name : undefined;
    switch (name) {
      case 'collections.OrderedDict':
        return this.orderedDict(args);
      case 'torch.Size':
        return this.sizes(args[0] ?? [], 'torch.Size');
      case 'torch._utils._rebuild_parameter': {
        if (!(args[0] instanceof TensorRef)) {
          throw this.error(`_rebuild_parameter of ${describe(args[0])}, expected a tensor`);
        }
        return args[0];
      }
      case 'torch._utils._rebuild_tensor':
      case 'torch._utils._rebuild_tensor_v2':
        return this.tensor(args);
      default:
        throw this.error(`REDUCE would call ${describe(callee)}`);
    }
  }

  private orderedDict([items = [], ...more]: PickleValue[]): Map<PickleValue, PickleValue> {
    // Python 2 passes the items as a list of pairs, Python 3 sets them afterwards.
    if (!Array.isArray(items) || more.length > 0)
      throw this.error('OrderedDict of other than a list of pairs');
    this.spend(items.length);
    const dictionary = new Map<PickleValue, PickleValue>();
    for (const pair of items) {
      if (!Array.isArray(pair) || pair.length !== 2) throw this.error('OrderedDict of other than pairs');
      dictionary.set(pair[0]!, pair[1]!);
    }
    return dictionary;
  }

  private tensor([storage, offsetValue, sizeValue, strideValue]: PickleValue[]): TensorRef {
    if (!(storage instanceof StorageRef))
      throw this.error(`a tensor on ${describe(storage)}, expected a storage`);
    const offset = this.count(offsetValue, 'the offset of a tensor');
    const shape = this.sizes(sizeValue, 'the shape of a tensor');
    const stride = this.sizes(strideValue, 'the strides of a tensor');
    if (stride.length !== shape.length) {
      throw this.error(`a tensor of shape ${formatShape(shape)} with strides ${formatShape(stride)}`);
    }
    let span = 0;
    if (elementCount(shape) > 0) {
      span = 1;
      // Doubles round only above 2^53, and a storage is smaller: a sum that rounds is too large anyway.
      shape.forEach((size, i) => {
        span += (size - 1) * stride[i]!;
      });
    }
    if (offset + span > storage.length) {
      throw this.error(
        `a tensor of shape ${formatShape(shape)}, strides ${formatShape(stride)} and offset ${offset} reaches ` +
          `beyond its storage of ${storage.length} elements`,
      );
    }
    return new TensorRef(storage, offset, shape, stride, span);
  }

  /** `('storage', type, key, location, elements[, None | (view key, offset, elements)])` */
  private storage(id: PickleValue): StorageRef {
    if (!Array.isArray(id) || id[0] !== 'storage' || id.length < 5 || id.length > 6) {
      throw this.error(`a persistent id that is not a storage: ${describe(Array.isArray(id) ? id[0] : id)}`);
    }
    const [, type, key, , elementsValue, view = null] = id;
    const dtype = type instanceof Global ? storageTypes.get(type.name) : undefined;
    if (dtype === undefined) throw this.error(`a storage of the type ${describe(type)}`);
    if (typeof key !== 'string')
      throw this.error(`a storage with the key ${describe(key)}, expected a string`);
    const elements = this.count(elementsValue, `the size of storage ${JSON.stringify(key)}`);
    const known = this.storages.get(key);
    if (known && (known.dtype !== dtype || known.elements !== elements)) {
      throw this.error(
        `storage ${JSON.stringify(key)} is named as ${known.elements} of ${known.dtype}, then as ${elements} of ${dtype}`,
      );
    }
    const whole = known ?? new StorageRef(key, dtype, elements, 0, elements);
    this.storages.set(key, whole);
    if (view === null) return whole;
    if (!Array.isArray(view) || view.length !== 3) throw this.error(`a storage view of ${describe(view)}`);
    const start = this.count(view[1], 'the offset of a storage view');
    const length = this.count(view[2], 'the size of a storage view');
    if (start + length > elements) {
      throw this.error(
        `a storage view of elements ${start} to ${start + length} on a storage of ${elements}`,
      );
    }
    return new StorageRef(key, dtype, elements, start, length);
  }

  private sizes(value: PickleValue | undefined, what: string): number[] {
    if (!Array.isArray(value)) throw this.error(`${what} is ${describe(value)}, expected a tuple`);
    if (value.length > maxDimensions) throw this.error(`${what} has ${value.length} dimensions`);
    return value.map((size) => this.count(size, what));
  }

  private count(value: PickleValue | undefined, what: string): number {
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
    throw this.error(`${what} holds ${describe(value)}, expected an integer from 0 to 2^53`);
  }

  private pop(): PickleValue {
    const value = this.top();
    this.stack.pop();
    return value;
  }

  private popMany(count: number): PickleValue[] {
    const floor = this.marks.at(-1) ?? 0;
    if (this.stack.length - count < floor) throw this.error('the stack is empty');
    return this.stack.splice(this.stack.length - count);
  }

  private popToMark(): PickleValue[] {
    const mark = this.marks.pop();
    if (mark === undefined) throw this.error('no mark on the stack');
    return this.stack.splice(mark);
  }

  private top(): PickleValue {
    if (this.stack.length <= (this.marks.at(-1) ?? 0)) throw this.error('the stack is empty');
    return this.stack.at(-1)!;
  }

  private list(): PickleValue[] {
    const value = this.top();
    if (!Array.isArray(value)) throw this.error(`items are appended to ${describe(value)}, expected a list`);
    return value;
  }

  private dictionary(): Map<PickleValue, PickleValue> {
    const value = this.top();
    if (!(value instanceof Map))
      throw this.error(`items are set in ${describe(value)}, expected a dictionary`);
    return value;
  }

  private recall(index: number): PickleValue {
    const value = this.memo.get(index);
    if (value === undefined) throw this.error(`nothing was memoised as ${index}`);
    return value;
  }

  /** Moves on by `length` bytes and returns where they start. */
  private take(length: number): number {
    const at = this.position;
    if (at + length > this.bytes.length) throw new TruncatedPickle(this.path, this.bytes.length);
    this.position = at + length;
    return at;
  }

  private uint8(): number {
    return this.bytes[this.take(1)]!;
  }

  private uint32(): number {
    return this.bytes.readUInt32LE(this.take(4));
  }

  private long(length: number): number | bigint {
    const at = this.take(length);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.bytes[at + i]!);
    value = BigInt.asIntN(8 * length, value);
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  }

  private blob(length: number): Uint8Array {
    const at = this.take(length);
    return this.bytes.subarray(at, at + length);
  }

  private latin1(length: number): string {
    const at = this.take(length);
    return this.bytes.toString('latin1', at, at + length);
  }

  private unicode(length: number): string {
    const text = this.blob(length);
    try {
      return this.utf8.decode(text);
    } catch (cause) {
      throw this.error('a string is not UTF-8', cause);
    }
  }

  private line(): string {
    const end = this.bytes.indexOf(0x0a, this.position);
    if (end < 0) throw new TruncatedPickle(this.path, this.bytes.length);
    const text = this.unicode(end - this.position);
    this.position = end + 1;
    return text;
  }

  private spend(steps: number): void {
    this.steps += steps;
    if (this.steps > maxPickleSteps) {
      throw this.error(
        `the pickle takes more than ${maxPickleSteps} steps, far more than a state dict needs`,
      );
    }
  }

  private error(message: string, cause?: unknown): GlnetError {
    return checkpointError(this.path, `${message} (pickle, byte ${this.opcodeAt})`, cause);
  }
}

function describe(value: PickleValue | undefined): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'None';
  if (value instanceof Global || value instanceof Opaque) return value.name;
  if (value instanceof TensorRef) return 'a tensor';
  if (value instanceof StorageRef) return 'a storage';
  if (value instanceof Map) return 'a dictionary';
  if (Array.isArray(value)) return 'a list';
  if (value instanceof Uint8Array) return 'bytes';
  return typeof value === 'string' ? JSON.stringify(value.slice(0, 80)) : String(value);
}

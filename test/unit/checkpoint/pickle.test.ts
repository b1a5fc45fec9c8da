import { type PickleValue, unpickle } from '../../../src/checkpoint/pickle';
import { readPyTorch } from '../../../src/checkpoint/pytorch';
import { legacyCheckpoint, p, rejection, temporaryFolder, zipCheckpoint } from './files';

const folder = temporaryFolder();

const load = (body: Uint8Array): PickleValue => unpickle(p.pickle(body), 'test.pkl').value;
const failure = (body: Uint8Array): { code: unknown; message: string } => {
  try {
    load(body);
  } catch (error) {
    const { code, message } = error as { code: unknown; message: string };
    return { code, message };
  }
  throw new Error('expected an error');
};

describe('a hostile pickle is refused by name', () => {
  const attack = p.call(p.global('os', 'system'), p.string('exit 1'));
  test.each([
    ['zip', zipCheckpoint(p.dict(['a', attack]))],
    ['legacy', legacyCheckpoint(p.dict(['a', attack]))],
  ])('os.system in a %s file', async (name, bytes) => {
    const error = await rejection(readPyTorch(folder.file(`${name}.pth`, bytes)));
    expect(error.code).toBe('ERR_CHECKPOINT');
    expect(error.message).toMatch(/\.pth: the pickle names os\.system/);
    expect(error.message).toMatch(/nothing was run/);
  });

  test('already when it is named, in the magic number too, and by STACK_GLOBAL', async () => {
    const magic = await rejection(readPyTorch(folder.file('magic.pth', p.pickle(attack))));
    expect(magic.message).toMatch(/names os\.system/);
    const name = (text: string) => p.bytes(0x8c, text.length, text);
    const stack = p.bytes(0x80, 4, 0x95, Buffer.alloc(8), name('os'), 0x94, name('system'), 0x94, 0x93, '.');
    expect(() => unpickle(stack, 'test.pkl')).toThrow(/names os\.system/);
  });

  test.each([
    ['builtins', 'eval'],
    ['torch.storage', '_load_from_bytes'],
    ['torch', 'load'],
    ['torch._utils', '__builtins__.eval'],
    ['collections', 'OrderedDict.__init__'],
    ['collections', 'constructor'],
    ['torch.nn.modules.container', 'Sequential'],
  ])('%s.%s', (module, name) => {
    const { code, message } = failure(p.global(module, name));
    expect(code).toBe('ERR_CHECKPOINT');
    expect(message).toContain(`the pickle names ${module}.${name}`);
  });

  test.each([
    ['INST', '(ios\nsystem\n'],
    ['OBJ', '(o'],
    ['NEWOBJ', 'ccollections\nOrderedDict\n)\x81'],
    ['NEWOBJ_EX', '\x92'],
    ['EXT1', '\x82\x01'],
    ['PERSID', 'Pid\n'],
    ['STRING', "S'a'\n"],
    ['DUP', '2'],
    ['NEXT_BUFFER', '\x97'],
  ])('opcode %s', (name, body) => {
    const { code, message } = failure(Buffer.from(body, 'latin1'));
    expect(code).toBe('ERR_CHECKPOINT');
    expect(message).toContain(`pickle opcode ${name} (0x`);
  });

  test('a byte that is no opcode, and protocols 0, 1 and 6', () => {
    expect(failure(Buffer.of(0xff)).message).toMatch(/0xff is not a pickle opcode/);
    for (const protocol of [0, 1, 6]) {
      expect(failure(Buffer.of(0x80, protocol)).message).toMatch(`pickle protocol ${protocol}`);
    }
  });
});

describe('a malformed pickle', () => {
  const storage = p.global('torch', 'FloatStorage');
  test.each([
    ['a call of a value', p.bytes(p.string('x'), ')R'), /REDUCE would call "x"/],
    ['a call of a storage type', p.bytes(storage, ')R'), /REDUCE would call torch\.FloatStorage/],
    ['arguments that are no tuple', p.bytes('ccollections\nOrderedDict\nNR'), /without a tuple/],
    ['BUILD of a list', p.bytes(']Nb'), /set the state of a list/],
    ['an empty stack', Buffer.from('R'), /the stack is empty/],
    ['a pop below the mark', Buffer.from('N(\x85', 'latin1'), /the stack is empty/],
    ['no mark', Buffer.from('Nt'), /no mark/],
    ['a memo never set', Buffer.from('h\x05', 'latin1'), /nothing was memoised as 5/],
    ['an append to a dictionary', Buffer.from('}Na'), /appended to a dictionary/],
    ['an item in a list', Buffer.from(']NNs'), /set in a list/],
    ['an odd count of items', Buffer.from('}(Nu'), /key that has no value/],
    ['text that is not UTF-8', Buffer.from('X\x01\0\0\0\xff', 'latin1'), /not UTF-8/],
    [
      'a persistent id of something else',
      p.bytes(p.tuple(p.string('module')), 'Q'),
      /persistent id.*"module"/,
    ],
    [
      'a storage of no type',
      p.bytes(p.tuple(p.string('storage'), p.string('x'), p.string('0'), p.string('cpu'), p.int(1)), 'Q'),
      /storage of the type "x"/,
    ],
    ['a storage of negative size', p.storage('FloatStorage', '0', -1), /size of storage "0" holds -1/],
    ['a tensor without a storage', p.tensor(p.none, 0, [1], [1]), /tensor on None/],
    [
      '65 dimensions',
      p.tensor(p.storage('FloatStorage', '0', 1), 0, Array(65).fill(1), Array(65).fill(1)),
      /65 dimensions/,
    ],
  ])('with %s is refused', (_, body, message) => {
    const error = failure(body);
    expect(error.code).toBe('ERR_CHECKPOINT');
    expect(error.message).toMatch(message);
    expect(error.message).toMatch(/^test\.pkl: .*\(pickle, byte \d+\)$/);
  });

  test('cut short anywhere says so', () => {
    const whole = p.pickle(p.dict(['a', p.tensor(p.storage('FloatStorage', '0', 1), 0, [1], [1])]));
    for (let length = 0; length < whole.length; length++) {
      expect(() => unpickle(whole.subarray(0, length), 'test.pkl')).toThrow(/cut short at byte/);
    }
    expect(unpickle(whole, 'test.pkl').end).toBe(whole.length);
  });
});

describe('bombs end early', () => {
  test('millions of objects', () => {
    expect(failure(Buffer.alloc(5_000_000, '}')).message).toMatch(/more than 4000000 steps/);
  });

  test('a long list copied again and again', () => {
    const pairs = p.list(...Array.from({ length: 10_000 }, () => p.bytes('NN\x86')));
    const copy = p.bytes('ccollections\nOrderedDict\n', 'h', 0, 0x85, 'R');
    expect(failure(p.bytes(pairs, 'q', 0, ...Array.from({ length: 1000 }, () => copy))).message).toMatch(
      /more than 4000000 steps/,
    );
  });

  test('nesting a million deep', () => {
    const depth = 1_000_000;
    expect(load(p.bytes(Buffer.alloc(depth, ']'), Buffer.alloc(depth - 1, 'a')))).toHaveLength(1);
  });

  test('a string of 4 GB that is not there', () => {
    expect(failure(Buffer.from('X\xff\xff\xff\xff', 'latin1')).message).toMatch(/cut short/);
  });
});

test('integers of every width and sign', () => {
  const long = (...bytes: number[]) => load(Buffer.of(0x8a, bytes.length, ...bytes));
  expect(load(Buffer.from('J\xff\xff\xff\xff', 'latin1'))).toBe(-1);
  expect(load(Buffer.from('M\xff\xff', 'latin1'))).toBe(65535);
  expect(long()).toBe(0);
  expect(long(0xff)).toBe(-1);
  expect(long(0xff, 0)).toBe(255);
  expect(long(0, 0, 0, 0, 0, 0, 0, 0x40)).toBe(2n ** 62n);
});

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { openPyTorch, readPyTorch } from '../../../src/checkpoint/pytorch';
import { toFloat32 } from '../../../src/checkpoint/state-dict';
import {
  fixtures,
  float32,
  legacyCheckpoint,
  p,
  rejection,
  temporaryFolder,
  zip,
  zipCheckpoint,
} from './files';

const folder = temporaryFolder();

const values = async (
  path: string,
  name: string,
): Promise<{ shape: readonly number[]; values: number[] }> => {
  const tensor = (await readPyTorch(path)).get(name)!;
  return { shape: tensor.shape, values: [...toFloat32(tensor)] };
};
const six = float32(0, 1, 2, 3, 4, 5);
const storage6 = p.storage('FloatStorage', 'k', 6);
const vector = p.tensor(storage6, 0, [6], [1]);

describe('the three tiny checkpoints', () => {
  const expected: Record<string, { shape: number[]; dtype: string; values: number[] }> = JSON.parse(
    readFileSync(join(fixtures, 'tiny-expected.json'), 'utf8'),
  );
  test.each(['tiny-zip.pth', 'tiny-legacy.pth', 'tiny-nested.pth'])('%s reads exactly', async (name) => {
    const state = await readPyTorch(join(fixtures, name));
    const found = Object.fromEntries(
      Array.from(state, ([key, tensor]) => [
        `module.${key}`,
        { shape: tensor.shape, dtype: tensor.dtype, values: [...toFloat32(tensor)] },
      ]),
    );
    expect(found).toEqual(expected);
  });
});

describe('views', () => {
  const read = (offset: number, shape: number[], stride: number[]) =>
    values(
      folder.file(
        'view.pth',
        zipCheckpoint(p.dict(['t', p.tensor(storage6, offset, shape, stride)]), { k: six }),
      ),
      't',
    );

  test('strided, expanded, scalar and empty ones are made contiguous', async () => {
    expect(await read(0, [3, 2], [1, 3])).toEqual({ shape: [3, 2], values: [0, 3, 1, 4, 2, 5] });
    expect(await read(1, [2, 1, 2], [2, 99, 1])).toEqual({ shape: [2, 1, 2], values: [1, 2, 3, 4] });
    expect(await read(1, [2, 2, 2], [0, 3, 1])).toEqual({
      shape: [2, 2, 2],
      values: [1, 2, 4, 5, 1, 2, 4, 5],
    });
    expect(await read(5, [], [])).toEqual({ shape: [], values: [5] });
    expect(await read(6, [0, 7], [7, 1])).toEqual({ shape: [0, 7], values: [] });
    expect(await read(0, [3], [2])).toEqual({ shape: [3], values: [0, 2, 4] });
  });

  test.each([
    ['offset', 1, [6], [1]],
    ['shape', 0, [7], [1]],
    ['stride', 0, [2, 3], [4, 1]],
    ['overflowing shape', 0, [2 ** 52, 2 ** 52], [2 ** 52, 1]],
    ['offset near 2^53', 2 ** 53 - 1, [1], [1]],
  ])('beyond the storage by its %s are refused', async (_, offset, shape, stride) => {
    const error = await rejection(read(offset, shape, stride));
    expect(error).toMatchObject({ code: 'ERR_CHECKPOINT' });
    expect(error.message).toMatch(/view\.pth: .* reaches beyond its storage of 6 elements/);
  });

  test('a negative or oversized number is refused', async () => {
    expect((await rejection(read(-1, [1], [1]))).message).toMatch(/offset of a tensor holds -1/);
    expect((await rejection(read(0, [1], [-1]))).message).toMatch(/strides of a tensor holds -1/);
    expect((await rejection(read(0, [2 ** 60], [0]))).message).toMatch(
      /shape of a tensor holds 1152921504606846976/,
    );
    expect((await rejection(read(0, [1, 1], [1]))).message).toMatch(/shape \(1, 1\) with strides \(1\)/);
  });

  test('a small file that expands to a large memory is refused', async () => {
    const error = await rejection(read(0, [2 ** 40], [0]));
    expect(error).toMatchObject({ code: 'ERR_CHECKPOINT' });
    expect(error.message).toMatch(/tensors take 4398046511104 bytes/);
  });

  test('a storage view of the old format is a window on its root', async () => {
    const view = p.storage('FloatStorage', 'k', 6, p.tuple(p.string('v'), p.int(2), p.int(3)));
    const object = (offset: number) => p.dict(['t', p.tensor(view, offset, [2], [1])]);
    const path = folder.file('window.pth', legacyCheckpoint(object(1), { k: [6, six] }));
    expect(await values(path, 't')).toEqual({ shape: [2], values: [3, 4] });
    const beyond = folder.file('beyond.pth', legacyCheckpoint(object(2), { k: [6, six] }));
    expect((await rejection(readPyTorch(beyond))).message).toMatch(/beyond its storage of 3 elements/);
  });
});

describe('the state dict', () => {
  const read = async (object: Uint8Array): Promise<string[]> => [
    ...(await readPyTorch(folder.file('state.pth', zipCheckpoint(object, { k: six })))).keys(),
  ];

  test.each(['state_dict', 'model', 'model_state_dict', 'net'])('is found under %s', async (key) => {
    expect(await read(p.dict(['epoch', p.int(3)], [key, p.orderedDict(['module.a', vector])]))).toEqual([
      'a',
    ]);
  });

  test('is found two deep; what is no tensor is ignored, a NumPy scalar too', async () => {
    const scalar = p.call(
      p.global('numpy.core.multiarray', 'scalar'),
      p.bytes(p.call(p.global('numpy', 'dtype'), p.string('f8')), '(', p.int(3), 'tb'),
      p.call(p.global('_codecs', 'encode'), p.string('xxxxxxxx'), p.string('latin1')),
    );
    const state = p.bytes(
      p.orderedDict(['module.module.a', vector], ['steps', p.int(1)]),
      p.dict(['_metadata', p.orderedDict()]),
      'b',
    );
    const optimizer = p.dict(['state', p.dict(['exp_avg', vector])]);
    expect(
      await read(
        p.dict(['best', scalar], ['optimizer', optimizer], ['model', p.dict(['state_dict', state])]),
      ),
    ).toEqual(['a']);
  });

  test('Python 2 writes byte strings and passes the items of an OrderedDict as a list', async () => {
    const pair = p.list(p.bytes('U', 1, 'a'), vector);
    expect(await read(p.call(p.global('collections', 'OrderedDict'), p.list(pair)))).toEqual(['a']);
  });

  test('parameters are their tensors', async () => {
    const parameter = p.call(
      p.global('torch._utils', '_rebuild_parameter'),
      vector,
      Buffer.of(0x88),
      p.orderedDict(),
    );
    expect(await read(p.dict(['a', parameter]))).toEqual(['a']);
  });

  test('missing is an error that names what there is', async () => {
    const error = await rejection(read(p.dict(['epoch', p.int(3)], ['weights', p.dict(['a', vector])])));
    expect(error.code).toBe('ERR_CHECKPOINT');
    expect(error.message).toMatch(/no state dict in it.*it holds epoch, weights/);
  });

  test('that holds itself ends', async () => {
    // d = {}; d['state_dict'] = d
    const error = await rejection(read(p.bytes('}q', 0, p.string('state_dict'), 'h', 0, 's')));
    expect(error.message).toMatch(/no state dict/);
  });

  test('a name twice, with the prefix and without, is refused', async () => {
    expect((await rejection(read(p.dict(['a', vector], ['module.a', vector])))).message).toMatch(
      /a is there with the prefix module\. and without/,
    );
  });
});

describe('containers', () => {
  const object = p.dict(['a', vector]);
  const failure = async (name: string, bytes: Uint8Array): Promise<string> => {
    const error = await rejection(readPyTorch(folder.file(name, bytes)));
    expect(error.code).toBe('ERR_CHECKPOINT');
    expect(error.message).toContain(name);
    return error.message;
  };

  test('zip64', async () => {
    const path = folder.file('zip64.pth', zipCheckpoint(object, { k: six }, {}, { zip64: true }));
    expect((await values(path, 'a')).values).toEqual([0, 1, 2, 3, 4, 5]);
  });

  test('a zip without a folder, and with the little-endian record', async () => {
    const records = { 'data.pkl': p.pickle(object), 'data/k': six, byteorder: Buffer.from('little') };
    expect((await values(folder.file('flat.pth', zip(records)), 'a')).values).toEqual([0, 1, 2, 3, 4, 5]);
  });

  test('a pickle longer than the first window of the old format', async () => {
    const filler = p.string('x'.repeat(3 * 2 ** 18));
    const bytes = legacyCheckpoint(p.dict(['filler', filler], ['a', vector]), { k: [6, six] });
    expect((await values(folder.file('long.pth', bytes), 'a')).values).toEqual([0, 1, 2, 3, 4, 5]);
  });

  test('big-endian files are refused', async () => {
    const big = zipCheckpoint(object, { k: six }, { 'archive/byteorder': Buffer.from('big') });
    expect(await failure('big.pth', big)).toMatch(/byte order "big"/);
    expect(await failure('big-legacy.pth', legacyCheckpoint(object, { k: [6, six] }, false))).toMatch(
      /big-endian/,
    );
  });

  test('compressed, encrypted and TorchScript archives are refused', async () => {
    expect(await failure('deflated.pth', zipCheckpoint(object, { k: six }, {}, { method: 8 }))).toMatch(
      /compressed or encrypted/,
    );
    expect(await failure('encrypted.pth', zipCheckpoint(object, { k: six }, {}, { flags: 1 }))).toMatch(
      /zip archive is damaged|compressed or encrypted/,
    );
    const script = zipCheckpoint(object, { k: six }, { 'archive/constants.pkl': p.pickle(p.none) });
    expect(await failure('script.pth', script)).toMatch(/TorchScript/);
  });

  test('storages that are missing or of another size are refused', async () => {
    expect(await failure('missing.pth', zipCheckpoint(object))).toMatch(/lacks the record archive\/data\/k/);
    expect(await failure('short.pth', zipCheckpoint(object, { k: six.subarray(4) }))).toMatch(
      /archive\/data\/k has 20 bytes, but 6 of float32 take 24/,
    );
    expect(await failure('count.pth', legacyCheckpoint(object, { k: [5, six] }))).toMatch(
      /storage k has 5 elements, but the pickle says 6/,
    );
    expect(await failure('unlisted.pth', legacyCheckpoint(object))).toMatch(
      /storage k is named but not stored/,
    );
    expect(await failure('unnamed.pth', legacyCheckpoint(object, { j: [6, six] }))).toMatch(
      /list of storage keys/,
    );
    const twice = p.dict(['a', vector], ['b', p.tensor(p.storage('HalfStorage', 'k', 12), 0, [1], [1])]);
    expect(await failure('twice.pth', zipCheckpoint(twice, { k: six }))).toMatch(
      /6 of float32, then as 12 of float16/,
    );
  });

  test('other files are refused for what they are', async () => {
    const tar = Buffer.alloc(1024);
    tar.write('sys_info');
    tar.write('ustar', 257);
    expect(await failure('old.tar', tar)).toMatch(/tar format of the first releases/);
    expect(await failure('lfs.pth', Buffer.from('version https://git-lfs.github.com/spec/v1'))).toMatch(
      /starts with "version https:/,
    );
    expect(await failure('empty.pth', Buffer.alloc(0))).toMatch(/not a file of torch\.save/);
    expect(await failure('plain.pkl', p.pickle(object))).toMatch(/magic number/);
    expect(await failure('other.zip', zip({ 'readme.txt': six }))).toMatch(/0 records data\.pkl/);
  });

  test('a missing file and a folder are ERR_FILE', async () => {
    const missing = await rejection(readPyTorch(join(folder.path, 'nowhere.pth')));
    expect(missing).toMatchObject({ code: 'ERR_FILE' });
    expect(missing.message).toMatch(/nowhere\.pth: cannot read it: no such file/);
    expect(await rejection(readPyTorch(folder.path))).toMatchObject({ code: 'ERR_FILE' });
  });
});

test('an open file reads by name until it is closed', async () => {
  const file = await openPyTorch(join(fixtures, 'tiny-legacy.pth'));
  expect(file.tensors.get('conv.weight')).toEqual({ dtype: 'float32', shape: [2, 3, 3, 3] });
  expect([...toFloat32(await file.read('bn.num_batches_tracked'))]).toEqual([42]);
  expect(await rejection(file.read('conv.wieght'))).toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
  await file.close();
  await file.close();
  expect(await rejection(file.read('conv.weight'))).toMatchObject({ code: 'ERR_DISPOSED' });
});

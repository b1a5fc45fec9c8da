import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { EventWriter, maskedCrc32c } from '../../../src/training/tensorboard';

const root = mkdtempSync(path.join(tmpdir(), 'glnet-tensorboard-'));
afterAll(() => rmSync(root, { recursive: true }));
let folder: string;
beforeEach(() => {
  folder = path.join(mkdtempSync(path.join(root, 'run-')), 'events');
});

/** A message's fields in order: numbers for varints, bytes for everything else. */
type Fields = [field: number, value: number | Buffer][];

/** A protocol buffer, by the encoding's description. */
function parse(message: Buffer): Fields {
  const fields: Fields = [];
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = message[at++]!;
      value += (byte % 128) * scale;
      if (byte < 128) return value;
    }
  };
  const take = (length: number): Buffer => {
    at += length;
    expect(at).toBeLessThanOrEqual(message.length);
    return message.subarray(at - length, at);
  };
  while (at < message.length) {
    const key = varint();
    const read = { 0: varint, 1: () => take(8), 2: () => take(varint()), 5: () => take(4) }[key & 7]!;
    fields.push([key >> 3, read()]);
  }
  return fields;
}

/** CRC-32C a bit at a time, as its definition is: independent of the table. */
function crc32c(bytes: Buffer): number {
  let crc = 0xffffffffn;
  for (const byte of bytes) {
    crc ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit++) crc = crc & 1n ? (crc >> 1n) ^ 0x82f63b78n : crc >> 1n;
  }
  return Number(crc ^ 0xffffffffn);
}

function masked(bytes: Buffer): number {
  const crc = BigInt(crc32c(bytes));
  return Number((((crc >> 15n) | (crc << 17n)) + 0xa282ead8n) & 0xffffffffn);
}

/** The events of a file, its checksums verified. */
function readEvents(file: string): Fields[] {
  const bytes = readFileSync(file);
  const events: Fields[] = [];
  let at = 0;
  while (at < bytes.length) {
    const length = Number(bytes.readBigUInt64LE(at));
    expect(bytes.readUInt32LE(at + 8)).toBe(masked(bytes.subarray(at, at + 8)));
    const data = bytes.subarray(at + 12, at + 12 + length);
    expect(data).toHaveLength(length);
    expect(bytes.readUInt32LE(at + 12 + length)).toBe(masked(data));
    events.push(parse(data));
    at += length + 16;
  }
  return events;
}

test('checksums are those that are known', () => {
  expect(maskedCrc32c(Buffer.from('123456789'))).toBe(0xc78ab0e5);
  expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
});

test('the version first, then scalars by step', () => {
  const writer = new EventWriter(folder, { now: () => 1700000000250 });
  writer.scalars(1, { 'loss/total': 0.75, 'learning rate': 5e-5 });
  writer.scalars(300, { mIoU: Number.NaN });
  writer.scalars(2 ** 40 + 5, { 'IoU/wäter': -1e-30 });
  writer.close();
  expect(path.basename(writer.path)).toMatch(/^events\.out\.tfevents\.1700000000\.250\..+/);
  expect(readdirSync(folder)).toEqual([path.basename(writer.path)]);

  const time = Buffer.alloc(8);
  time.writeDoubleLE(1700000000.25);
  const scalars = readEvents(writer.path).map((fields) => {
    const [[first, wallTime], [second, step], [third, what], ...rest] = fields as [
      Fields[0],
      Fields[0],
      Fields[0],
    ];
    expect([first, second, rest]).toEqual([1, 2, []]);
    expect(wallTime).toEqual(time);
    if (third === 3) return [step, String(what)];
    expect(third).toBe(5);
    return [
      step,
      ...parse(what as Buffer).map(([field, value]) => {
        expect(field).toBe(1);
        const [tag, simple, ...others] = parse(value as Buffer);
        expect([tag![0], simple![0], others]).toEqual([1, 2, []]);
        return [String(tag![1]), (simple![1] as Buffer).readFloatLE()];
      }),
    ];
  });
  expect(scalars).toEqual([
    [0, 'brain.Event:2'],
    [1, ['loss/total', 0.75], ['learning rate', Math.fround(5e-5)]],
    [300, ['mIoU', Number.NaN]],
    [2 ** 40 + 5, ['IoU/wäter', Math.fround(-1e-30)]],
  ]);
});

test.each([
  ['srgb', 3],
  ['b-w', 1],
] as const)('images: size, channels and bytes of a PNG in %s', async (space, channels) => {
  const png = await sharp({ create: { width: 300, height: 7, channels: 3, background: '#a05010' } })
    .toColourspace(space)
    .png()
    .toBuffer();
  const writer = new EventWriter(folder);
  // A view that does not begin where its memory does.
  writer.image(12, 'prediction/0', new Uint8Array([9, 9, ...png]).subarray(2));
  writer.close();
  const [, event] = readEvents(writer.path);
  expect(event![1]).toEqual([2, 12]);
  const [[field, value]] = parse(event![2]![1] as Buffer) as [Fields[0]];
  const [tag, image] = parse(value as Buffer);
  expect([field, tag![0], String(tag![1]), image![0]]).toEqual([1, 1, 'prediction/0', 4]);
  expect(parse(image![1] as Buffer)).toEqual([
    [1, 7],
    [2, 300],
    [3, channels],
    [4, png],
  ]);
});

test('events are there when the call returns', () => {
  const writer = new EventWriter(folder);
  writer.scalars(1, { loss: 1 });
  expect(readEvents(writer.path)).toHaveLength(2);
  writer.close();
});

test('a resumed run makes readers forget the steps that it writes again', () => {
  const first = new EventWriter(folder, { now: () => 1700000000000 });
  first.scalars(1, { loss: 1 });
  first.close();
  const second = new EventWriter(folder, { resumeAt: 7, now: () => 1700000000001 });
  second.close();
  expect(readdirSync(folder).sort()).toEqual([first.path, second.path].map((file) => path.basename(file)));
  const [, start] = readEvents(second.path);
  // A session log (7) with the status (1) START (1), at the first step to come.
  expect(start!.slice(1)).toEqual([
    [2, 8],
    [7, Buffer.from([0x08, 0x01])],
  ]);
});

test('wrong arguments are refused by their values', () => {
  const writer = new EventWriter(folder);
  expect(() => writer.scalars(-1, { loss: 1 })).toThrow(/step is -1; expected a whole number from 0/);
  expect(() => writer.image(1, 'masks', Buffer.from('no PNG at all'))).toThrow(
    /the image masks is not a PNG/,
  );
  expect(readEvents(writer.path)).toHaveLength(1);
  writer.close();
  writer.close();
  expect(() => writer.scalars(1, {})).toThrow(expect.objectContaining({ code: 'ERR_DISPOSED' }));
  expect(() => new EventWriter(folder, { resumeAt: 0.5 })).toThrow(/resumeAt is 0\.5/);
  const blocked = path.join(root, 'file');
  writeFileSync(blocked, '');
  expect(() => new EventWriter(blocked)).toThrow(/file: this folder can't be made \(EEXIST\)/);
});

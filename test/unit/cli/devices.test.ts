/** What the commands say of devices that are missing, fail, or belong to another version. */
import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { addonFolder } from '../../../src/binding';
import { deviceCount } from '../../../src/tensor/device';
import { glnet } from '../../support/command';
import { writeTinyModel } from '../../support/tiny-model';

const folder = mkdtempSync(path.join(tmpdir(), 'glnet-device-'));
const at = (...names: string[]) => path.join(folder, ...names);
afterAll(() => rmSync(folder, { recursive: true }));

beforeAll(async () => {
  await writeTinyModel(at('model.safetensors'));
  const raw = { width: 8, height: 6, channels: 3 } as const;
  const noise = Uint8Array.from({ length: 144 }, (_, i) => (i * 89) % 256);
  await sharp(noise, { raw }).resize(130, 90, { fit: 'fill' }).png().toFile(at('a.png'));
  copyFileSync(at('a.png'), at('b.png'));
});

async function segment(device: string, env: Record<string, string> = {}, ...more: string[]) {
  const out = at(`out-${readdirSync(folder).length}`);
  const args = [
    'segment',
    at('a.png'),
    '-w',
    at('model.safetensors'),
    '-o',
    out,
    '--device',
    device,
    ...more,
  ];
  const result = await glnet(args, { env });
  return { ...result, out, files: existsSync(out) ? readdirSync(out).sort() : [] };
}

/** Why there is no GPU on this machine; nothing where there is one. */
function whyNoCuda(): string | undefined {
  try {
    deviceCount('cuda');
  } catch (error) {
    return (error as Error).message;
  }
  return undefined;
}

test('auto computes on the GPUs, or says why it does not and computes on the CPU', async () => {
  const why = whyNoCuda();
  const { code, stderr, files } = await segment('auto');
  expect(code).toBe(0);
  expect(files).toEqual(['a.png']);
  if (why !== undefined) expect(stderr).toContain(`glnet: computing on the CPU. ${why}`);
});

test('cuda on a machine without one fails, saying what to do', async () => {
  const why = whyNoCuda();
  if (why === undefined) return;
  const { code, stderr, files } = await segment('cuda');
  expect(code).toBe(1);
  expect(stderr).toContain(`glnet: ${why}`);
  expect(why).toMatch(/Install|Update|nvidia-smi|native\.js build cuda/);
  expect(files).toEqual([]);
});

test.each([
  [
    'no-driver',
    { GLNET_EMULATOR_FAULT: 'no-driver' },
    'there is no NVIDIA driver on this machine. Install one',
  ],
  ['old-driver', { GLNET_EMULATOR_FAULT: 'old-driver' }, 'the NVIDIA driver is for CUDA 11.4'],
  ['no device', { GLNET_EMULATOR_DEVICES: '0' }, 'the NVIDIA driver sees no GPU'],
  ['no memory', { GLNET_EMULATOR_MEMORY: '12000000' }, 'Lower the batch size'],
  ['a lost device', { GLNET_EMULATOR_FAULT: 'lost:40' }, 'start the process anew'],
])('%s: a clear error, and nothing half-written', async (_, env, message) => {
  const { code, stderr, files } = await segment('emulator', env);
  expect(code).toBe(1);
  expect(stderr).toContain(message);
  expect(files).toEqual([]);
});

test('a device that is not there is wrong usage', async () => {
  const { code, stderr } = await segment('emulator:3');
  expect(code).toBe(2);
  expect(stderr).toContain(
    "device is emulator:3; expected numbers from 0 to 1, each once, after 'emulator:'",
  );
});

test('of several images each device takes one, and bfloat16 gives the same files', async () => {
  const more = [at('b.png'), '--json', '--precision', 'bfloat16', '--mode', 'global-to-local'];
  const { code, stdout, out, files } = await segment('emulator:all', {}, ...more);
  expect(code).toBe(0);
  expect(files).toEqual(['a.png', 'b.png']);
  const { images } = JSON.parse(stdout) as { images: { devices: string[] }[] };
  expect(images.map(({ devices }) => devices).sort()).toEqual([['emulator:0'], ['emulator:1']]);
  const [a, b] = files.map((name) => readFileSync(path.join(out, name)));
  expect(a!.equals(b!)).toBe(true);
});

test('a device that is lost in a batch is not used again, and the others finish', async () => {
  const more = [at('b.png'), at('c.png'), at('d.png'), '--json', '--mode', 'global'];
  for (const name of ['c.png', 'd.png']) copyFileSync(at('a.png'), at(name));
  const { code, stdout, files } = await segment('emulator:all', { GLNET_EMULATOR_FAULT: 'lost:40' }, ...more);
  expect(code).toBe(1);
  const { images } = JSON.parse(stdout) as { images: { path: string; devices?: string[]; error?: object }[] };
  const failed = images.filter(({ error }) => error);
  expect(failed).toMatchObject([{ error: { code: 'ERR_NATIVE' } }]);
  expect(images.filter(({ error }) => !error).map(({ devices }) => devices)).toEqual([
    ['emulator:1'],
    ['emulator:1'],
    ['emulator:1'],
  ]);
  expect(files).toHaveLength(3);
});

test('doctor tests the device that it is asked for', async () => {
  const { code, stdout } = await glnet(['doctor', '--device', 'emulator:1', '--json']);
  const report = JSON.parse(stdout);
  expect(report).toMatchObject({ passes: true, selfTests: [{ device: 'emulator:1', passes: true }] });
  expect(code).toBe(0);
});

test('a library of another version is refused, naming both', () => {
  const name = 'libglnet_emulator.so';
  copyFileSync(path.join(addonFolder(), 'glnet.node'), at('glnet.node'));
  const { version } = require('../../../package.json') as { version: string };
  const other = version.replace(/\d$/, (digit) => String((Number(digit) + 1) % 10));
  const library = readFileSync(path.join(addonFolder(), name)).toString('latin1');
  expect(library).toContain(`glnet ${version}, interface`);
  writeFileSync(
    at(name),
    library.replace(`glnet ${version}, interface`, `glnet ${other}, interface`),
    'latin1',
  );
  const addon = require(at('glnet.node')) as { deviceCount(kind: string): number };
  expect(() => addon.deviceCount('emulator')).toThrow(
    expect.objectContaining({
      code: 'ERR_NATIVE',
      message: expect.stringMatching(
        `belongs to 'glnet ${other}, interface .*, and this is 'glnet ${version}, interface`,
      ),
    }),
  );
});

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { readPyTorch } from '../../../src/checkpoint/pytorch';
import { openSafetensors, writeSafetensors } from '../../../src/checkpoint/safetensors';
import { fixtures, randomIntegers, rejection, temporaryFolder } from './files';

const folder = temporaryFolder();

async function readAll(path: string): Promise<void> {
  if (!path.endsWith('.safetensors')) {
    await readPyTorch(path);
    return;
  }
  const file = await openSafetensors(path);
  try {
    for (const name of file.tensors.keys()) await file.read(name);
  } finally {
    await file.close();
  }
}

const names = ['tiny-zip.pth', 'tiny-nested.pth', 'tiny-legacy.pth', 'tiny.safetensors'];
const sources = new Map<string, Buffer>();
beforeAll(async () => {
  const tiny = join(folder.path, 'source.safetensors');
  await writeSafetensors(
    tiny,
    await readPyTorch(join(fixtures, 'tiny-zip.pth')),
    new Map([['key', 'value']]),
  );
  for (const name of names) {
    const path = name === 'tiny.safetensors' ? tiny : join(fixtures, name);
    sources.set(name, readFileSync(path));
  }
});

test.each(names)('%s cut short at any byte is ERR_CHECKPOINT', async (name) => {
  const source = sources.get(name)!;
  await readAll(folder.file(name, source));
  for (let length = 0; length < source.length; length++) {
    const { code, message } = await rejection(readAll(folder.file(name, source.subarray(0, length))));
    if (code !== 'ERR_CHECKPOINT' || !message.includes(name))
      throw new Error(`${length} bytes: ${code}, ${message}`);
  }
});

test.each(names)('%s with random bytes changed is read or ERR_CHECKPOINT', async (name) => {
  const source = sources.get(name)!;
  const random = randomIntegers(1);
  let refused = 0;
  const rounds = 800;
  for (let round = 0; round < rounds; round++) {
    const bytes = Buffer.from(source);
    const changes = 1 + (random() % 3);
    // Half of the changes hit the structure at the start or the end, not the weights between.
    for (let i = 0; i < changes; i++) {
      const place = random() % 4;
      const near = random() % Math.min(200, bytes.length);
      const at = place === 0 ? near : place === 1 ? bytes.length - 1 - near : random() % bytes.length;
      bytes[at] = random() % 2 ? random() % 256 : bytes[at]! ^ (1 << (random() % 8));
    }
    const path = folder.file(name, bytes);
    try {
      await readAll(path);
    } catch (error) {
      refused++;
      const { code, message } = error as { code?: unknown; message: string };
      if (code !== 'ERR_CHECKPOINT' || !message.includes(name)) throw error;
    }
  }
  expect(refused).toBeGreaterThan(rounds / 10);
});

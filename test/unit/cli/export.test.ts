import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { glnet } from '../../support/command';
import { readOnnx } from '../../support/onnx';
import { writeTinyModel } from '../../support/tiny-model';

const folder = mkdtempSync(path.join(tmpdir(), 'glnet-export-'));
const inFolder = { cwd: folder };
beforeAll(async () => {
  await writeTinyModel(path.join(folder, 'model.safetensors'));
  await writeTinyModel(path.join(folder, 'global.safetensors'), { modes: ['global'] });
});
afterAll(() => rmSync(folder, { recursive: true }));

test('it writes the file and says what goes in and out', async () => {
  const { code, stdout, stderr } = await glnet(
    ['export', '--onnx', 'a.onnx', '-w', 'model.safetensors', '--mode', 'global', '--batch', '2'],
    inFolder,
  );
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toMatch(/image \[2, 3, 64, 64\]\n.*logits \[2, 3, 16, 16\]\n[\s\S]*a\.onnx, \d+ kB/);
  expect(readOnnx(path.join(folder, 'a.onnx')).inputs[0]!.shape[0]).toBe(2);
});

test.each<[string, string[], number, RegExp]>([
  ['no weights', ['--onnx', 'b.onnx'], 2, /required option '-w, --weights <file>' not specified/],
  ['no file to write', ['-w', 'model.safetensors'], 2, /required option '--onnx <file>' not specified/],
  ['missing weights', ['--onnx', 'b.onnx', '-w', 'none.safetensors'], 1, /none\.safetensors: .*no such file/],
  [
    'a mode that is not in the file',
    ['--onnx', 'b.onnx', '-w', 'global.safetensors', '--mode', 'global-to-local'],
    2,
    /no weights for the mode "global-to-local"; it has global/,
  ],
  [
    'a mode that no graph holds',
    ['--onnx', 'b.onnx', '-w', 'model.safetensors', '--mode', 'bidirectional'],
    2,
    /Allowed choices are global, global-to-local/,
  ],
  [
    'the model itself',
    ['--onnx', './model.safetensors', '-w', 'model.safetensors'],
    2,
    /model\.safetensors is the model model\.safetensors itself; choose another file/,
  ],
  [
    'a missing folder',
    ['--onnx', 'none/b.onnx', '-w', 'model.safetensors'],
    1,
    /none\/b\.onnx: can't be written \(ENOENT\); check that its folder exists/,
  ],
])('%s', async (_, args, code, message) => {
  const before = readdirSync(folder);
  const result = await glnet(['export', ...args], inFolder);
  expect({ code: result.code, stdout: result.stdout }).toEqual({ code, stdout: '' });
  expect(result.stderr).toMatch(message);
  expect(result.stderr).not.toMatch(/\n {4}at /);
  expect(readdirSync(folder)).toEqual(before);
  expect(existsSync(path.join(folder, 'b.onnx'))).toBe(false);
});

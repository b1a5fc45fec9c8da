import { join } from 'node:path';

import { type ModelConfig, openModel, writeModel } from '../../../src/checkpoint/model-file';
import { writeSafetensors } from '../../../src/checkpoint/safetensors';
import { elementCount, fromFloat32, type StateDict } from '../../../src/checkpoint/state-dict';
import { expectedParameters } from '../../../src/models/parameters';
import { rejection, temporaryFolder } from './files';

const folder = temporaryFolder();
const path = join(folder.path, 'model.safetensors');

const config: ModelConfig = {
  backbone: 'resnet18',
  width: 1 / 64,
  fpn: { channels: 2, smooth: 1 },
  classes: [
    { name: 'no', color: [0, 0, 0] },
    { name: 'yes', color: [255, 128, 1] },
  ],
  patch: 64,
  global: 32,
  modes: ['global', 'global-to-local'],
};
const tensors: StateDict = new Map();
for (const mode of config.modes) {
  for (const [name, shape] of expectedParameters(config, mode)) {
    tensors.set(
      `${mode}.${name}`,
      fromFloat32(shape, new Float32Array(elementCount(shape)).fill(tensors.size)),
    );
  }
}
const text = JSON.stringify({ format: 1, ...config });

test('writes and opens; each mode finds its tensors', async () => {
  await writeModel(path, { ...config, modes: ['global-to-local', 'global'] }, tensors);
  const model = await openModel(path);
  expect(model.config).toEqual(config);
  expect([...model.locate('global').keys()]).toEqual([...expectedParameters(config, 'global').keys()]);
  const names = model.locate('global-to-local');
  expect(names.get('resnet_global.conv1.weight')).toBe('global.resnet_global.conv1.weight');
  expect(names.get('resnet_local.conv1.weight')).toBe('global-to-local.resnet_local.conv1.weight');
  const state = await model.readMode('global-to-local');
  for (const [name, stored] of names)
    expect(state.get(name)!.data).toEqual(Buffer.from(tensors.get(stored)!.data));
  expect(() => model.locate('bidirectional')).toThrow(
    /no weights for the mode "bidirectional"; it has global, global-to-local/,
  );
  await model.close();
});

describe('a configuration with a wrong field is refused by its name', () => {
  test.each<[string, object, RegExp]>([
    ['backbone', { backbone: 'resnet9' }, /backbone is "resnet9", expected one of resnet18/],
    ['backbone of the prototype', { backbone: 'constructor' }, /backbone is "constructor"/],
    ['width', { width: 0.3 }, /width is 0\.3, expected a positive multiple of 1\/64/],
    ['width as text', { width: '1' }, /width is "1"/],
    ['fpn', { fpn: null }, /fpn\.channels is undefined.*\n.*fpn\.smooth is undefined/],
    ['fpn.channels', { fpn: { channels: 0, smooth: 1 } }, /fpn\.channels is 0, expected a positive integer/],
    ['classes', { classes: [config.classes[0]] }, /classes is a list of 1, expected a list of 2 to 255/],
    ['no classes', { classes: undefined }, /classes is undefined/],
    ['name', { classes: [{ color: [1, 2, 3] }, config.classes[1]] }, /classes\[0\]\.name is undefined/],
    [
      'color',
      { classes: [config.classes[0], { name: 'x', color: [1, 2, 256] }] },
      /classes\[1\]\.color is \[1,2,256\]/,
    ],
    ['patch', { patch: 254 }, /patch is 254, expected a multiple of 4 from 52/],
    ['small patch', { patch: 48 }, /patch is 48/],
    ['global', { global: 0 }, /global is 0/],
    ['modes', { modes: ['global', 'local'] }, /modes is \["global","local"\], expected a list of global/],
    ['modes without global', { modes: ['global-to-local'] }, /modes is/],
    ['modes twice', { modes: ['global', 'global'] }, /modes is/],
    ['several', { backbone: 1, patch: 1 }, /backbone is 1.*\n.*patch is 1,/],
  ])('%s', async (_, change, message) => {
    await writeSafetensors(
      path,
      tensors,
      new Map([['glnet', JSON.stringify({ format: 1, ...config, ...change })]]),
    );
    const error = await rejection(openModel(path));
    expect(error.code).toBe('ERR_CHECKPOINT');
    expect(error.message).toMatch(message);
    expect(error.message).toContain('model.safetensors: its configuration is wrong:');
    const written = await rejection(writeModel(path, { ...config, ...change } as ModelConfig, tensors));
    expect(written.code).toBe('ERR_INVALID_ARGUMENT');
    expect(written.message).toMatch(message);
  });

  test.each<[string, Map<string, string>, RegExp]>([
    ['no metadata', new Map(), /not a glnet model.*glnet import/],
    ['no JSON', new Map([['glnet', '{']]), /configuration is not JSON/],
    ['null', new Map([['glnet', 'null']]), /has format undefined/],
    [
      'another format',
      new Map([['glnet', text.replace('"format":1', '"format":2')]]),
      /has format 2.*reads 1; update/,
    ],
  ])('%s', async (_, metadata, message) => {
    await writeSafetensors(path, tensors, metadata);
    const error = await rejection(openModel(path));
    expect(error.code).toBe('ERR_CHECKPOINT');
    expect(error.message).toMatch(message);
  });
});

test('tensors that do not fit the configuration are listed', async () => {
  const wrong = new Map(tensors);
  wrong.delete('global-to-local.ensemble_conv.bias');
  wrong.set('global.fpn_global.toplayer_ext.bias', fromFloat32([2], new Float32Array(2)));
  wrong.set('global.fpn_global.toplayer.bias', fromFloat32([3], new Float32Array(3)));
  // One tensor of an inherited branch: then all of it must be there.
  wrong.set('global-to-local.resnet_global.bn1.bias', fromFloat32([1], new Float32Array(1)));
  await writeSafetensors(path, wrong, new Map([['glnet', text]]));
  const error = await rejection(openModel(path));
  expect(error.code).toBe('ERR_CHECKPOINT');
  expect(error.message).toMatch(
    /missing \(126\): global-to-local\.ensemble_conv\.bias, global-to-local\.resnet_global\.conv1\.weight/,
  );
  expect(error.message).toMatch(/surplus \(1\): global\.fpn_global\.toplayer_ext\.bias$/m);
  expect(error.message).toMatch(
    /misshapen \(1\): global\.fpn_global\.toplayer\.bias \(3\) instead of \(2\)$/m,
  );
  expect(await rejection(writeModel(path, config, wrong))).toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
});

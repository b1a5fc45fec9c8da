import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import {
  type Architecture,
  backboneChannels,
  backboneParameters,
  branchParameters,
  expectedParameters,
} from '../../../src/models/parameters';

const architecture = (part: Partial<Architecture> = {}): Architecture => ({
  backbone: 'resnet50',
  width: 1,
  fpn: { channels: 256, smooth: 128 },
  classes: Array.from({ length: 7 }, (_, i) => ({ name: `class ${i}`, color: [i, i, i] })),
  ...part,
});

test("all phases together have the reference's names and shapes", () => {
  const reference: Record<string, number[]> = JSON.parse(
    readFileSync(join(__dirname, '../../fixtures/parameters.json'), 'utf8'),
  );
  const config = architecture();
  const all = Object.fromEntries([
    ...branchParameters(config, 'local'),
    ...expectedParameters(config, 'global'),
    ...expectedParameters(config, 'global-to-local'),
    ...expectedParameters(config, 'bidirectional'),
  ]);
  const parameters = Object.entries(reference).filter(([name]) => !name.endsWith('num_batches_tracked'));
  expect(all).toEqual(Object.fromEntries(parameters));
});

test('a phase has only what its mode uses', () => {
  const config = architecture();
  const roots = (phase: 'global' | 'global-to-local' | 'bidirectional') =>
    new Set(Array.from(expectedParameters(config, phase).keys(), (name) => name.split('.')[0]));
  expect(roots('global')).toEqual(new Set(['resnet_global', 'fpn_global']));
  expect(roots('global-to-local')).toEqual(new Set(['resnet_local', 'fpn_local', 'ensemble_conv']));
  expect(roots('bidirectional')).toEqual(new Set(['resnet_global', 'fpn_global', 'ensemble_conv']));
  expect(expectedParameters(config, 'global').has('fpn_global.toplayer_ext.weight')).toBe(false);
  expect(expectedParameters(config, 'bidirectional').has('fpn_global.toplayer.weight')).toBe(false);
});

test.each([
  // Parameters of torchvision's models without fc: 11 689 512 − 513 000 for ResNet-18, and so on.
  ['resnet18', 11_176_512],
  ['resnet34', 21_284_672],
  ['resnet50', 23_508_032],
  ['resnet101', 42_500_160],
] as const)('%s has as many parameters as torchvision’s', (backbone, expected) => {
  let count = 0;
  for (const [name, shape] of backboneParameters(backbone, 1)) {
    if (!name.includes('running')) count += shape.reduce((product, size) => product * size, 1);
  }
  expect(count).toBe(expected);
});

test('the width scales every channel', () => {
  expect(backboneChannels('resnet18', 0.25)).toEqual([16, 32, 64, 128]);
  expect(backboneChannels('resnet50', 0.5)).toEqual([128, 256, 512, 1024]);
  const shapes = backboneParameters('resnet18', 0.25);
  expect(shapes.get('conv1.weight')).toEqual([16, 3, 7, 7]);
  expect(shapes.get('layer4.0.downsample.0.weight')).toEqual([128, 64, 1, 1]);
  expect(shapes.has('layer1.0.downsample.0.weight')).toBe(false);
  expect(backboneParameters('resnet50', 1).get('layer1.0.downsample.0.weight')).toEqual([256, 64, 1, 1]);
});

/** Which weights the networks of a phase are made of. */

import type { Mode } from '../../../src/checkpoint/model-file';
import { fromFloat32, type StateDict } from '../../../src/checkpoint/state-dict';
import { smallConfig } from '../../../src/cli/self-test';
import { expectedParameters } from '../../../src/models/parameters';
import { Device } from '../../../src/tensor/device';
import { firstWeights, TrainingNetworks } from '../../../src/training/networks';

/** Every parameter of these phases, all of a phase of one value. */
function constantWeights(values: Readonly<Partial<Record<Mode, number>>>): StateDict {
  const weights: StateDict = new Map();
  for (const [mode, value] of Object.entries(values) as [Mode, number][]) {
    for (const [name, shape] of expectedParameters(smallConfig, mode)) {
      const size = shape.reduce((product, length) => product * length, 1);
      weights.set(`${mode}.${name}`, fromFloat32(shape, new Float32Array(size).fill(value)));
    }
  }
  return weights;
}

test('phase 3 shares the maps of phase 1, also when it goes on from weights of its own', async () => {
  using device = new Device();
  using image = device.zeros([1, 64, 64, 3], 'float32');
  const share = async (values: Readonly<Partial<Record<Mode, number>>>) => {
    const weights = constantWeights(values);
    const own = firstWeights(smallConfig, 'bidirectional', weights, 1);
    const networks = await TrainingNetworks.create(device, smallConfig, 'bidirectional', own, weights);
    const { maps, ps3 } = device.scope(() => networks.networks.global.forward(image));
    const data = await ps3.data();
    for (const tensor of [ps3, ...Object.values(maps).flat()]) tensor.dispose();
    networks.dispose();
    return data;
  };
  const [global, local] = [0.01, 0.02];
  const fresh = await share({ global, 'global-to-local': local });
  expect(Math.max(...fresh)).toBeGreaterThan(0);
  expect(await share({ global, 'global-to-local': local, bidirectional: 0.03 })).toEqual(fresh);
  expect(device.memory().active).toBe(image.size * 4);
});

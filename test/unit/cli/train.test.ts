/** How the options of `glnet train` and its configuration go together. */
import { overridden } from '../../../src/cli/train';
import { parseTrainConfig, phaseConfig } from '../../../src/training/config';

const config = {
  batch: 3,
  steps: 100,
  phases: { global: { epochs: 40, batch: 2 }, 'global-to-local': { steps: 7, lambda: 0.1 } },
};

test('options override the configuration, and what it says of single phases', () => {
  const value = parseTrainConfig(overridden(config, { epochs: 2, batch: 1, data: 'data' }));
  for (const phase of ['global', 'global-to-local', 'bidirectional'] as const) {
    const { steps, epochs, batch } = phaseConfig(value, phase);
    expect({ steps, epochs, batch }).toEqual({ steps: undefined, epochs: 2, batch: 1 });
  }
  expect(phaseConfig(value, 'global-to-local').lambda).toBe(0.1);
  expect(phaseConfig(parseTrainConfig(overridden(config, {})), 'global')).toMatchObject({
    epochs: 40,
    batch: 2,
  });
});

test('a configuration that is none is refused, whatever the options', () => {
  for (const value of [null, [], 5]) {
    expect(() => parseTrainConfig(overridden(value, { steps: 1 }), 'train.json')).toThrow(
      /train\.json is wrong/,
    );
  }
  expect(() => parseTrainConfig({ steps: 1, epochs: 1 })).toThrow(/epochs: cannot be given beside steps/);
  expect(() => parseTrainConfig({ phases: { global: { steps: 1, epochs: 1 } } })).toThrow(
    /phases\.global\.epochs: cannot be given beside steps/,
  );
});

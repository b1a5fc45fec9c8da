import type { ModelConfig } from '../../src/checkpoint/model-file';

/** GLNet as published, with all its modes. */
export function glnetConfig(backbone: string, classes: number): ModelConfig {
  return {
    backbone: backbone as ModelConfig['backbone'],
    width: 1,
    fpn: { channels: 256, smooth: 128 },
    classes: Array.from({ length: classes }, (_, i) => ({ name: `${i}`, color: [i, i, i] })),
    patch: 508,
    global: 508,
    modes: ['global', 'global-to-local', 'bidirectional'],
  };
}

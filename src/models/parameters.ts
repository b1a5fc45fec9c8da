/**
 * Names and shapes of GLNet's parameters, by the names of its reference implementation. The one list that the
 * network, the checkpoints and the importer share.
 */

import type { Mode, ModelConfig } from '../checkpoint/model-file';

export type Backbone = 'resnet18' | 'resnet34' | 'resnet50' | 'resnet101';

export type Branch = 'global' | 'local';

/**
 * At which stages a branch takes the other's maps in: at all (GLNet), at the last one before the aggregation, or at
 * none. The last two are for ablation, as in the paper.
 */
export type Sharing = 'deep' | 'shallow' | 'none';
export const allSharing: readonly Sharing[] = ['deep', 'shallow', 'none'];

/** Shapes by parameter name. Convolutions are (out, in, height, width). */
export type ParameterShapes = Map<string, readonly number[]>;

/** What of a {@link ModelConfig} decides the shapes. */
export type Architecture = Pick<ModelConfig, 'backbone' | 'width' | 'fpn' | 'classes'>;

export interface BackboneLayout {
  readonly block: 'basic' | 'bottleneck';
  /** Blocks of layer1 to layer4. */
  readonly blocks: readonly [number, number, number, number];
}

export const backbones: Readonly<Record<Backbone, BackboneLayout>> = {
  resnet18: { block: 'basic', blocks: [2, 2, 2, 2] },
  resnet34: { block: 'basic', blocks: [3, 4, 6, 3] },
  resnet50: { block: 'bottleneck', blocks: [3, 4, 6, 3] },
  resnet101: { block: 'bottleneck', blocks: [3, 4, 23, 3] },
};

/** Channels of the first convolution at width 1. */
export const baseChannels = 64;

/** Channels of c2, c3, c4, c5: the outputs of layer1 to layer4. */
export function backboneChannels(backbone: Backbone, width: number): [number, number, number, number] {
  const c2 = Math.round(baseChannels * width) * (backbones[backbone].block === 'bottleneck' ? 4 : 1);
  return [c2, 2 * c2, 4 * c2, 8 * c2];
}

/** Parameters and running statistics of a ResNet without its classifier, by torchvision's names. */
export function backboneParameters(backbone: Backbone, width: number): ParameterShapes {
  const { block, blocks } = backbones[backbone];
  const shapes: ParameterShapes = new Map();
  const convolution = (name: string, to: number, from: number, side: number): void => {
    shapes.set(`${name}.weight`, [to, from, side, side]);
  };
  const batchNorm = (name: string, channels: number): void => {
    for (const field of ['weight', 'bias', 'running_mean', 'running_var']) {
      shapes.set(`${name}.${field}`, [channels]);
    }
  };

  const base = Math.round(baseChannels * width);
  convolution('conv1', base, 3, 7);
  batchNorm('bn1', base);
  let from = base;
  backboneChannels(backbone, width).forEach((to, stage) => {
    const inner = base * 2 ** stage;
    for (let i = 0; i < blocks[stage]!; i++) {
      const name = `layer${stage + 1}.${i}`;
      // [channels out, channels in, kernel side] of conv1, conv2, …
      const convolutions =
        block === 'basic'
          ? [
              [to, from, 3],
              [to, to, 3],
            ]
          : [
              [inner, from, 1],
              [inner, inner, 3],
              [to, inner, 1],
            ];
      convolutions.forEach(([channels, input, side], k) => {
        convolution(`${name}.conv${k + 1}`, channels!, input!, side!);
        batchNorm(`${name}.bn${k + 1}`, channels!);
      });
      if (i === 0 && (stage > 0 || from !== to)) {
        convolution(`${name}.downsample.0`, to, from, 1);
        batchNorm(`${name}.downsample.1`, to);
      }
      from = to;
    }
  });
  return shapes;
}

/**
 * Laterals and the two smoothing convolutions of each level.
 * @param sources 1 for a branch alone, 2 where each stage also takes the other branch's maps.
 */
function pyramidParameters(
  config: Architecture,
  prefix: string,
  suffix: string,
  sources: 1 | 2,
): ParameterShapes {
  const { channels, smooth } = config.fpn;
  const [c2, c3, c4, c5] = backboneChannels(config.backbone, config.width);
  const shapes: ParameterShapes = new Map();
  const add = (name: string, to: number, from: number, side: number): void => {
    convolution(shapes, `${prefix}${name}${suffix}`, to, sources * from, side);
  };
  [c5, c4, c3, c2].forEach((from, i) => {
    add(i === 0 ? 'toplayer' : `latlayer${i}`, channels, from, 1);
  });
  for (let level = 1; level <= 4; level++) add(`smooth${level}_1`, channels, channels, 3);
  for (let level = 1; level <= 4; level++) add(`smooth${level}_2`, smooth, channels, 3);
  return shapes;
}

function convolution(shapes: ParameterShapes, name: string, to: number, from: number, side: number): void {
  shapes.set(`${name}.weight`, [to, from, side, side]);
  shapes.set(`${name}.bias`, [to]);
}

function withPrefix(prefix: string, shapes: ParameterShapes): ParameterShapes {
  return new Map(Array.from(shapes, ([name, shape]) => [prefix + name, shape]));
}

/** A branch that predicts by itself: the global one of phase 1, or the local one, which takes global maps. */
export function branchParameters(config: Architecture, branch: Branch): ParameterShapes {
  const { smooth } = config.fpn;
  const fpn = `fpn_${branch}.`;
  const shapes: ParameterShapes = new Map([
    ...withPrefix(`resnet_${branch}.`, backboneParameters(config.backbone, config.width)),
    ...pyramidParameters(config, fpn, '', branch === 'global' ? 1 : 2),
  ]);
  if (branch === 'local') convolution(shapes, `${fpn}smooth`, 4 * smooth, 8 * smooth, 3);
  convolution(shapes, `${fpn}classify`, config.classes.length, 4 * smooth, 3);
  return shapes;
}

/**
 * The parameters that a phase trains and its mode uses, by the reference's names: `global` has the global branch
 * of phase 1, `global-to-local` the local branch and the aggregation, `bidirectional` the global branch that takes
 * local maps (`_ext`) and the aggregation. The counters `num_batches_tracked` are not parameters.
 */
export function expectedParameters(config: Architecture, phase: Mode): ParameterShapes {
  if (phase === 'global') return branchParameters(config, 'global');
  const { smooth } = config.fpn;
  const shapes: ParameterShapes = new Map();
  if (phase === 'global-to-local') {
    for (const [name, shape] of branchParameters(config, 'local')) shapes.set(name, shape);
  } else {
    for (const [name, shape] of [
      ...withPrefix('resnet_global.', backboneParameters(config.backbone, config.width)),
      ...pyramidParameters(config, 'fpn_global.', '_ext', 2),
    ]) {
      shapes.set(name, shape);
    }
    convolution(shapes, 'fpn_global.smooth', 4 * smooth, 8 * smooth, 3);
    convolution(shapes, 'fpn_global.classify', config.classes.length, 4 * smooth, 3);
  }
  convolution(shapes, 'ensemble_conv', config.classes.length, 8 * smooth, 3);
  return shapes;
}

/**
 * GLNet as ONNX graphs: the layers as they are trained, one after the other, nothing composed. They are those of
 * resnet.ts, fpn.ts and glnet.ts, over maps of [N, channels, height, width].
 */
import type { ModelConfig } from '../checkpoint/model-file';
import type { OnnxGraph, OnnxNode, OnnxValue } from '../checkpoint/onnx';
import { batchNormEpsilon } from '../tensor/batch-norm';
import type { Stage } from './fpn';
import { sharedStages } from './glnet';
import {
  backboneChannels,
  backbones,
  branchParameters,
  expectedParameters,
  type ParameterShapes,
} from './parameters';
import type { Levels } from './resnet';

const levels = [0, 1, 2, 3] as const;

export interface GraphOptions {
  /** Images or patches at a time; any number if not given. */
  readonly batch?: number | undefined;
  /** Mode `global`: whether the maps that the local branch takes in are outputs, too. */
  readonly maps?: boolean | undefined;
}

/** A map as the nodes know it. */
interface FeatureMap {
  readonly name: string;
  readonly channels: number;
}

type Size = readonly [height: number, width: number];

/** A map of a branch, named as its other copies: `global_c5`, `global_ps0_2`. */
function mapName(branch: 'global' | 'local', stage: Stage, level: number): string {
  return `${branch}_${stage === 'c' ? 'c' : `${stage}_`}${5 - level}`;
}

/** Sides of c5, c4, c3, c2 for a square input: each convolution or pooling of stride 2 halves, rounding up. */
function levelSides(side: number): Levels<number> {
  const halve = (length: number) => Math.ceil(length / 2);
  const c2 = halve(halve(side));
  const c3 = halve(c2);
  const c4 = halve(c3);
  return [halve(c4), c4, c3, c2];
}

/** Collects the nodes of a graph. Each gives a map that has the node's name. */
class GraphBuilder {
  readonly nodes: OnnxNode[] = [];
  readonly constants = new Map<string, readonly number[]>();
  /** Those of the parameters that nodes read. */
  readonly weights = new Map<string, readonly number[]>();
  readonly #parameters: ParameterShapes;
  readonly #batch: number | undefined;
  readonly #input: string;

  /** @param input the name of the image or the patches, which tell the batch where it is not given */
  constructor(parameters: ParameterShapes, input: string, batch: number | undefined) {
    this.#parameters = parameters;
    this.#input = input;
    this.#batch = batch;
  }

  /** Whether there are parameters of such a layer. */
  has(layer: string): boolean {
    return this.#parameters.has(`${layer}.weight`);
  }

  node(op: string, inputs: readonly string[], output: string, attributes?: OnnxNode['attributes']): string {
    this.nodes.push({ op, inputs, output, ...(attributes && { attributes }) });
    return output;
  }

  #weight(name: string): readonly number[] {
    const shape = this.#parameters.get(name)!;
    this.weights.set(name, shape);
    return shape;
  }

  #constant(name: string, values: readonly number[]): string {
    this.constants.set(name, values);
    return name;
  }

  relu(x: FeatureMap, output: string): FeatureMap {
    return { name: this.node('Relu', [x.name], output), channels: x.channels };
  }

  add(a: FeatureMap, b: FeatureMap, output: string): FeatureMap {
    return { name: this.node('Add', [a.name, b.name], output), channels: a.channels };
  }

  concat(maps: readonly FeatureMap[], output: string): FeatureMap {
    if (maps.length === 1) return maps[0]!;
    const name = this.node(
      'Concat',
      maps.map((map) => map.name),
      output,
      { axis: 1 },
    );
    return { name, channels: maps.reduce((sum, { channels }) => sum + channels, 0) };
  }

  /** Padding is "same" for stride 1. Where a weight has a bias, that is added. */
  conv(x: FeatureMap, layer: string, { stride = 1, output = layer } = {}): FeatureMap {
    const [channels, inputs, side] = this.#weight(`${layer}.weight`) as [number, number, number];
    let weight = `${layer}.weight`;
    if (inputs > x.channels) {
      // Where branches do not share, the second half of a kernel's channels has nothing to read.
      const [start, end, axis] = [
        this.#constant('slice_start', [0]),
        this.#constant(`slice_end_${x.channels}`, [x.channels]),
        this.#constant('slice_axis', [1]),
      ];
      weight = this.node('Slice', [weight, start, end, axis], `${layer}.weight.own`);
    }
    const bias = `${layer}.bias`;
    const hasBias = this.#parameters.has(bias);
    if (hasBias) this.#weight(bias);
    const padding = side >> 1;
    this.node('Conv', [x.name, weight, ...(hasBias ? [bias] : [])], output, {
      kernel_shape: [side, side],
      strides: [stride, stride],
      pads: [padding, padding, padding, padding],
    });
    return { name: output, channels };
  }

  convNorm(x: FeatureMap, conv: string, norm: string, stride = 1): FeatureMap {
    const y = this.conv(x, conv, { stride });
    const fields = ['weight', 'bias', 'running_mean', 'running_var'].map((field) => `${norm}.${field}`);
    for (const field of fields) this.#weight(field);
    return {
      name: this.node('BatchNormalization', [y.name, ...fields], norm, { epsilon: batchNormEpsilon }),
      channels: y.channels,
    };
  }

  /** Bilinear with half-pixel centres, no corner alignment and no antialiasing. */
  resize(x: FeatureMap, [height, width]: Size, output: string): FeatureMap {
    const sizes = this.#sizes([x.channels, height, width]);
    this.node('Resize', [x.name, '', '', sizes], output, {
      mode: 'linear',
      coordinate_transformation_mode: 'half_pixel',
    });
    return { name: output, channels: x.channels };
  }

  /** The name of all four sizes of a map. */
  #sizes(sizes: readonly number[]): string {
    const name = `sizes_${sizes.join('x')}`;
    if (this.#batch !== undefined) return this.#constant(name, [this.#batch, ...sizes]);
    const known = (output: string) => this.nodes.some((node) => node.output === output);
    if (!known('batch')) this.node('Shape', [this.#input], 'batch', { start: 0, end: 1 });
    const rest = this.#constant(`${name}.rest`, sizes);
    return known(name) ? name : this.node('Concat', ['batch', rest], name, { axis: 0 });
  }
}

/** A ResNet without its classifier: c5, c4, c3, c2, by the branch's names for them. */
function backbone(
  graph: GraphBuilder,
  branch: 'global' | 'local',
  x: FeatureMap,
  config: ModelConfig,
): Levels<FeatureMap> {
  const { block, blocks } = backbones[config.backbone];
  const prefix = `resnet_${branch}`;
  const stem = graph.relu(graph.convNorm(x, `${prefix}.conv1`, `${prefix}.bn1`, 2), `${prefix}.relu`);
  graph.node('MaxPool', [stem.name], `${prefix}.maxpool`, {
    kernel_shape: [3, 3],
    strides: [2, 2],
    pads: [1, 1, 1, 1],
  });
  let y: FeatureMap = { name: `${prefix}.maxpool`, channels: stem.channels };
  const maps = blocks.map((count, stage) => {
    for (let i = 0; i < count; i++) {
      const name = `${prefix}.layer${stage + 1}.${i}`;
      const stride = stage > 0 && i === 0 ? 2 : 1;
      const strides = block === 'basic' ? [stride, 1] : [1, stride, 1];
      const shortcut = graph.has(`${name}.downsample.0`)
        ? graph.convNorm(y, `${name}.downsample.0`, `${name}.downsample.1`, stride)
        : y;
      for (const [k, s] of strides.entries()) {
        if (k > 0) y = graph.relu(y, `${name}.relu${k}`);
        y = graph.convNorm(y, `${name}.conv${k + 1}`, `${name}.bn${k + 1}`, s);
      }
      const output = i === count - 1 ? mapName(branch, 'c', 3 - stage) : `${name}.relu${strides.length}`;
      y = graph.relu(graph.add(y, shortcut, `${name}.sum`), output);
    }
    return y;
  });
  return maps.reverse() as unknown as Levels<FeatureMap>;
}

/** The other branch's map for a stage and level, if it is taken in there. */
type Share = (stage: Stage, level: number) => FeatureMap | undefined;

/** The pyramid, up to what the classifiers read: [N, 4 · smooth, side/4, side/4]. */
function pyramid(
  graph: GraphBuilder,
  branch: 'global' | 'local',
  c: Levels<FeatureMap>,
  sides: Levels<number>,
  share: Share,
): FeatureMap {
  const prefix = `fpn_${branch}`;
  const size = (level: number): Size => [sides[level]!, sides[level]!];
  /** A map and the other branch's, which is resized to this branch's size. */
  const sources = (x: FeatureMap, stage: Stage, level: number): FeatureMap[] => {
    const other = share(stage, level);
    return other ? [x, graph.resize(other, size(level), `${other.name}.resized`)] : [x];
  };
  const join = (x: FeatureMap, stage: Stage, level: number): FeatureMap =>
    graph.concat(sources(x, stage, level), `${mapName(branch, stage, level)}.joined`);

  const ps0: FeatureMap[] = [];
  for (const [level, x] of c.entries()) {
    const output = mapName(branch, 'ps0', level);
    const layer = `${prefix}.${level === 0 ? 'toplayer' : `latlayer${level}`}`;
    const from = join(x, 'c', level);
    if (level === 0) {
      ps0.push(graph.conv(from, layer, { output }));
    } else {
      const above = graph.resize(ps0[level - 1]!, size(level), `${output}.above`);
      ps0.push(graph.add(graph.conv(from, layer), above, output));
    }
  }
  const smooth = (
    maps: readonly FeatureMap[],
    from: 'ps0' | 'ps1',
    to: 'ps1' | 'ps2',
    step: 1 | 2,
  ): FeatureMap[] =>
    maps.map((x, level) =>
      graph.conv(join(x, from, level), `${prefix}.smooth${level + 1}_${step}`, {
        output: mapName(branch, to, level),
      }),
    );
  const ps2 = smooth(smooth(ps0, 'ps0', 'ps1', 1), 'ps1', 'ps2', 2);
  const finest = ps2.flatMap((x, level) =>
    sources(x, 'ps2', level).map((map) =>
      level === 3 ? map : graph.resize(map, size(3), `${map.name}.finest`),
    ),
  );
  if (branch === 'global') return graph.concat(finest, 'global_ps3');
  return graph.conv(graph.concat(finest, 'local_ps2.joined'), `${prefix}.smooth`, { output: 'local_ps3' });
}

function finished(graph: GraphBuilder, name: string, inputs: OnnxValue[], outputs: OnnxValue[]): OnnxGraph {
  const { nodes, constants, weights } = graph;
  return { name, nodes, constants, weights, inputs, outputs };
}

/** Channels of a shared map. */
function sharedChannels(config: ModelConfig, stage: Stage, level: number): number {
  const { channels, smooth } = config.fpn;
  if (stage === 'c') return backboneChannels(config.backbone, config.width)[3 - level]!;
  return stage === 'ps2' ? smooth : channels;
}

/** The shared maps as inputs or outputs; `height` and `width` give the sizes of a level. */
function sharedValues(
  config: ModelConfig,
  batch: number | string,
  sizes: (level: number) => readonly [number | string, number | string],
): OnnxValue[] {
  const maps = sharedStages[config.sharing ?? 'deep'].flatMap((stage) =>
    levels.map((level) => ({
      name: mapName('global', stage, level),
      shape: [batch, sharedChannels(config, stage, level), ...sizes(level)],
    })),
  );
  return [...maps, { name: 'global_ps3', shape: [batch, 4 * config.fpn.smooth, ...sizes(3)] }];
}

/**
 * The global branch: `image` [N, 3, g, g] in [0, 1] to `logits` [N, K, g/4, g/4]; with `maps` also what the local
 * branch takes in, `global_c5` to `global_c2`, `global_ps0_5` … `global_ps2_2`, and `global_ps3`.
 */
export function globalGraph(config: ModelConfig, options: GraphOptions = {}): OnnxGraph {
  const batch = options.batch ?? 'N';
  const side = config.global;
  const sides = levelSides(side);
  const graph = new GraphBuilder(branchParameters(config, 'global'), 'image', options.batch);
  const c = backbone(graph, 'global', { name: 'image', channels: 3 }, config);
  const ps3 = pyramid(graph, 'global', c, sides, () => undefined);
  graph.conv(ps3, 'fpn_global.classify', { output: 'logits' });
  const logits = { name: 'logits', shape: [batch, config.classes.length, sides[3], sides[3]] };
  const maps = options.maps ? sharedValues(config, batch, (level) => [sides[level]!, sides[level]!]) : [];
  return finished(graph, 'global', [{ name: 'image', shape: [batch, 3, side, side] }], [logits, ...maps]);
}

/**
 * The local branch and the aggregation: `patches` [N, 3, p, p] in [0, 1], and the global branch's maps by the names of
 * {@link globalGraph}, cropped to each patch, of any size, to `ensemble` and `local` [N, K, p/4, p/4]. The crops'
 * resizes are in the graph.
 */
export function localGraph(config: ModelConfig, options: GraphOptions = {}): OnnxGraph {
  const batch = options.batch ?? 'N';
  const side = config.patch;
  const sides = levelSides(side);
  const shared = sharedStages[config.sharing ?? 'deep'];
  const graph = new GraphBuilder(expectedParameters(config, 'global-to-local'), 'patches', options.batch);
  const c = backbone(graph, 'local', { name: 'patches', channels: 3 }, config);
  const ps3 = pyramid(graph, 'local', c, sides, (stage, level) =>
    shared.includes(stage)
      ? { name: mapName('global', stage, level), channels: sharedChannels(config, stage, level) }
      : undefined,
  );
  graph.conv(ps3, 'fpn_local.classify', { output: 'local' });
  const globalPs3 = { name: 'global_ps3', channels: 4 * config.fpn.smooth };
  const resized = graph.resize(globalPs3, [sides[3], sides[3]], 'global_ps3.resized');
  graph.conv(graph.concat([ps3, resized], 'ps3.joined'), 'ensemble_conv', { output: 'ensemble' });
  const inputs = sharedValues(config, batch, (level) => [`height_${5 - level}`, `width_${5 - level}`]);
  const shape = [batch, config.classes.length, sides[3], sides[3]];
  return finished(
    graph,
    'global-to-local',
    [{ name: 'patches', shape: [batch, 3, side, side] }, ...inputs],
    [
      { name: 'ensemble', shape },
      { name: 'local', shape },
    ],
  );
}

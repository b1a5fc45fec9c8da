/** What a model file holds, for `info` and `import`. */
import type { ModelConfig } from '../checkpoint/model-file';
import { dtypeBytes, elementCount, type TensorInfo } from '../checkpoint/state-dict';
import { formatBytes } from './format';

export interface TensorSummary {
  tensors: number;
  /** Numbers in all tensors but running statistics and counters. */
  parameters: number;
  bytes: number;
  /** Element types, the most frequent first. */
  dtypes: string[];
}

export function summarize(tensors: ReadonlyMap<string, TensorInfo>): TensorSummary {
  let parameters = 0;
  let bytes = 0;
  const byType = new Map<string, number>();
  for (const [name, { dtype, shape }] of tensors) {
    const count = elementCount(shape);
    if (!/\.(running_mean|running_var|num_batches_tracked)$/.test(name)) parameters += count;
    bytes += count * dtypeBytes[dtype];
    byType.set(dtype, (byType.get(dtype) ?? 0) + 1);
  }
  const dtypes = [...byType].sort(([, a], [, b]) => b - a).map(([dtype]) => dtype);
  return { tensors: tensors.size, parameters, bytes, dtypes };
}

export function summaryRows(summary: TensorSummary): [string, string][] {
  const { tensors, parameters, bytes, dtypes } = summary;
  return [
    [
      'parameters',
      `${parameters.toLocaleString('en')} in ${tensors} tensors of ${dtypes.join(', ') || 'no type'}`,
    ],
    ['weights', formatBytes(bytes)],
  ];
}

export function modelRows(config: ModelConfig, summary: TensorSummary): [string, string][] {
  const { backbone, width, fpn, classes, patch, global, modes } = config;
  return [
    ['backbone', width === 1 ? backbone : `${backbone}, width ${width}`],
    ['pyramid', `${fpn.channels} channels, ${fpn.smooth} after smoothing`],
    ['classes', `${classes.length}: ${classes.map(({ name }) => name).join(', ')}`],
    ['modes', modes.join(', ')],
    ['patch', `${patch} px`],
    ['global image', `${global} px`],
    ...summaryRows(summary),
  ];
}

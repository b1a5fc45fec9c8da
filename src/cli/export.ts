/** `glnet export`: a network for other runtimes. */
import { stat } from 'node:fs/promises';
import type { OnnxValue } from '../checkpoint/onnx';
import { type ExportMode, exportOnnx } from '../inference/export';
import { formatBytes, formatTable } from './format';

export interface ExportArguments {
  onnx: string;
  weights: string;
  mode?: ExportMode;
  batch?: number;
  maps?: boolean;
}

/** @returns the exit code */
export async function exportModel({ onnx, weights, ...options }: ExportArguments): Promise<number> {
  const graph = await exportOnnx(weights, onnx, options);
  const { size } = await stat(onnx);
  const values = (title: string, list: readonly OnnxValue[]) =>
    list.map(({ name, shape }, i): [string, string] => [
      i === 0 ? title : '',
      `${name} [${shape.join(', ')}]`,
    ]);
  console.log(`exported ${weights}: ${graph.name}`);
  console.log(
    formatTable([
      ...values('inputs', graph.inputs),
      ...values('outputs', graph.outputs),
      ['nodes', `${graph.nodes.length}`],
      ['file', `${onnx}, ${formatBytes(size)}`],
    ]),
  );
  return 0;
}

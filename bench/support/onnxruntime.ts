/** onnxruntime as a peer, where onnxruntime-node is installed. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { exportOnnx } from '../../src/inference/export';

/**
 * Exports a model beside it and runs bench/peers/segment-onnx.ts on it, in a process of its own.
 * @returns what that prints as JSON; undefined, with a note to the user, where there is no onnxruntime-node
 */
export async function runOnnxRuntime<T>(weights: string, flags: readonly string[]): Promise<T | undefined> {
  try {
    require.resolve('onnxruntime-node');
  } catch {
    console.error(
      'bench: no figures of onnxruntime (npm install --no-save --ignore-scripts onnxruntime-node)',
    );
    return undefined;
  }
  const file = (mode: string) => path.join(path.dirname(weights), `${mode}.onnx`);
  await exportOnnx(weights, file('global'), { mode: 'global', maps: true, batch: 1 });
  await exportOnnx(weights, file('local'), { mode: 'global-to-local' });
  const { stdout, status } = spawnSync(
    process.execPath,
    [
      path.join(__dirname, '../../scripts/run-ts.js'),
      path.join(__dirname, '../peers/segment-onnx.ts'),
      `--global=${file('global')}`,
      `--local=${file('local')}`,
      ...flags,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  if (status !== 0) throw new Error(`onnxruntime's process ended with ${status}`);
  return JSON.parse(stdout.toString()) as T;
}

/** Exported graphs on onnxruntime against the package's own network, where onnxruntime-node is installed. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';

const root = path.join(__dirname, '../..');
const node = (...args: string[]) => spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' });
// Asked of another process: what is required in jest's realm has other typed arrays than onnxruntime.
const installed = node('-e', "require.resolve('onnxruntime-node')").status === 0;

(installed ? test : test.skip)('logits are within 1e-3 of their largest magnitude', () => {
  const { status, stdout, stderr } = node('scripts/run-ts.js', 'bench/peers/check-onnx.ts');
  console.log(stdout);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout.match(/, ok$/gm)).toHaveLength(12);
});

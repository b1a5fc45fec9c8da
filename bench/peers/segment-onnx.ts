/**
 * Seconds and memory of the segmentation of one image on onnxruntime, in a process of its own: as segment.py.
 *
 *   node scripts/run-ts.js bench/peers/segment-onnx.ts --global global.onnx --local local.onnx --image 2448 --threads 2
 *
 * From the pixels and the downsampled image to the logits of all patches: without loading of weights, and without the
 * labels' stitching. The image is random. Exit code 3: there is no onnxruntime-node.
 */
import { parseArgs } from 'node:util';
import { processPeakBytes } from '../../src/peak-memory';
import { patchGrid } from '../../src/tiling';
import { OnnxNetwork, type OnnxRuntime, type Planes, runWithOnnxRuntime } from './glnet-onnx';

const { values: options } = parseArgs({
  options: {
    global: { type: 'string', default: 'global.onnx' },
    local: { type: 'string', default: 'local.onnx' },
    image: { type: 'string', default: '2448' },
    patch: { type: 'string', default: '508' },
    /** More take as long for each, and more memory. */
    batch: { type: 'string', default: '1' },
    threads: { type: 'string', default: '2' },
  },
});

function randomImage(side: number): Planes {
  const data = new Float32Array(3 * side * side);
  for (let i = 0, state = 1; i < data.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    data[i] = (state >>> 8) / 2 ** 24;
  }
  return { data, channels: 3, height: side, width: side };
}

async function main(runtime: OnnxRuntime): Promise<void> {
  const { global, local } = options;
  const [side, patch, batch] = [Number(options.image), Number(options.patch), Number(options.batch)];
  const network = await OnnxNetwork.load(runtime, { global, local }, Number(options.threads));
  const [small, image] = [randomImage(patch), randomImage(side)];
  const start = performance.now();
  const { ensemble } = await network.predict(small, image, patchGrid(side, side, patch), batch);
  const seconds = (performance.now() - start) / 1000;
  if (!ensemble.every((logits) => logits.every(Number.isFinite))) throw new Error('a logit is not finite');
  const peakBytes = processPeakBytes();
  console.log(JSON.stringify({ onnxruntime: runtime.env.versions.common, seconds, peakBytes }));
}

runWithOnnxRuntime(main);

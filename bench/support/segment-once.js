'use strict';

/**
 * The process that bench/model.ts times: segments an image of random pixels, some times one after the other, and prints the
 * first report as JSON, with the seconds of the later ones in the middle. With the compiled package, since translating
 * TypeScript takes 75 MB.
 *
 *   node bench/support/segment-once.js '{ "weights": FILE, "size": 2448, "mode": ..., "precision": ..., "batch": 2,
 *     "threads": 2, "device": "cpu", "cudaGraphs": false, "images": 1 }'
 */
const { GLNet } = require('../../dist');

async function main() {
  const { weights, size, mode, batch, images, ...load } = JSON.parse(process.argv[2]);
  const data = new Uint8Array(size * size * 3);
  for (let i = 0, state = 1; i < data.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    data[i] = state >>> 24;
  }
  const model = await GLNet.load(weights, load);
  const reports = [];
  for (let i = 0; i < images; i++) {
    const { report } = await model.segment({ data, width: size, height: size, channels: 3 }, { mode, batch });
    reports.push(report);
  }
  const [{ description }] = model.devices;
  await model.dispose();
  const later = reports.slice(1).map(({ totalSeconds }) => totalSeconds);
  const warmSeconds = later.sort((a, b) => a - b)[later.length >> 1];
  console.log(JSON.stringify({ ...reports[0], device: description, warmSeconds }));
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});

'use strict';

/**
 * The process that bench/model.ts times: segments an image of random pixels once and prints the report as JSON. With
 * the compiled package, since translating TypeScript takes 75 MB.
 *
 *   node bench/support/segment-once.js '{ "weights": FILE, "size": 2448, "mode": ..., "precision": ..., "batch": 2, "threads": 2 }'
 */
const { GLNet } = require('../../dist');

async function main() {
  const { weights, size, mode, precision, batch, threads } = JSON.parse(process.argv[2]);
  const data = new Uint8Array(size * size * 3);
  for (let i = 0, state = 1; i < data.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    data[i] = state >>> 24;
  }
  const model = await GLNet.load(weights, { threads, precision });
  const { report } = await model.segment({ data, width: size, height: size, channels: 3 }, { mode, batch });
  await model.dispose();
  console.log(JSON.stringify(report));
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});

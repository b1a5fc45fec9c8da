/**
 * What exit.test.ts runs: a segmentation that ends, or is ended, in the way that the first argument names, on the
 * device that GLNET_TEST_DEVICE names.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import type { DeviceName } from '../../src/inference/devices';
import { GLNet } from '../../src/inference/glnet';

const [name, weights] = isMainThread ? process.argv.slice(2) : (workerData as [string, string]);

/** Starts a segmentation and resolves once patches are being computed. */
async function begin(size: number) {
  const device = (process.env.GLNET_TEST_DEVICE ?? 'cpu') as DeviceName;
  const model = await GLNet.load(weights!, { device, threads: 2 });
  const image = { data: new Uint8Array(size * size * 3).fill(90), width: size, height: size, channels: 3 };
  let started = () => {};
  const underway = new Promise<void>((resolve) => {
    started = resolve;
  });
  const done = model.segment(image, {
    mode: 'bidirectional',
    onProgress: ({ stage }) => stage === 'patches' && started(),
  });
  await Promise.race([underway, done]);
  return { model, done };
}

function startWorker(work: string): { worker: Worker; message: Promise<unknown>; exit: Promise<number> } {
  const worker = new Worker(path.join(__dirname, '../../scripts/run-ts.js'), {
    argv: [__filename],
    workerData: [work, weights],
  });
  const message = new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  return { worker, message, exit: new Promise((resolve) => worker.once('exit', resolve)) };
}

const say = () => console.log(`${name}: as planned`);

const works: Record<string, () => Promise<void>> = {
  async exit() {
    await begin(3000);
    say();
    process.exit(7);
  },
  async throw() {
    await begin(3000);
    setImmediate(() => {
      throw new Error('thrown in mid-job');
    });
  },
  async finish() {
    const { model, done } = await begin(200);
    await done;
    await model.dispose();
    say();
  },
  // Without dispose: the process must end by itself all the same.
  async 'leave-open'() {
    await (await begin(200)).done;
    say();
  },
  async 'worker-terminate'() {
    const { worker, message } = startWorker('in-worker');
    await message;
    await worker.terminate();
    // Threads of OpenMP's may still be ending in it.
    if (!readFileSync('/proc/self/maps', 'utf8').includes('glnet.node')) throw new Error('the addon is gone');
    const { done } = await begin(200);
    await done;
    say();
  },
  async 'worker-exit'() {
    const { message, exit } = startWorker('in-worker-exit');
    await message;
    await exit;
    say();
  },
  async workers() {
    const workers = [1, 2, 3].map(() => startWorker('in-worker-finish'));
    const { done } = await begin(300);
    const expected = Buffer.from((await done).labels).toString('base64');
    for (const { message, exit } of workers) {
      if ((await message) !== expected) throw new Error('a worker found other labels');
      await exit;
    }
    say();
  },
  async 'in-worker'() {
    await begin(3000);
    parentPort!.postMessage('underway');
  },
  async 'in-worker-exit'() {
    await begin(3000);
    parentPort!.postMessage('underway');
    process.exit(0);
  },
  async 'in-worker-finish'() {
    const { model, done } = await begin(300);
    parentPort!.postMessage(Buffer.from((await done).labels).toString('base64'));
    await model.dispose();
  },
};

works[name!]!().catch((error) => {
  console.error(error);
  process.exit(99);
});

/**
 * What a GPU would hold for one image: bytes of weights, of activations, and of staging buffers.
 *
 *   npm run bench -- bench/memory.ts [--size 2448] [--classes 7] [--backbone resnet50] [--out bench/results/memory.json]
 *
 * Patches one at a time are what a memory limit makes of it: a branch's weights go while another runs. Patches six at a time
 * are without a limit. Nothing is measured on a GPU, and nothing computed: the program runs as on CUDA, with its kernels' workspaces, on the
 * emulator's memory alone (GLNET_EMULATOR_DRY), and the pool is asked for its peak. It is the same on every GPU. Left
 * out are CUDA's context and the kernels' code. The library is built by: node scripts/native.js build emulator
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { allModes, type Mode, openModel, writeModel } from '../src/checkpoint/model-file';
import { formatTable } from '../src/cli/format';
import { randomWeights } from '../src/cli/self-test';
import { allPrecisions, NetworkStore, type Precision } from '../src/inference/networks';
import { outputsOf, predict } from '../src/inference/predict';
import { openRaster } from '../src/raster/raster';
import { Device } from '../src/tensor/device';
import { glnetConfig } from './support/config';

/** What the paper gives for GLNet on DeepGlobe, one patch at a time; it counts all that PyTorch held. */
const paper: Partial<Record<Mode, number>> = { 'global-to-local': 1865e6 };

const { values: options } = parseArgs({
  allowPositionals: true,
  options: {
    size: { type: 'string', default: '2448' },
    classes: { type: 'string', default: '7' },
    backbone: { type: 'string', default: 'resnet50' },
    out: { type: 'string' },
  },
});
const size = Number(options.size);

interface Plan {
  mode: Mode;
  precision: Precision;
  batch: number;
  /** Of weights what is left after the image. */
  weights: number;
  /** All else at the peak. */
  activations: number;
  /** On the device; as much again is pinned on the host. */
  staging: number;
  total: number;
  /** What the pool takes from the device, in segments. */
  reserved: number;
}

async function plan(model: string, mode: Mode, precision: Precision, batch: number): Promise<Plan> {
  const file = await openModel(model);
  // Any limit lets a branch's weights go while another runs; this one limits nothing else.
  const device = new Device({ kind: 'emulator', ...(batch === 1 && { memoryLimit: 2 ** 40 }) });
  const store = new NetworkStore(file, device, precision);
  try {
    const outputs = [outputsOf(mode)[0]!];
    const networks = await store.get(mode, outputs);
    const data = new Uint8Array(size * size * 3);
    // All weights are there from the second image on.
    for (let image = 0; image < 2; image++) {
      device.resetPeak();
      const { batch: used } = await predict(
        [networks],
        await openRaster({ data, width: size, height: size, channels: 3 }),
        {
          mode,
          outputs,
          patch: file.config.patch,
          globalSize: file.config.global,
          batch,
          flipRotate: false,
          onBand: () => {},
        },
      );
      if (used !== batch) throw new Error(`batch ${batch} did not fit`);
    }
    // Weights come when they are first wanted, and stay.
    const { active: weights, peak, reserved, staging } = device.memory();
    return {
      mode,
      precision,
      batch,
      weights,
      activations: peak - weights,
      staging,
      total: peak + staging,
      reserved,
    };
  } finally {
    await store.dispose();
    device.dispose();
    await file.close();
  }
}

async function main(): Promise<void> {
  process.env.GLNET_EMULATOR_DRY = '1';
  const folder = mkdtempSync(path.join(os.tmpdir(), 'glnet-memory-'));
  try {
    const weights = path.join(folder, 'model.safetensors');
    const config = glnetConfig(options.backbone, Number(options.classes));
    await writeModel(weights, config, randomWeights(config, 1));
    const plans: Plan[] = [];
    for (const mode of allModes) {
      for (const precision of allPrecisions) {
        // Without patches there are no batches of them.
        for (const batch of mode === 'global' ? [1] : [1, 6]) {
          plans.push(await plan(weights, mode, precision, batch));
        }
      }
    }
    const megabytes = (bytes: number) => `${Math.round(bytes / 1e6)} MB`.padStart(8);
    console.log(
      `${size}x${size}, ${options.backbone}, ${options.classes} classes; the paper's 1865 MB hold more`,
    );
    console.log(
      formatTable([
        [
          '',
          ['weights left', 'all else', 'staging', 'together', 'reserved']
            .map((title) => title.padStart(12))
            .join(''),
        ],
        ...plans.map(
          ({ mode, precision, batch, weights, activations, staging, total, reserved }) =>
            [
              `${mode}, ${precision}, batch ${batch}${batch === 1 ? ', limited' : ''}`,
              [weights, activations, staging, total, reserved]
                .map((bytes) => megabytes(bytes).padStart(12))
                .join(''),
            ] as const,
        ),
      ]),
    );
    if (options.out) {
      const settings = { size, backbone: options.backbone, classes: Number(options.classes), patch: 508 };
      writeFileSync(options.out, `${JSON.stringify({ settings, paper, plans }, undefined, 1)}\n`);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});

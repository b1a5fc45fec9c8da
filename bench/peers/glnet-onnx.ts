/** GLNet's mode global-to-local on onnxruntime: the two graphs of `glnet export`, and what is between them, written out plainly. */
import { cropOf, type PatchGrid, patchRect, type Rect } from '../../src/tiling';

/** As much of onnxruntime-node as is used here; it is no dependency. */
interface OnnxTensor {
  readonly data: Float32Array;
  readonly dims: readonly number[];
}
interface OnnxSession {
  readonly inputNames: readonly string[];
  run(feeds: Record<string, OnnxTensor>): Promise<Record<string, OnnxTensor>>;
}
export interface OnnxRuntime {
  readonly InferenceSession: {
    create(file: string, options: Record<string, unknown>): Promise<OnnxSession>;
  };
  readonly Tensor: new (type: 'float32', data: Float32Array, dims: readonly number[]) => OnnxTensor;
  readonly env: { readonly versions: { readonly common: string } };
}

/** undefined where it is not installed. */
function loadOnnxRuntime(): OnnxRuntime | undefined {
  try {
    return require('onnxruntime-node') as OnnxRuntime;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'MODULE_NOT_FOUND') return undefined;
    throw error;
  }
}

/** Runs a program that needs it. Exit code 1: an error; 3: it is not installed. */
export function runWithOnnxRuntime(main: (runtime: OnnxRuntime) => Promise<void>): void {
  const runtime = loadOnnxRuntime();
  if (!runtime) {
    console.error('there is no onnxruntime-node: npm install --no-save --ignore-scripts onnxruntime-node');
    process.exitCode = 3;
    return;
  }
  main(runtime).catch((error) => {
    console.error(error);
    process.exitCode = 1;
  });
}

/** An image or a map: [1, channels, height, width]. */
export interface Planes {
  readonly data: Float32Array;
  readonly channels: number;
  readonly height: number;
  readonly width: number;
}

/** Rectangles of one size, cut out and put one after the other: [N, channels, height, width]. */
function cut(
  runtime: OnnxRuntime,
  { data, channels, height, width }: Planes,
  rects: readonly Rect[],
): OnnxTensor {
  const [first] = rects as readonly [Rect];
  const cut = new Float32Array(rects.length * channels * first.height * first.width);
  let to = 0;
  for (const { top, left } of rects) {
    for (let channel = 0; channel < channels; channel++) {
      for (let row = 0; row < first.height; row++) {
        const from = (channel * height + top + row) * width + left;
        cut.set(data.subarray(from, from + first.width), to);
        to += first.width;
      }
    }
  }
  return new runtime.Tensor('float32', cut, [rects.length, channels, first.height, first.width]);
}

export class OnnxNetwork {
  readonly #runtime: OnnxRuntime;
  readonly #global: OnnxSession;
  readonly #local: OnnxSession;

  /** @param files of the modes, `global` with its maps */
  static async load(
    runtime: OnnxRuntime,
    files: { global: string; local: string },
    threads: number,
  ): Promise<OnnxNetwork> {
    const open = (file: string) =>
      runtime.InferenceSession.create(file, { intraOpNumThreads: threads, interOpNumThreads: 1 });
    return new OnnxNetwork(runtime, await open(files.global), await open(files.local));
  }

  private constructor(runtime: OnnxRuntime, global: OnnxSession, local: OnnxSession) {
    this.#runtime = runtime;
    this.#global = global;
    this.#local = local;
  }

  /**
   * Logits of the global branch, and of each batch of patches those of the ensemble and of the local branch.
   * @param small the downsampled image
   */
  async predict(
    small: Planes,
    image: Planes,
    grid: PatchGrid,
    batch: number,
  ): Promise<{ global: Float32Array; ensemble: Float32Array[]; local: Float32Array[] }> {
    const whole: Rect = { top: 0, left: 0, height: small.height, width: small.width };
    const { logits, ...maps } = await this.#global.run({ image: cut(this.#runtime, small, [whole]) });
    const ensemble: Float32Array[] = [];
    const local: Float32Array[] = [];
    for (let start = 0; start < grid.count; start += batch) {
      const patches = Array.from({ length: Math.min(batch, grid.count - start) }, (_, i) => start + i);
      const rects = patches.map((patch) => patchRect(grid, patch));
      const feeds: Record<string, OnnxTensor> = { patches: cut(this.#runtime, image, rects) };
      for (const name of this.#local.inputNames) {
        const map = maps[name];
        if (!map) continue;
        const [, channels, height, width] = map.dims as [number, number, number, number];
        const crops = patches.map((patch) => cropOf(grid, patch, width, height));
        feeds[name] = cut(this.#runtime, { data: map.data, channels, height, width }, crops);
      }
      const outputs = await this.#local.run(feeds);
      ensemble.push(outputs.ensemble!.data);
      local.push(outputs.local!.data);
    }
    return { global: logits!.data, ensemble, local };
  }
}

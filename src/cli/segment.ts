/** `glnet segment`: masks of images, a batch at a time. */
import { access } from 'node:fs/promises';
import path from 'node:path';
import { PassThrough } from 'node:stream';
import type { GlnetError, GlnetErrorCode } from '../errors';
import type { Refinement } from '../inference/coarse-to-fine';
import { GLNet, type LoadOptions, type SegmentOptions, type SegmentReport } from '../inference/glnet';
import { outputsOf, type TimedStage, timedStages } from '../inference/predict';
import { processPeakBytes } from '../peak-memory';
import type { Colour } from '../raster/png';
import { openRaster, type Raster } from '../raster/raster';
import { writeGrayPng, writeIndexPng, writeOverlay } from '../raster/write';
import {
  errorInfo,
  formatBytes,
  formatError,
  formatPercent,
  formatRate,
  formatSeconds,
  formatTable,
  plural,
} from './format';
import { filesOf, findInputs, type Job, makeFolder, planJobs, writeText } from './inputs';
import { catchInterrupts } from './interrupt';
import { createProgress, type ImageProgress } from './progress';

/** As the command line gives them; see main.ts for what they mean. */
export interface SegmentArguments
  extends LoadOptions,
    Pick<SegmentOptions, 'mode' | 'margin' | 'output' | 'patch' | 'globalSize' | 'batch' | 'flipRotate'> {
  weights: string;
  out: string;
  recursive?: boolean;
  resume?: boolean;
  overlay?: boolean;
  confidence?: boolean;
  bands?: [number, number, number];
  stretch?: [number, number];
  maxPixels?: number;
  json?: boolean;
  profile?: string;
}

/** What became of an image, as `--json` prints it. */
type ImageReport = {
  path: string;
  width?: number;
  height?: number;
  /** Files written. */
  output?: string;
  overlay?: string;
  confidence?: string;
  /** With --resume: they were there already. */
  skipped?: true;
  seconds?: SegmentReport['seconds'];
  totalSeconds?: number;
  patches?: number;
  refinement?: Refinement;
  patchesPerSecond?: number;
  batch?: number;
  devices?: string[];
  poolPeakBytes?: number;
  /** With a memory limit. */
  plannedPeakBytes?: number;
  error?: { code?: string; message: string };
};

/** Errors that every further image would meet as well. */
const fatalCodes: readonly GlnetErrorCode[] = ['ERR_INVALID_ARGUMENT', 'ERR_CHECKPOINT'];

/** @returns the exit code */
export async function segment(sources: readonly string[], options: SegmentArguments): Promise<number> {
  const started = performance.now();
  const { inputs, problems } = await findInputs(sources, {
    recursive: options.recursive ?? false,
    out: options.out,
  });
  const jobs = planJobs(inputs, options.out, {
    overlay: options.overlay ?? false,
    confidence: options.confidence ?? false,
  });
  const images: ImageReport[] = [];
  for (const { path, error } of problems) {
    console.error(formatError(error));
    images.push({ path, error: errorInfo(error) });
  }

  const todo: Job[] = [];
  for (const job of jobs) {
    if (options.resume && (await allExist(filesOf(job)))) {
      images.push({ path: job.path, ...filesOfReport(job), skipped: true });
    } else {
      todo.push(job);
    }
  }

  let fatal: unknown;
  /** Images at a time. */
  let lanes = 1;
  const progress = createProgress(process.stderr, todo.length);
  const interrupt = catchInterrupts(() => {
    progress.clear();
    console.error('glnet: stopping at the next patch batch; press Ctrl-C again to end at once');
  });
  try {
    if (todo.length > 0) {
      await makeFolder(options.out);
      if (options.profile !== undefined) await makeFolder(path.dirname(options.profile));
      await using model = await GLNet.load(options.weights, options);
      if (model.fallback !== undefined) console.error(`glnet: computing on the CPU. ${model.fallback}`);
      const stopProfile = options.profile === undefined ? undefined : model.startProfile();
      // A single image is spread over all devices; of several, each device takes one.
      lanes = Math.min(model.devices.length, todo.length);
      const devices = lanes > 1 ? 1 : model.devices.length;
      const next = todo.entries();
      const work = async () => {
        // All lanes take from one iterator.
        for (const [i, job] of next) {
          const view = progress.begin(i + 1, job.path);
          try {
            const report = await segmentImage(model, job, { ...options, devices }, view, interrupt.signal);
            images.push(report);
            progress.clear();
            if (!options.json) console.log(imageLine(report));
          } catch (error) {
            progress.clear();
            if ((error as GlnetError).code === 'ERR_ABORTED') return;
            images.push({ path: job.path, error: errorInfo(error) });
            if (fatalCodes.includes((error as GlnetError).code) || !model.usable) fatal ??= error;
            else console.error(formatError(withPath(job.path, error)));
          } finally {
            view.end();
          }
          if (interrupt.signal.aborted || fatal !== undefined) return;
        }
      };
      await Promise.all(Array.from({ length: lanes }, work));
      if (stopProfile) await writeText(options.profile!, `${JSON.stringify(stopProfile())}\n`);
    }
  } finally {
    progress.clear();
    interrupt.release();
  }

  const totals = sum(images, (performance.now() - started) / 1000, lanes);
  const aborted = interrupt.signal.aborted;
  if (options.json) {
    console.log(JSON.stringify({ images, totals: { ...totals, aborted } }, undefined, 2));
  } else {
    console.log(reportText(totals));
  }
  if (fatal !== undefined) throw fatal;
  const left = inputs.length - totals.done - totals.skipped;
  if (aborted && left > 0) {
    console.error(
      `glnet: stopped; ${plural(left, 'image')} not segmented, what is finished stays in ${options.out}. ` +
        'Run the same with --resume to go on',
    );
    return interrupt.exitCode!;
  }
  return totals.failed > 0 ? 1 : 0;
}

async function segmentImage(
  model: GLNet,
  job: Job,
  options: SegmentArguments & Pick<SegmentOptions, 'devices'>,
  progress: ImageProgress,
  signal: AbortSignal,
): Promise<ImageReport> {
  const { bands, stretch, maxPixels, margin, patch, globalSize, batch, devices, flipRotate } = options;
  const mode = options.mode ?? model.config.modes.at(-1)!;
  const output = options.output ?? outputsOf(mode)[0]!;
  const opening = performance.now();
  const raster = await openRaster(job.path, { bands, stretch, maxPixels });
  const openSeconds = (performance.now() - opening) / 1000;
  const writing = new AbortController();
  let sinks: Sink[] | undefined;
  try {
    const report = await model.segmentBands(
      raster,
      {
        mode,
        outputs: [output],
        ...(margin !== undefined && { margin }),
        ...(patch !== undefined && { patch }),
        ...(globalSize !== undefined && { globalSize }),
        ...(batch !== undefined && { batch }),
        ...(devices !== undefined && { devices }),
        ...(flipRotate !== undefined && { flipRotate }),
        signal,
        onProgress: (event) => progress.update(event),
      },
      async (_, band) => {
        sinks ??= await openSinks(job, raster, model, AbortSignal.any([signal, writing.signal]));
        await Promise.all(sinks.map((sink) => sink.send(band[sink.plane])));
      },
    );
    const flushing = performance.now();
    await Promise.all(sinks!.map((sink) => sink.end()));
    const flushSeconds = (performance.now() - flushing) / 1000;
    const { seconds, totalSeconds, patches, refinement, patchesPerSecond, poolPeakBytes, plannedPeakBytes } =
      report;
    return {
      path: job.path,
      width: raster.width,
      height: raster.height,
      ...filesOfReport(job),
      seconds: { ...seconds, read: seconds.read + openSeconds, write: seconds.write + flushSeconds },
      totalSeconds: totalSeconds + openSeconds + flushSeconds,
      patches,
      ...(refinement && { refinement }),
      patchesPerSecond,
      batch: report.batch,
      devices: report.devices,
      poolPeakBytes,
      ...(plannedPeakBytes !== undefined && { plannedPeakBytes }),
    };
  } catch (error) {
    // Writers that still wait for rows give up and remove what they began.
    writing.abort();
    for (const sink of sinks ?? []) sink.destroy(error as Error);
    await Promise.allSettled((sinks ?? []).map((sink) => sink.done));
    throw error;
  } finally {
    await raster.close();
  }
}

/** The writers of an image's files. They begin with the first rows, so that until then there is nothing to remove. */
async function openSinks(job: Job, raster: Raster, model: GLNet, signal: AbortSignal): Promise<Sink[]> {
  await makeFolder(path.dirname(job.mask));
  const palette: Colour[] = model.config.classes.map(({ color }) => color);
  const { overlay, confidence } = job;
  const sinks = [new Sink('labels', (rows) => writeIndexPng(job.mask, raster, rows, palette, { signal }))];
  if (confidence !== undefined) {
    sinks.push(new Sink('confidence', (rows) => writeGrayPng(confidence, raster, rows, { signal })));
  }
  if (overlay !== undefined) {
    sinks.push(new Sink('labels', (rows) => writeOverlay(overlay, raster, rows, palette, { signal })));
  }
  return sinks;
}

/** Hands rows, as they come, to a writer that asks for them; few wait between the two. */
class Sink {
  readonly #rows = new PassThrough({ objectMode: true, highWaterMark: 1 });
  /** Rejects with the writer's error. */
  readonly done: Promise<void>;

  constructor(
    readonly plane: 'labels' | 'confidence',
    write: (rows: AsyncIterable<Uint8Array>) => Promise<void>,
  ) {
    // Errors reach the caller through `done`.
    this.#rows.on('error', () => {});
    this.done = write(this.#rows);
    this.done.catch((error: Error) => this.#rows.destroy(error));
  }

  /** Resolves when there is room for more. */
  async send(rows: Uint8Array): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#rows.write(rows, (error) => (error ? reject(error) : resolve()));
    }).catch(async (error) => {
      await this.done;
      throw error;
    });
  }

  /** Resolves when the file is complete. */
  async end(): Promise<void> {
    this.#rows.end();
    await this.done;
  }

  destroy(error: Error): void {
    this.#rows.destroy(error);
  }
}

async function allExist(files: readonly string[]): Promise<boolean> {
  return (await Promise.allSettled(files.map((file) => access(file)))).every(
    ({ status }) => status === 'fulfilled',
  );
}

function filesOfReport({ mask, overlay, confidence }: Job): Partial<ImageReport> {
  return {
    output: mask,
    ...(overlay !== undefined && { overlay }),
    ...(confidence !== undefined && { confidence }),
  };
}

/** An error that names its image; most do already. */
function withPath(image: string, error: unknown): unknown {
  if (!(error instanceof Error) || error.message.includes(image)) return error;
  return Object.assign(new Error(`${image}: ${error.message}`), { stack: error.stack });
}

interface Totals {
  images: number;
  done: number;
  skipped: number;
  failed: number;
  seconds: Record<TimedStage, number>;
  totalSeconds: number;
  patches: number;
  patchesPerSecond: number;
  poolPeakBytes: number;
  processPeakBytes: number;
}

function sum(images: readonly ImageReport[], totalSeconds: number, lanes: number): Totals {
  const done = images.filter(({ seconds }) => seconds !== undefined);
  const seconds = Object.fromEntries(
    timedStages.map((stage) => [stage, done.reduce((total, image) => total + image.seconds![stage], 0)]),
  ) as Record<TimedStage, number>;
  const patches = done.reduce((total, image) => total + image.patches!, 0);
  return {
    images: images.length,
    done: done.length,
    skipped: images.filter(({ skipped }) => skipped).length,
    failed: images.filter(({ error }) => error !== undefined).length,
    seconds,
    totalSeconds,
    patches,
    // As in the reports of single images: a batch may run while the next window is read.
    patchesPerSecond: (patches * lanes) / (seconds.patches + seconds.read || 1),
    poolPeakBytes: Math.max(0, ...done.map(({ poolPeakBytes }) => poolPeakBytes!)),
    processPeakBytes: processPeakBytes(),
  };
}

function imageLine(report: ImageReport): string {
  const { path, output, width, height, totalSeconds, patches, refinement } = report;
  const work = patches! > 0 ? `${plural(patches!, 'patch')}, ` : '';
  const refined = refinement ? `${refinementText(refinement)}, ` : '';
  return `${path} -> ${output}  ${width}x${height}, ${work}${refined}${formatSeconds(totalSeconds!)}`;
}

function refinementText({ box, share, patches, allPatches }: Refinement): string {
  if (!box) return 'no foreground found, nothing refined';
  const saved = 1 - patches / allPatches;
  return `${formatPercent(share)} of the pixels refined, ${formatPercent(saved)} of the patches saved`;
}

function reportText(totals: Totals): string {
  const { done, skipped, failed, seconds, patches, patchesPerSecond, poolPeakBytes } = totals;
  const outcome = [
    `${plural(done, 'image')} segmented`,
    ...(skipped > 0 ? [`${skipped} skipped`] : []),
    ...(failed > 0 ? [`${failed} failed`] : []),
  ].join(', ');
  const rows: [string, string][] = [];
  if (done > 0) {
    const stages = timedStages.map((stage) => `${stage} ${formatSeconds(seconds[stage])}`);
    rows.push(['time by stage', stages.join(', ')]);
    if (patches > 0) rows.push(['patches', `${patches}, ${formatRate(patchesPerSecond)}`]);
    rows.push(['tensor pool', `${formatBytes(poolPeakBytes)} at most`]);
  }
  rows.push(['process', `${formatBytes(totals.processPeakBytes)} at most`]);
  return `${outcome} in ${formatSeconds(totals.totalSeconds)}\n${formatTable(rows)}`;
}

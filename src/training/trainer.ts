/** Training: the phases one after the other, each resumable, in a folder of its own. */
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import {
  allModes,
  type ClassInfo,
  configProblems,
  inheritance,
  type Mode,
  type ModelConfig,
  openModel,
  writeModel,
} from '../checkpoint/model-file';
import { openSafetensors, writeSafetensors } from '../checkpoint/safetensors';
import type { StateDict } from '../checkpoint/state-dict';
import { AbortError, checkAborted, GlnetError } from '../errors';
import { type CoarseToFine, foregroundBox, refinedBox } from '../inference/coarse-to-fine';
import { swapsSides, windowInTurned } from '../inference/turns';
import { ConfusionMatrix } from '../metrics/confusion';
import { expectedParameters } from '../models/parameters';
import { Optimiser, type Trained } from '../nn/optimisers';
import { Random } from '../nn/random';
import { Tape } from '../tensor/autograd';
import type { Device } from '../tensor/device';
import { sumOfSquares } from '../tensor/sum-of-squares';
import type { Tensor } from '../tensor/tensor';
import { boxGrid, type PatchGrid } from '../tiling';
import {
  learningRate,
  lengthOf,
  type PhaseConfig,
  phaseConfig,
  phaseProblems,
  type TrainConfig,
} from './config';
import { MetricsLog } from './metrics-log';
import { firstWeights, prerequisites, TrainingNetworks } from './networks';
import { type LossKind, PhaseStep, type Scene } from './phases';
import { type Best, checkState, loadState, restoreOptimiser, saveState } from './state';
import { EventWriter } from './tensorboard';

/** Where scenes come from. */
export interface TrainingData {
  /** Number of images. */
  readonly images: number;
  readonly classes: readonly ClassInfo[];
  /** The label that does not count. */
  readonly ignored: number;
  /** Batches of scenes from a step on; what a step gets depends on `seed` and its number alone. */
  batches(options: { seed: number; from: number; to: number; batch: number }): AsyncIterable<Scene[]>;
}

/** What an evaluation found. */
export interface Scores {
  /** Mean IoU by output; the phase's own first: it decides which weights are the best. */
  readonly mIoU: Readonly<Partial<Record<'global' | 'local' | 'ensemble', number>>>;
  /** IoU by class of the phase's own output. */
  readonly iou: readonly number[];
  readonly seconds: number;
  /** PNGs to look at, by name. */
  readonly pictures?: ReadonlyMap<string, Uint8Array> | undefined;
}

/** One step. */
export interface StepReport {
  readonly phase: Mode;
  /** Counted from 1. */
  readonly step: number;
  readonly steps: number;
  /** The sum of the kinds' means. */
  readonly loss: number;
  /** Mean over the terms of each kind. */
  readonly losses: Readonly<Partial<Record<LossKind, number>>>;
  /** Of the labels that the step saw, at a quarter of the resolution. */
  readonly mIoU: number;
  readonly rate: number;
  /** Norm of all gradients together, before clipping. */
  readonly gradientNorm: number;
  readonly scenes: number;
  readonly seconds: number;
  /** Of these seconds, those in which the computation waited for scenes. */
  readonly waited: number;
  /** The most bytes that tensors took so far. */
  readonly poolPeakBytes: number;
}

export interface TrainEvents {
  onPhase?(phase: Mode, steps: number, from: number): void;
  onPatches?(done: number): void;
  onStep?(report: StepReport): void;
  onEvaluation?(phase: Mode, step: number, scores: Scores, best: boolean): void;
  onPhaseEnd?(phase: Mode, step: number, best: Best | undefined, early: boolean): void;
}

export interface TrainOptions extends TrainEvents {
  /** The run's folder; made if need be. */
  readonly out: string;
  readonly config: TrainConfig;
  /** In the order of their training. */
  readonly phases: readonly Mode[];
  readonly device: Device;
  readonly data: TrainingData;
  /** Weights to begin with: of earlier phases, or of a phase that is to be trained further. */
  readonly weights?: StateDict | undefined;
  /** Where new backbones begin, by torchvision's names. */
  readonly pretrained?: StateDict | undefined;
  /** What data and weights the run rests on, by name: a run is gone on with only if they are the same. */
  readonly origin?: Readonly<Record<string, string>> | undefined;
  /** Go on with the run in `out`. */
  readonly resume?: boolean | undefined;
  /** Evaluates the networks as they are; without it the last weights are taken. */
  readonly evaluate?: ((networks: TrainingNetworks) => Promise<Scores>) | undefined;
  /** Stops the run after the step in progress, with its state saved; the promise then rejects with ERR_ABORTED. */
  readonly signal?: AbortSignal | undefined;
}

/** What a run's folder holds. */
export const runFiles = {
  config: 'config.json',
  /** The model with all phases that are finished. */
  model: 'model.safetensors',
  state: (phase: Mode) => `${phase}.state.safetensors`,
  best: (phase: Mode) => `${phase}.best.safetensors`,
  metrics: (phase: Mode) => `${phase}.metrics.jsonl`,
  events: 'tensorboard',
} as const;

/** The configuration of the model that a run trains. */
export function modelConfigOf(
  config: TrainConfig,
  classes: readonly ClassInfo[],
  modes: readonly Mode[],
): ModelConfig {
  const { sharing, ...model } = config.model;
  return { ...model, ...(sharing !== 'deep' && { sharing }), classes, modes };
}

/**
 * Trains the phases that are asked for.
 * @returns the path of the model file
 * @throws GlnetError ERR_INVALID_ARGUMENT, ERR_FILE before anything is computed; ERR_DIVERGED if a loss or a gradient
 *   is not finite, with step and layer; ERR_ABORTED once the signal is aborted, the state saved.
 */
export async function train(options: TrainOptions): Promise<string> {
  const { out, phases } = options;
  const weights: StateDict = new Map(options.weights ?? []);
  const finished = await readRun(options, weights);
  const pending = [...new Set(phases)].filter((phase) => !finished.has(phase));
  // Given weights of phases that rest on what is trained anew fit no longer.
  for (const mode of allModes) {
    if (phases.includes(mode) || !prerequisites[mode].some((phase) => phases.includes(phase))) continue;
    for (const name of [...weights.keys()]) if (name.startsWith(`${mode}.`)) weights.delete(name);
  }
  checkPhases(options, pending, weights);
  await beginRun(options);
  while (pending.length > 0) {
    const phase = pending.shift()!;
    // A branch that the run has trained comes before a copy of it that the phase's given weights have.
    const source = inheritance(modelConfigOf(options.config, options.data.classes, allModes), phase);
    if (source && phases.includes(source.from)) {
      for (const name of source.parameters.keys()) weights.delete(`${phase}.${name}`);
    }
    checkAborted(options.signal);
    const trained = await new PhaseRun(options, phase, weights).run();
    for (const [name, host] of trained) weights.set(`${phase}.${name}`, host);
    await writeRunModel(options, pending, weights);
    await rm(path.join(out, runFiles.state(phase)), { force: true });
    await rm(path.join(out, runFiles.best(phase)), { force: true });
  }
  return path.join(out, runFiles.model);
}

function hasPhase(weights: StateDict, phase: Mode): boolean {
  return [...weights.keys()].some((name) => name.startsWith(`${phase}.`));
}

/** What would stop a later phase stops the run before it begins. */
function checkPhases({ config, data }: TrainOptions, pending: readonly Mode[], weights: StateDict): void {
  const problems = configProblems(modelConfigOf(config, data.classes, ['global']));
  for (const [i, phase] of pending.entries()) {
    for (const earlier of prerequisites[phase]) {
      const given = !pending.includes(earlier) && hasPhase(weights, earlier);
      if (given || pending.slice(0, i).includes(earlier)) continue;
      problems.push(
        `phase ${phase} needs the weights of phase ${earlier}: train it first, or give weights that have it`,
      );
    }
    const own = phaseConfig(config, phase);
    problems.push(...phaseProblems(phase, own, lengthOf(own, data.images).steps, data.classes.length));
  }
  if (problems.length > 0) throw new GlnetError('ERR_INVALID_ARGUMENT', problems.join('\n'));
  const model = modelConfigOf(config, data.classes, allModes);
  for (const mode of allModes) {
    for (const [name, shape] of expectedParameters(model, mode)) {
      const given = weights.get(`${mode}.${name}`);
      if (!given || given.shape.join() === shape.join()) continue;
      throw new GlnetError(
        'ERR_INVALID_ARGUMENT',
        `the weights' ${mode}.${name} has the shape [${given.shape.join(', ')}]; expected [${shape.join(', ')}], as the ` +
          `configuration's model and the data's ${data.classes.length} classes have it; give weights of this architecture`,
      );
    }
  }
}

/** The model so far. What begins with given weights, or rests on what does, is part of it once that is trained. */
async function writeRunModel(
  { out, config, data }: TrainOptions,
  pending: readonly Mode[],
  weights: StateDict,
): Promise<void> {
  const modes = allModes.filter(
    (mode) =>
      hasPhase(weights, mode) && ![mode, ...prerequisites[mode]].some((phase) => pending.includes(phase)),
  );
  const tensors: StateDict = new Map(
    [...weights].filter(([name]) => modes.some((mode) => name.startsWith(`${mode}.`))),
  );
  await writeModel(path.join(out, runFiles.model), modelConfigOf(config, data.classes, modes), tensors);
}

/** What `config.json` of a run holds. */
function runSettings({ config, data, origin }: TrainOptions): string {
  return `${JSON.stringify({ ...config, classes: data.classes.map(({ name }) => name), ...origin }, null, 2)}\n`;
}

/** Reads the weights of the phases that the run in the folder has finished; none if there is no run. */
async function readRun(options: TrainOptions, weights: StateDict): Promise<Set<Mode>> {
  const { out, resume, phases } = options;
  const file = path.join(out, runFiles.config);
  const model = path.join(out, runFiles.model);
  const finished = new Set<Mode>();
  if (existsSync(file)) {
    if (!resume) {
      throw new GlnetError(
        'ERR_INVALID_ARGUMENT',
        `${out}: there is a training run already; go on with it (--resume), or choose another folder`,
      );
    }
    const before = await readFile(file, 'utf8');
    const text = runSettings(options);
    if (before !== text) {
      throw new GlnetError(
        'ERR_INVALID_ARGUMENT',
        `${file}: the run was begun with other settings, data or weights (${differences(before, text)}); give the same, or choose another folder`,
      );
    }
    // What a write that was cut short left.
    for (const name of await readdir(out)) if (name.endsWith('.tmp')) await rm(path.join(out, name));
    if (existsSync(model)) {
      const stored = await openModel(model);
      try {
        for (const name of stored.tensors.keys()) weights.set(name, await stored.read(name));
        // A phase with a state file has not returned yet.
        for (const phase of phases) {
          const own = stored.config.modes.includes(phase);
          if (own && !existsSync(path.join(out, runFiles.state(phase)))) finished.add(phase);
        }
      } finally {
        await stored.close();
      }
    }
  } else if (existsSync(model)) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `${model}: there is a model of another origin, which the run would overwrite; choose another folder`,
    );
  }
  return finished;
}

/** Makes the run's folder, if there is none. */
async function beginRun(options: TrainOptions): Promise<void> {
  const { out } = options;
  const file = path.join(out, runFiles.config);
  if (existsSync(file)) return;
  try {
    await mkdir(out, { recursive: true });
    await writeFile(`${file}.tmp`, runSettings(options));
    await rename(`${file}.tmp`, file);
  } catch (cause) {
    throw new GlnetError(
      'ERR_FILE',
      `${out}: this folder can't be written (${(cause as NodeJS.ErrnoException).code}); choose another one`,
      { cause },
    );
  }
}

/** The top-level fields in which two configurations differ. */
function differences(before: string, now: string): string {
  try {
    const a = JSON.parse(before) as Record<string, unknown>;
    const b = JSON.parse(now) as Record<string, unknown>;
    const keys = [...new Set([...Object.keys(a), ...Object.keys(b)])];
    return keys.filter((key) => JSON.stringify(a[key]) !== JSON.stringify(b[key])).join(', ');
  } catch {
    return 'its configuration is damaged';
  }
}

/** One phase of a run. */
class PhaseRun {
  readonly #options: TrainOptions;
  readonly #phase: Mode;
  readonly #weights: StateDict;
  readonly #config: PhaseConfig;
  readonly #steps: number;
  readonly #evaluateEvery: number;
  #step = 0;
  #best: Best | undefined;
  #stale = 0;

  constructor(options: TrainOptions, phase: Mode, weights: StateDict) {
    this.#options = options;
    this.#phase = phase;
    this.#weights = weights;
    this.#config = phaseConfig(options.config, phase);
    const { steps, epoch } = lengthOf(this.#config, options.data.images);
    this.#steps = steps;
    this.#evaluateEvery = this.#config.evaluateEvery ?? epoch;
  }

  /** @returns the best weights, or without evaluation the last, by the reference's names */
  async run(): Promise<StateDict> {
    const { config, device, data, resume, pretrained } = this.#options;
    const statePath = this.#file(runFiles.state(this.#phase));
    const state = resume && existsSync(statePath) ? await loadState(statePath) : undefined;
    if (state) {
      const { step, best, stale } = state.position;
      this.#step = step;
      this.#best = best;
      this.#stale = stale;
    }
    const model = modelConfigOf(config, data.classes, [this.#phase]);
    if (state) checkState(statePath, state, this.#phase, model);
    const own =
      state?.parameters ?? firstWeights(model, this.#phase, this.#weights, this.#seed('weights'), pretrained);
    const networks = await TrainingNetworks.create(device, model, this.#phase, own, this.#weights);
    const resumeAt = state && { resumeAt: this.#step };
    const log = new MetricsLog(this.#file(runFiles.metrics(this.#phase)), resumeAt);
    const events = new EventWriter(path.join(this.#file(runFiles.events), this.#phase), resumeAt);
    const tape = new Tape(device, { checkpointing: this.#config.checkpointing });
    const trained = trainedOf(networks, tape);
    const optimiser = new Optimiser(this.#config.optimiser, device, trained);
    try {
      if (state) restoreOptimiser(optimiser, networks, state);
      this.#options.onPhase?.(this.#phase, this.#steps, this.#step);
      const early = await this.#loop(networks, tape, trained, optimiser, log, events);
      this.#options.onPhaseEnd?.(this.#phase, this.#step, this.#best, early);
      return this.#best ? await this.#readBest() : await networks.state();
    } finally {
      log.close();
      events.close();
      tape.clear();
      for (const { gradient } of trained) gradient.take()?.dispose();
      optimiser.dispose();
      networks.dispose();
    }
  }

  /** @returns whether it ended before its last step */
  async #loop(
    networks: TrainingNetworks,
    tape: Tape,
    trained: readonly Trained[],
    optimiser: Optimiser,
    log: MetricsLog,
    events: EventWriter,
  ): Promise<boolean> {
    const { data, device, signal } = this.#options;
    const { saveEvery, patience } = this.#config;
    const save = (): Promise<void> =>
      saveState(
        this.#file(runFiles.state(this.#phase)),
        {
          phase: this.#phase,
          step: this.#step,
          best: this.#best,
          stale: this.#stale,
        },
        networks,
        optimiser,
      );
    const early = (): boolean => patience !== undefined && this.#stale >= patience;
    if (this.#step >= this.#steps || early()) return early();

    const classWeights = this.#classWeights();
    const step = this.#phaseStep(networks, tape, classWeights);
    const batches = data.batches({
      seed: this.#seed('scenes'),
      from: this.#step,
      to: this.#steps,
      batch: this.#config.batch,
    });
    try {
      let clock = performance.now();
      for await (const scenes of batches) {
        const waited = (performance.now() - clock) / 1000;
        const report = await this.#oneStep(step, scenes, trained, optimiser, clock, waited);
        this.#step += 1;
        writeStep(report, log, events);
        this.#options.onStep?.(report);

        const last = this.#step === this.#steps;
        const evaluates =
          this.#options.evaluate &&
          (last || (this.#evaluateEvery > 0 && this.#step % this.#evaluateEvery === 0));
        if (evaluates) await this.#evaluate(networks, log, events);
        if (last || early()) {
          await save();
          return early();
        }
        if (evaluates || signal?.aborted || this.#step % saveEvery === 0) await save();
        if (signal?.aborted) throw new AbortError(undefined, { cause: signal.reason });
        clock = performance.now();
      }
      throw new GlnetError('ERR_INVALID_ARGUMENT', 'the training data ended before the last step');
    } finally {
      classWeights?.dispose();
      await device.synchronize();
    }
  }

  async #oneStep(
    step: PhaseStep,
    scenes: readonly Scene[],
    trained: readonly Trained[],
    optimiser: Optimiser,
    start: number,
    waited: number,
  ): Promise<StepReport> {
    const { device, data } = this.#options;
    const { clip } = this.#config;
    const computed = await step.accumulate(scenes);
    const confusion = new ConfusionMatrix(data.classes.length);
    const sums: Partial<Record<LossKind, { sum: number; count: number }>> = {};
    for (const { kind, value, predicted, truth } of computed) {
      const [number] = (await value.data()) as Float32Array;
      value.dispose();
      sums[kind] ??= { sum: 0, count: 0 };
      const entry = sums[kind];
      entry.sum += number!;
      entry.count += 1;
      if (predicted) {
        confusion.add((await predicted.data()) as Uint8Array, truth!);
        predicted.dispose();
      }
    }
    const losses = Object.fromEntries(
      Object.entries(sums).map(([kind, { sum, count }]) => [kind, sum / count]),
    );
    const loss = Object.values(losses).reduce((total, mean) => total + mean, 0);
    const norms = await gradientNorms(trained);
    const gradientNorm = Math.hypot(...norms.values());
    if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) {
      await this.#diverged(step, scenes, loss, norms);
    }
    const rate = learningRate(this.#config, this.#step, this.#steps);
    const scale = clip !== undefined && gradientNorm > clip ? clip / gradientNorm : 1;
    optimiser.step(rate, scale);
    await device.synchronize();
    return {
      phase: this.#phase,
      step: this.#step + 1,
      steps: this.#steps,
      loss,
      losses,
      mIoU: meanIouOfSeen(confusion),
      rate,
      gradientNorm,
      scenes: scenes.length,
      seconds: (performance.now() - start) / 1000,
      waited,
      poolPeakBytes: device.memory().peak,
    };
  }

  /** Says where the first value that is not finite comes from. */
  async #diverged(
    step: PhaseStep,
    scenes: readonly Scene[],
    loss: number,
    norms: ReadonlyMap<string, number>,
  ): Promise<never> {
    const layer = Number.isFinite(loss) ? undefined : await step.firstNotFinite(scenes);
    const wrong = [...norms].filter(([, norm]) => !Number.isFinite(norm)).map(([name]) => name);
    const where = Number.isFinite(loss)
      ? `the gradient of ${wrong.at(-1)} is not finite` +
        (wrong.length > 1 ? `, and ${wrong.length - 1} others are not` : '')
      : layer
        ? `the loss is ${loss}; the first layer whose output is not finite is ${layer}`
        : `the loss is ${loss}, though the outputs of all layers are finite`;
    const files = scenes.map(({ id }) => id).join(', ');
    throw new GlnetError(
      'ERR_DIVERGED',
      `phase ${this.#phase}, step ${this.#step + 1}: ${where} (scenes: ${files}). ` +
        'Lower the learning rate, clip the gradient ("clip": 1), or look at these images; the state of the last save is kept',
    );
  }

  async #evaluate(networks: TrainingNetworks, log: MetricsLog, events: EventWriter): Promise<void> {
    const scores = await this.#options.evaluate!(networks);
    const [score = 0] = Object.values(scores.mIoU);
    const better = !this.#best || score > this.#best.score;
    if (better) {
      this.#best = { step: this.#step, score };
      await writeSafetensors(this.#file(runFiles.best(this.#phase)), await networks.state());
    }
    this.#stale = better ? 0 : this.#stale + 1;
    log.append({ step: this.#step, evaluation: { mIoU: scores.mIoU, iou: scores.iou } });
    events.scalars(
      this.#step,
      Object.fromEntries(Object.entries(scores.mIoU).map(([output, value]) => [`mIoU/${output}`, value])),
    );
    for (const [name, png] of scores.pictures ?? []) events.image(this.#step, `prediction/${name}`, png);
    this.#options.onEvaluation?.(this.#phase, this.#step, scores, better);
  }

  async #readBest(): Promise<StateDict> {
    const file = await openSafetensors(this.#file(runFiles.best(this.#phase)));
    try {
      const tensors: StateDict = new Map();
      for (const name of file.tensors.keys()) tensors.set(name, await file.read(name));
      return tensors;
    } finally {
      await file.close();
    }
  }

  #phaseStep(networks: TrainingNetworks, tape: Tape, classWeights: Tensor | undefined): PhaseStep {
    const { config, data, onPatches } = this.#options;
    const { patchBatch, losses, lambda, terms, patchesPerScene } = this.#config;
    const choosePatches = (scene: Scene, grid: PatchGrid): readonly number[] => {
      const all = Array.from({ length: grid.count }, (_, i) => i);
      if (patchesPerScene === undefined || patchesPerScene >= grid.count) return all;
      // Depends on the step and the image alone.
      const random = new Random(this.#seed(`patches ${this.#step} ${scene.id}`));
      random.shuffle(all);
      return all.slice(0, patchesPerScene).sort((a, b) => a - b);
    };
    return new PhaseStep(networks, tape, {
      patch: config.model.patch,
      globalSize: config.model.global,
      patchBatch,
      losses,
      ignored: data.ignored,
      classWeights,
      lambda,
      terms,
      choosePatches,
      layPatches: config.coarseToFine && ((scene) => this.#refinedGrid(scene, config.coarseToFine!)),
      onPatches,
    });
  }

  /** Patches over the box of the labelled foreground only. */
  #refinedGrid({ labels, width, height, turn }: Scene, coarseToFine: CoarseToFine): PatchGrid | undefined {
    const found = foregroundBox(labels, width, height, this.#options.data.ignored);
    if (!found) return undefined;
    const size = [width, height] as const;
    const box = windowInTurned(turn, width, height, refinedBox(found, size, size, coarseToFine));
    const { patch } = this.#options.config.model;
    return swapsSides(turn) ? boxGrid(height, width, patch, box) : boxGrid(width, height, patch, box);
  }

  #classWeights(): Tensor | undefined {
    const { classWeights } = this.#config;
    const { device } = this.#options;
    if (!classWeights) return undefined;
    return device.upload(Float32Array.from(classWeights), [classWeights.length], 'float32');
  }

  #file(name: string): string {
    return path.join(this.#options.out, name);
  }

  /** A seed of its own for each use in each phase. */
  #seed(use: string): number {
    let hash = 0x811c9dc5;
    for (const byte of Buffer.from(`${this.#options.config.seed} ${this.#phase} ${use}`)) {
      hash = Math.imul(hash ^ byte, 0x01000193);
    }
    return hash >>> 0;
  }
}

/** Parameters that get gradients: all but running statistics. */
export function trainedOf({ trained }: TrainingNetworks, tape: Tape): Trained[] {
  return Array.from(trained)
    .filter(([name]) => !name.includes('.running_'))
    .map(([name, tensor]) => ({ name, tensor, gradient: tape.watch(tensor) }));
}

/** The norm of each parameter's gradient, of those that have one. */
export async function gradientNorms(trained: readonly Trained[]): Promise<Map<string, number>> {
  const present = trained.filter(({ gradient }) => gradient.value);
  if (present.length === 0) return new Map();
  using sums = sumOfSquares(present.map(({ gradient }) => gradient.value!));
  const squares = (await sums.data()) as Float32Array;
  return new Map(present.map(({ name }, i) => [name, Math.sqrt(squares[i]!)]));
}

/** Mean IoU of the classes that occur in labels or truth. */
function meanIouOfSeen(confusion: ConfusionMatrix): number {
  const { classes, counts } = confusion;
  const absent: number[] = [];
  for (let i = 0; i < classes; i++) {
    let seen = 0;
    for (let j = 0; j < classes; j++) seen += counts[i * classes + j]! + counts[j * classes + i]!;
    if (seen === 0) absent.push(i);
  }
  return confusion.meanIou(absent);
}

function writeStep(report: StepReport, log: MetricsLog, events: EventWriter): void {
  const { step, loss, losses, mIoU, rate, gradientNorm, scenes, seconds, waited, poolPeakBytes } = report;
  log.append({ step, loss, losses, mIoU, rate, gradientNorm, seconds, waited, poolPeakBytes });
  events.scalars(step, {
    'loss/total': loss,
    ...Object.fromEntries(Object.entries(losses).map(([kind, value]) => [`loss/${kind}`, value])),
    'training/mIoU': mIoU,
    'training/learning rate': rate,
    'training/gradient norm': gradientNorm,
    'speed/images per second': scenes / seconds,
    'speed/seconds waited for data': waited,
    'memory/peak MB': poolPeakBytes / 1e6,
  });
}

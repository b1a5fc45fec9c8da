/** The metrics of a training run as JSON lines. */
import { GlnetError } from '../errors';
import { AppendFile, checkStep } from './append-file';

/** A line: numbers, texts and lists of them by name. Numbers that are not finite are written as null. */
export interface MetricsEntry {
  /** The optimiser's step that it belongs to, a whole number that never falls from line to line. */
  readonly step: number;
  readonly [name: string]: unknown;
}

export interface MetricsLogOptions {
  /**
   * Goes on with the file of a run that stopped: its lines up to this step stay, those after it, which the resumed run
   * writes again, are cut off. Without it the file is begun anew.
   */
  resumeAt?: number;
}

/**
 * A file of JSON lines, an object for each step or evaluation. A line is with the system when {@link append} returns; after a
 * resume the file is what it would be without the stop.
 */
export class MetricsLog {
  readonly #file: AppendFile;
  #lastStep = 0;

  /**
   * @throws GlnetError ERR_FILE if the file cannot be written, or, on resume, holds something else;
   *   ERR_INVALID_ARGUMENT if `resumeAt` is no step.
   */
  constructor(path: string, { resumeAt }: MetricsLogOptions = {}) {
    if (resumeAt !== undefined) checkStep(path, 'resumeAt', resumeAt);
    this.#file = new AppendFile(path, resumeAt === undefined ? 'empty' : 'keep');
    if (resumeAt === undefined) return;
    try {
      const kept = linesUpTo(path, this.#file.read(), resumeAt);
      this.#lastStep = kept.lastStep;
      this.#file.truncate(kept.bytes);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  get path(): string {
    return this.#file.path;
  }

  /** @throws GlnetError ERR_INVALID_ARGUMENT if the step falls; ERR_FILE; ERR_DISPOSED after {@link close}. */
  append(entry: MetricsEntry): void {
    checkStep(this.path, 'step', entry.step);
    if (entry.step < this.#lastStep) {
      throw new GlnetError(
        'ERR_INVALID_ARGUMENT',
        `${this.path}: step is ${entry.step}; expected at least ${this.#lastStep}, that of the line before`,
      );
    }
    this.#file.append(`${JSON.stringify(entry)}\n`);
    this.#lastStep = entry.step;
  }

  /** Idempotent. */
  close(): void {
    this.#file.close();
  }
}

/** Length of the lines before the first one of a later step, and the step of the last of them. */
function linesUpTo(path: string, text: Buffer, step: number): { bytes: number; lastStep: number } {
  let bytes = 0;
  let lastStep = 0;
  for (let line = 1; ; line++) {
    const end = text.indexOf('\n', bytes);
    // What follows the last line's end was being written when the process was killed.
    if (end < 0) return { bytes, lastStep };
    const found = stepOf(text.toString('utf8', bytes, end));
    if (found === undefined) {
      throw new GlnetError(
        'ERR_FILE',
        `${path}: line ${line} is no JSON object with a step; expected the metrics of the run that is resumed: ` +
          'restore that file, or move this one away',
      );
    }
    if (found > step) return { bytes, lastStep };
    lastStep = found;
    bytes = end + 1;
  }
}

function stepOf(line: string): number | undefined {
  try {
    const { step } = JSON.parse(line) as { step?: unknown };
    return typeof step === 'number' ? step : undefined;
  } catch {
    return undefined;
  }
}

/** Progress of a batch of images: a bar on a terminal, a line now and then elsewhere. */
import { SingleBar } from 'cli-progress';
import type { Progress } from '../inference/predict';
import { formatClock, formatRate } from './format';

export interface ProgressView {
  /** An image begins; `index` counts from 1. */
  begin(index: number, name: string): void;
  update(progress: Progress): void;
  /** Takes the bar away, so that lines can be printed. */
  clear(): void;
}

/** Between two lines where there is no terminal. */
const lineMilliseconds = 5000;
const nameLength = 32;
const barLength = 24;

const titles: Readonly<Partial<Record<Progress['stage'], string>>> = {
  read: 'reading rows',
  patches: 'patches',
  stitch: 'writing rows',
};

/** How far the stage is and how fast: `patches 12/36  3.1/s  0:08 left`. */
export class Pace {
  #stage: string | undefined;
  #stageStart: number;
  #last: number;

  constructor(private readonly now: () => number = () => performance.now()) {
    this.#stageStart = this.#last = now();
  }

  describe({ stage, done, total }: Progress): string {
    const now = this.now();
    if (stage !== this.#stage) {
      // The stage has been running since the one before ended.
      this.#stage = stage;
      this.#stageStart = this.#last;
    }
    this.#last = now;
    const text = `${titles[stage] ?? stage} ${done}/${total}`;
    const rate = done / ((now - this.#stageStart) / 1000);
    if (stage !== 'patches' || !Number.isFinite(rate) || rate === 0) return text;
    return `${text}  ${formatRate(rate)}  ${formatClock((total - done) / rate)} left`;
  }
}

export function createProgress(stream: NodeJS.WriteStream, images: number): ProgressView {
  return stream.isTTY ? new BarView(stream, images) : new LineView(stream, images);
}

class LineView implements ProgressView {
  #title = '';
  #pace = new Pace();
  #printed = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly stream: NodeJS.WritableStream,
    private readonly images: number,
  ) {}

  begin(index: number, name: string): void {
    this.#title = `[${index}/${this.images}] ${name}`;
    this.#pace = new Pace();
  }

  update(progress: Progress): void {
    const text = this.#pace.describe(progress);
    const now = performance.now();
    if (now - this.#printed < lineMilliseconds) return;
    this.#printed = now;
    this.stream.write(`${this.#title}: ${text}\n`);
  }

  clear(): void {}
}

class BarView implements ProgressView {
  readonly #bar: SingleBar;
  #title = '';
  #pace = new Pace();

  constructor(
    stream: NodeJS.WritableStream,
    private readonly images: number,
  ) {
    this.#bar = new SingleBar({
      stream,
      clearOnComplete: true,
      hideCursor: true,
      gracefulExit: false,
      emptyOnZero: true,
      format: (_, { progress }, { title, text }: { title: string; text: string }) => {
        const filled = Math.round(Math.min(1, progress) * barLength);
        return `${title} ${'█'.repeat(filled)}${'░'.repeat(barLength - filled)} ${text}`;
      },
    });
  }

  begin(index: number, name: string): void {
    const short = name.length > nameLength ? `…${name.slice(1 - nameLength)}` : name;
    this.#title = `[${index}/${this.images}] ${short}`;
    this.#pace = new Pace();
    this.#bar.start(1, 0, { title: this.#title, text: 'opening' });
  }

  update(progress: Progress): void {
    this.#bar.setTotal(progress.total);
    this.#bar.update(progress.done, { title: this.#title, text: this.#pace.describe(progress) });
  }

  clear(): void {
    this.#bar.stop();
  }
}

/** Progress of a batch of images: a bar on a terminal, a line now and then elsewhere. */
import { SingleBar } from 'cli-progress';
import type { Progress } from '../inference/predict';
import { formatClock, formatRate } from './format';

export interface ProgressView {
  /** An image begins; `index` counts from 1. Of several at once, the oldest is shown. */
  begin(index: number, name: string): ImageProgress;
  /** Takes the bar away, so that lines can be printed. */
  clear(): void;
}

export interface ImageProgress {
  update(progress: Progress): void;
  end(): void;
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
  return new View(createDisplay(stream), images);
}

/** Where progress is shown. */
export interface Display {
  shorten(name: string): string;
  show(title: string, text: string, done: number, total: number): void;
  /** Takes the bar away, so that lines can be printed. */
  clear(): void;
}

export function createDisplay(stream: NodeJS.WriteStream): Display {
  return stream.isTTY ? new BarDisplay(stream) : new LineDisplay(stream);
}

class View implements ProgressView {
  readonly #display: Display;
  readonly #images: number;
  readonly #running: ImageProgress[] = [];

  constructor(display: Display, images: number) {
    this.#display = display;
    this.#images = images;
  }

  begin(index: number, name: string): ImageProgress {
    const title = `[${index}/${this.#images}] ${this.#display.shorten(name)}`;
    const pace = new Pace();
    const image: ImageProgress = {
      update: (progress) => {
        const text = pace.describe(progress);
        if (this.#running[0] === image) this.#display.show(title, text, progress.done, progress.total);
      },
      end: () => {
        this.#running.splice(this.#running.indexOf(image), 1);
      },
    };
    this.#running.push(image);
    image.update({ stage: 'read', done: 0, total: 1 });
    return image;
  }

  clear(): void {
    this.#display.clear();
  }
}

class LineDisplay implements Display {
  #printed = Number.NEGATIVE_INFINITY;

  constructor(private readonly stream: NodeJS.WritableStream) {}

  shorten(name: string): string {
    return name;
  }

  show(title: string, text: string, done: number): void {
    const now = performance.now();
    // That something begins is no news on a line.
    if (done === 0 || now - this.#printed < lineMilliseconds) return;
    this.#printed = now;
    this.stream.write(`${title}: ${text}\n`);
  }

  clear(): void {}
}

class BarDisplay implements Display {
  readonly #bar: SingleBar;

  constructor(stream: NodeJS.WritableStream) {
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

  shorten(name: string): string {
    return name.length > nameLength ? `…${name.slice(1 - nameLength)}` : name;
  }

  show(title: string, text: string, done: number, total: number): void {
    if (!this.#bar.isActive) this.#bar.start(total, done, { title, text });
    this.#bar.setTotal(total);
    this.#bar.update(done, { title, text });
  }

  clear(): void {
    this.#bar.stop();
  }
}

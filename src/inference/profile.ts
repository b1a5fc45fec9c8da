/** What ran and when, in the trace format of Chrome's profiler (chrome://tracing, Perfetto). */
import type { Device, TraceEvent } from '../tensor/device';

interface CompleteEvent {
  readonly ph: 'X';
  readonly name: string;
  readonly cat: 'stage' | 'op';
  /** Microseconds since the profile began. */
  readonly ts: number;
  readonly dur: number;
  readonly pid: 1;
  readonly tid: number;
  readonly args?: Readonly<Record<string, string | number>>;
}

interface NameEvent {
  readonly ph: 'M';
  readonly name: 'thread_name';
  readonly pid: 1;
  readonly tid: number;
  readonly args: { readonly name: string };
}

/** Ready for JSON.stringify. */
export interface ChromeTrace {
  readonly displayTimeUnit: 'ms';
  readonly traceEvents: readonly (CompleteEvent | NameEvent)[];
}

/** The clock of the devices' traces, in seconds. */
function monotonic(): number {
  return Number(process.hrtime.bigint()) / 1e9;
}

/** Records the ops of devices, and the stages that the work around them goes through, each in a row of its own. */
export class Profile {
  readonly #devices: readonly Device[];
  readonly #start = monotonic();
  readonly #stages: CompleteEvent[] = [];

  constructor(devices: readonly Device[]) {
    this.#devices = devices;
    for (const device of devices) device.startTrace();
  }

  /** @param seconds that the stage took until now */
  addStage(name: string, seconds: number): void {
    const end = monotonic();
    this.#stages.push({ ph: 'X', name, cat: 'stage', ...this.#span(end - seconds, end), pid: 1, tid: 0 });
  }

  /** Stops recording. */
  stop(): ChromeTrace {
    const rows = ['stages', ...this.#devices.map(({ name }) => name)];
    return {
      displayTimeUnit: 'ms',
      traceEvents: [
        ...rows.map(
          (name, tid): NameEvent => ({ ph: 'M', name: 'thread_name', pid: 1, tid, args: { name } }),
        ),
        ...this.#stages,
        ...this.#devices.flatMap((device, i) => device.stopTrace().map((event) => this.#op(event, i + 1))),
      ],
    };
  }

  #op({ op, shapes, begin, end, multiplyAdds }: TraceEvent, tid: number): CompleteEvent {
    const gflops = Math.round((2e-9 * multiplyAdds) / (end - begin));
    const args: Record<string, string | number> =
      multiplyAdds > 0 ? { shapes, multiplyAdds, gflops } : { shapes };
    return { ph: 'X', name: op, cat: 'op', ...this.#span(begin, end), pid: 1, tid, args };
  }

  #span(begin: number, end: number): { ts: number; dur: number } {
    const microseconds = (seconds: number) => Math.round(seconds * 1e9) / 1e3;
    return { ts: microseconds(begin - this.#start), dur: microseconds(end - begin) };
  }
}

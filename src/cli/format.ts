/** Numbers and errors as people read them. */
import { GlnetError } from '../errors';

const byteUnits = ['B', 'kB', 'MB', 'GB', 'TB'];

/** Three digits and a decimal unit: `1.87 GB`. */
export function formatBytes(bytes: number): string {
  let unit = 0;
  let value = bytes;
  while (value >= 999.5 && unit < byteUnits.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toPrecision(3)} ${byteUnits[unit]}`;
}

/** `0.42 s`, `12.3 s`, and from two minutes on `2:05 min` or `1:02:05 h`. */
export function formatSeconds(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  if (seconds < 119.5) return `${seconds.toFixed(1)} s`;
  return `${formatClock(seconds)} ${seconds < 3599.5 ? 'min' : 'h'}`;
}

/** `0:42`, `2:05`, `1:02:05`. */
export function formatClock(seconds: number): string {
  const whole = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const padded = (value: number) => String(value).padStart(2, '0');
  return hours > 0 ? `${hours}:${padded(minutes)}:${padded(rest)}` : `${minutes}:${padded(rest)}`;
}

/** `3.14/s`, in three digits as far as there are. */
export function formatRate(perSecond: number): string {
  return `${perSecond >= 100 ? Math.round(perSecond) : Number(perSecond.toPrecision(3))}/s`;
}

/** `12.3 %` of a share. */
export function formatPercent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

/** `1 image`, `3 images`. */
export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : noun.endsWith('ch') ? 'es' : 's'}`;
}

/** Lines of labels and values, the values in one column. */
export function formatTable(rows: readonly (readonly [label: string, value: string])[]): string {
  const width = Math.max(...rows.map(([label]) => label.length));
  return rows.map(([label, value]) => `  ${label.padEnd(width)}  ${value}`).join('\n');
}

/** Lines of cells in columns: the first `left` columns flush left, the others flush right. */
export function formatColumns(rows: readonly (readonly string[])[], left = 1): string {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  return rows
    .map((row) => row.map((cell, i) => (i < left ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))))
    .map((cells) => `  ${cells.join('  ')}`.trimEnd())
    .join('\n');
}

/** `glnet: <message>`; with GLNET_DEBUG=1 also where it came from. */
export function formatError(error: unknown): string {
  const { message, stack } = error instanceof Error ? error : new Error(String(error));
  return process.env.GLNET_DEBUG === '1' && stack ? `glnet: ${stack}` : `glnet: ${message}`;
}

/** Exit code of an error that ends a command: 2 if the command was called wrongly, else 1. */
export function exitCodeOf(error: unknown): number {
  return error instanceof GlnetError && error.code === 'ERR_INVALID_ARGUMENT' ? 2 : 1;
}

/** An error as JSON reports hold it. */
export function errorInfo(error: unknown): { code?: string; message: string } {
  const { code, message } = error as { code?: string; message: string };
  return { ...(code !== undefined && { code }), message };
}

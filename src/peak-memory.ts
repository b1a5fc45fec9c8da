import { readFileSync } from 'node:fs';

/**
 * Most memory that this process had resident, in bytes. Linux counts in `resourceUsage().maxRSS` what the parent had
 * when it started the process: its own peak is in /proc.
 */
export function processPeakBytes(): number {
  return ownPeakBytes() ?? process.resourceUsage().maxRSS * 1024;
}

function ownPeakBytes(): number | undefined {
  try {
    const peak = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'latin1'));
    return peak ? Number(peak[1]) * 1024 : undefined;
  } catch {
    return undefined; // not Linux
  }
}

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { processPeakBytes } from '../../src/peak-memory';

/** Far more than a process needs that does nothing. */
const MUCH = 400 << 20;

describe('processPeakBytes', () => {
  it('counts what the process had', () => {
    const block = Buffer.alloc(MUCH, 1);
    expect(processPeakBytes()).toBeGreaterThanOrEqual(block.length);
  });

  (process.platform === 'linux' ? it : it.skip)('does not count what the parent had', () => {
    const block = Buffer.alloc(MUCH, 1);
    const folder = mkdtempSync(path.join(os.tmpdir(), 'glnet-peak-'));
    try {
      const program = path.join(folder, 'child.ts');
      const module = path.resolve(__dirname, '../../src/peak-memory.ts');
      writeFileSync(program, `console.log(require(${JSON.stringify(module)}).processPeakBytes());`);
      const runTs = path.resolve(__dirname, '../../scripts/run-ts.js');
      const { stdout } = spawnSync(process.execPath, [runTs, program], { encoding: 'utf8' });
      expect(Number(stdout)).toBeGreaterThan(1 << 20);
      expect(Number(stdout)).toBeLessThan(block.length);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

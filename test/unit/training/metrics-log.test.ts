import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { MetricsLog } from '../../../src/training/metrics-log';

const folder = mkdtempSync(path.join(tmpdir(), 'glnet-metrics-log-'));
const file = path.join(folder, 'metrics.jsonl');
afterAll(() => rmSync(folder, { recursive: true }));

const step = (n: number) => ({ step: n, loss: 1 / (n + 1), rate: 5e-5 });
const evaluation = (n: number) => ({ step: n, mIoU: n / 10, IoU: [0.5, n / 10] });

/** Steps from `from` to `to`, with an evaluation after every second one. */
function run(log: MetricsLog, from: number, to: number): void {
  for (let n = from; n <= to; n++) {
    log.append(step(n));
    if (n % 2 === 0) log.append(evaluation(n));
  }
}

beforeEach(() => {
  const log = new MetricsLog(file);
  run(log, 1, 6);
  log.close();
});

test('an object a line, there at once', () => {
  const log = new MetricsLog(file);
  log.append(step(1));
  expect(readFileSync(file, 'utf8')).toBe('{"step":1,"loss":0.5,"rate":0.00005}\n');
  log.append({ step: 1, loss: Number.NaN });
  expect(readFileSync(file, 'utf8').split('\n')[1]).toBe('{"step":1,"loss":null}');
  log.close();
});

test.each([0, 1, 2, 3, 6])(
  'resumed at step %i, the file becomes that of a run without a stop',
  (resumeAt) => {
    const whole = readFileSync(file);
    const log = new MetricsLog(file, { resumeAt });
    const kept = readFileSync(file, 'utf8').trimEnd().split('\n');
    if (resumeAt > 0) expect(JSON.parse(kept.at(-1)!).step).toBe(resumeAt);
    run(log, resumeAt + 1, 6);
    log.close();
    expect(readFileSync(file)).toEqual(whole);
  },
);

test('a line that a kill cut short is dropped', () => {
  const whole = readFileSync(file);
  appendFileSync(file, '{"step":7,"lo');
  new MetricsLog(file, { resumeAt: 6 }).close();
  expect(readFileSync(file)).toEqual(whole);
  appendFileSync(file, '{"step":7}');
  new MetricsLog(file, { resumeAt: 9 }).close();
  expect(readFileSync(file)).toEqual(whole);
});

test('a resumed run may find no file', () => {
  rmSync(file);
  const log = new MetricsLog(file, { resumeAt: 3 });
  log.append(step(4));
  log.close();
  expect(readFileSync(file, 'utf8')).toBe(`${JSON.stringify(step(4))}\n`);
});

test.each(['no JSON', '[1]', 'null', '{"loss":1}', '{"step":"2"}'])(
  'a file with %s in it is left as it is',
  (line) => {
    const text = `{"step":1}\n${line}\n{"step":3}\n`;
    writeFileSync(file, text);
    expect(() => new MetricsLog(file, { resumeAt: 2 })).toThrow(
      /metrics\.jsonl: line 2 is no JSON object with a step/,
    );
    expect(readFileSync(file, 'utf8')).toBe(text);
  },
);

test('wrong arguments are refused by their values', () => {
  const log = new MetricsLog(file, { resumeAt: 4 });
  expect(() => log.append(step(3))).toThrow(/step is 3; expected at least 4/);
  expect(() => log.append(step(4.5))).toThrow(/step is 4\.5; expected a whole number from 0/);
  log.close();
  log.close();
  expect(() => log.append(step(5))).toThrow(expect.objectContaining({ code: 'ERR_DISPOSED' }));
  expect(() => new MetricsLog(file, { resumeAt: -1 })).toThrow(
    /resumeAt is -1; expected a whole number from 0/,
  );
  const nowhere = path.join(folder, 'none', 'metrics.jsonl');
  expect(() => new MetricsLog(nowhere)).toThrow(expect.objectContaining({ code: 'ERR_FILE' }));
  expect(() => new MetricsLog(nowhere)).toThrow(/none\/metrics\.jsonl: can't be written \(ENOENT\)/);
});

/**
 * Draws what bench/model.ts found, seconds and memory beside those of its peers: the picture in the README.
 *
 *   npm run bench -- bench/chart.ts [bench/results/model.json] [docs/figures.png]
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { type Bar, barChart, renderCharts } from '../src/cli/chart';
import { formatBytes, formatSeconds } from '../src/cli/format';

interface Result {
  readonly mode: string;
  readonly precision: string;
  readonly seconds: number;
  readonly median: { readonly processPeakBytes: number };
  /** PyTorch. */
  readonly peer?: Peer;
  readonly onnxruntime?: Peer;
}

interface Peer {
  readonly seconds: number;
  readonly peakBytes: number;
}

const ours = [68, 119, 170] as const;
const theirs = [187, 187, 187] as const;

/** A bar for each result, and one of each peer for each mode. */
function bars(
  results: readonly Result[],
  figure: (result: Result) => number,
  peerFigure: (peer: Peer) => number,
  format: (value: number) => string,
): Bar[] {
  return results.flatMap((result, i) => {
    const { mode, precision, peer, onnxruntime } = result;
    const bar = (label: string, value: number, color: Bar['color']): Bar => ({
      label,
      value,
      note: format(value),
      color,
    });
    const last = results[i + 1]?.mode !== mode;
    return [
      bar(`${mode}, ${precision}`, figure(result), ours),
      ...Object.entries({ PyTorch: peer, onnxruntime }).flatMap(([name, each]) =>
        last && each ? [bar(`${mode}, ${name}`, peerFigure(each), theirs)] : [],
      ),
    ];
  });
}

async function main(): Promise<void> {
  const [from = 'bench/results/model.json', to = 'docs/figures.png'] = process.argv.slice(2);
  const { results, settings, machine } = JSON.parse(readFileSync(from, 'utf8')) as {
    results: Result[];
    settings: { size: number; backbone: string };
    machine: { cpu: string; cores: number };
  };
  const what = `${settings.size}x${settings.size}, ${settings.backbone}, ${machine.cores} cores of ${machine.cpu}`;
  const seconds = bars(
    results,
    (result) => result.seconds,
    (peer) => peer.seconds,
    formatSeconds,
  );
  const memory = bars(
    results,
    ({ median }) => median.processPeakBytes,
    (peer) => peer.peakBytes,
    formatBytes,
  );
  writeFileSync(
    to,
    await renderCharts([barChart(`Seconds: ${what}`, seconds), barChart('Memory of the process', memory)]),
  );
  console.log(`${to} is written`);
}

main().catch((error: Error) => {
  console.error(`chart: ${error.message}`);
  process.exitCode = 1;
});

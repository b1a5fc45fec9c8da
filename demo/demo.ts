/**
 * Segments a real image, NASA's Blue Marble, compares the result with independent labels, and the figures with those that
 * the weights reached after their training: npm run demo
 *
 * The weights were trained by experiments/blue-marble on the columns 0 to 2729 of the image; here are the others.
 */
import { mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { GLNet, type Mode, type Output, openRaster } from '../src';
import { formatBytes, formatSeconds } from '../src/cli/format';
import { ConfusionMatrix } from '../src/metrics/confusion';
import { readIndexMask } from '../src/raster/index-mask';
import { writeIndexPng, writeOverlay } from '../src/raster/write';

interface Figures {
  mIoU: number;
  IoU: number[];
}
type Expected = Record<Mode, Record<Output, Figures>> & { 'test columns': [first: number, last: number] };

/** Of an IoU, against the recorded figures: machines may sum in another order. */
const tolerance = 0.001;
const outputs: Record<Mode, Output[]> = {
  global: ['global'],
  'global-to-local': ['global', 'local', 'ensemble'],
  bidirectional: ['global', 'local', 'ensemble'],
};
const out = path.join(__dirname, '../out/demo');

async function demo(): Promise<boolean> {
  const started = performance.now();
  const expected: Expected = JSON.parse(readFileSync(path.join(__dirname, 'blue-marble-small.json'), 'utf8'));
  const [first, last] = expected['test columns'];
  const width = last - first + 1;

  // The package's entry point is an ES module, which require.resolve finds all the same.
  const threeGlobe = path.join(path.dirname(require.resolve('three-globe')), '..');
  const whole = await openRaster(path.join(threeGlobe, 'example/img/earth-blue-marble.jpg'));
  const { height } = whole;
  const data = await whole.readWindow({ left: first, top: 0, width, height });
  await whole.close();
  const raster = await openRaster({ data, width, height, channels: 3 });

  const mask = await readIndexMask(path.join(__dirname, 'blue-marble-labels.png'));
  const truth = new Uint8Array(width * height);
  for (let row = 0; row < height; row++) {
    const from = row * mask.width + first;
    truth.set(mask.labels.subarray(from, from + width), row * width);
  }

  await using model = await GLNet.load(path.join(__dirname, 'blue-marble-small.safetensors'));
  const { classes } = model.config;
  const names = classes.map(({ name }) => name);
  console.log(
    `Blue Marble, columns ${first} to ${last}: ${width}x${height} pixels. IoU (expected, difference):\n`,
  );
  const titles = ['mode', 'output', ...names, 'mean'];
  console.log(row(titles));

  let agrees = true;
  const labels = new Uint8Array(width * height);
  let totalSeconds = 0;
  for (const mode of model.config.modes) {
    const matrices = new Map(outputs[mode].map((output) => [output, new ConfusionMatrix(classes.length)]));
    const report = await model.segmentBands(raster, { mode, outputs: outputs[mode] }, (output, band) => {
      const from = band.row * width;
      matrices.get(output)!.add(band.labels, truth.subarray(from, from + band.labels.length));
      // The last one that comes is that of the bidirectional ensemble.
      labels.set(band.labels, from);
    });
    totalSeconds += report.totalSeconds;
    for (const [output, matrix] of matrices) {
      const { IoU, mIoU } = expected[mode][output];
      const found = [...matrix.iou(), matrix.meanIou()];
      const cells = [...IoU, mIoU].map((figure, i) => {
        const difference = found[i]! - figure;
        if (!(Math.abs(difference) <= tolerance)) agrees = false;
        return `${found[i]!.toFixed(4)} (${figure.toFixed(4)}, ${difference < 0 ? '' : '+'}${difference.toFixed(4)})`;
      });
      console.log(row([mode, output, ...cells]));
    }
  }

  mkdirSync(out, { recursive: true });
  const palette = classes.map(({ color }) => color);
  const files = ['blue-marble.png', 'blue-marble.overlay.jpg'].map((name) => path.join(out, name));
  await writeIndexPng(files[0]!, raster, labels, palette);
  await writeOverlay(files[1]!, raster, labels, palette);
  await raster.close();

  console.log(
    `\n${agrees ? 'All figures agree' : 'FAILS: figures differ'} (tolerance ${tolerance}).\n` +
      `${formatSeconds(totalSeconds)} for the ${model.config.modes.length} modes, ` +
      `${formatSeconds((performance.now() - started) / 1000)} in all; tensors took ${formatBytes(model.devices[0]!.memory.peak)} at most, ` +
      `the process ${formatBytes(process.resourceUsage().maxRSS * 1024)}.\n` +
      `The bidirectional ensemble's mask and preview:\n${files.map((file) => `  ${path.relative('', file)}`).join('\n')}`,
  );
  return agrees;
}

function row([mode, output, ...cells]: string[]): string {
  return `${mode!.padEnd(16)} ${output!.padEnd(9)} ${cells.map((cell) => cell.padEnd(25)).join(' ')}`.trimEnd();
}

demo().then(
  (agrees) => {
    process.exitCode = agrees ? 0 : 1;
  },
  (error: Error) => {
    console.error(`demo: ${process.env.GLNET_DEBUG === '1' ? error.stack : error.message}`);
    process.exitCode = 1;
  },
);

/** `glnet data`: is a data set sound, and what is in it. What a command does is loaded when it is called. */
import { SingleBar } from 'cli-progress';
import { Command, Option } from 'commander';
import { type DatasetFormat, datasetFormats } from '../datasets/classes';
import type { DatasetStats, Spread } from '../datasets/stats';
import { formatError, formatSeconds, formatTable, plural } from './format';
import { catchInterrupts } from './interrupt';

interface DataArguments {
  format?: DatasetFormat;
  description?: string;
  json?: boolean;
}

interface StatsArguments extends DataArguments {
  out?: string;
}

/** Between two lines of progress where there is no terminal. */
const lineMilliseconds = 5000;

export function dataCommand(): Command {
  const data = new Command('data')
    .summary('check and describe data sets')
    .description('Checks and describes data sets: folders of images and masks.');
  withDataset(data.command('check'))
    .summary('find everything that is wrong before a training')
    .description(
      'Reads every file of a data set and names all that is wrong: missing images or masks, sizes that differ, labels\n' +
        'that are no class, files that can’t be read to their end, ids that come twice, empty or overlapping splits.\n' +
        'Nothing is written. Exit code 1 if anything is wrong.',
    )
    .addHelpText('after', layoutHelp('check'))
    .action(async (folder, options) => {
      process.exitCode = await check(folder, options);
    });
  withDataset(data.command('stats'))
    .summary('sizes and class frequencies')
    .description('Prints the sizes of the images, how often each class is, and the share of foreground.')
    .option('-o, --out <file>', 'also as a picture, a PNG')
    .addHelpText('after', layoutHelp('stats'))
    .action(async (folder, options) => {
      process.exitCode = await stats(folder, options);
    });
  return data;
}

function withDataset(command: Command): Command {
  return command
    .argument('<folder>', 'the data set')
    .addOption(
      new Option('--format <layout>', 'how the folder is laid out').choices(datasetFormats).default('auto'),
    )
    .option('--description <file>', 'a description kept elsewhere than in the folder’s dataset.json')
    .option('--json', 'a report as JSON on standard output, everything else on standard error');
}

function layoutHelp(command: string): string {
  return `
Layouts, at any depth of the folder:
  deepglobe  {id}_sat.jpg, {id}_mask.png
  inria      images/{id}.tif, gt/{id}.tif
  isic       ISIC_{id}.jpg, ISIC_{id}_segmentation.png
  folder     as its dataset.json says

Examples:
  glnet data ${command} deepglobe/
  glnet data ${command} photographs/ --description dataset.json --json > report.json`;
}

/** @returns the exit code */
async function check(folder: string, { json, ...options }: DataArguments): Promise<number> {
  const { openDataset } = require('../datasets/open') as typeof import('../datasets/open');
  const { checkDataset } = require('../datasets/check') as typeof import('../datasets/check');
  const started = performance.now();
  const dataset = await openDataset(folder, options);
  const { samples, problems } = await withProgress((scan) => checkDataset(dataset, scan));
  const seconds = (performance.now() - started) / 1000;
  const { name, root, classes, splits, splitSource, notes } = dataset;
  for (const { message } of problems) console.error(formatError(message));
  if (json) {
    const report = { name, root, samples, classes, splits, splitSource, notes, problems, seconds };
    console.log(JSON.stringify(report, undefined, 2));
  } else {
    const counts = Object.entries(splits).map(([split, ids]) => `${ids.length} ${split}`);
    const rows: [string, string][] = [
      ['images', `${samples}`],
      ['classes', `${classes.length}: ${classes.map(({ name }) => name).join(', ')}`],
      ['split', `${counts.join(', ')} (${splitSource})`],
      ...notes.map((note): [string, string] => ['note', note]),
    ];
    const verdict = problems.length > 0 ? plural(problems.length, 'problem') : 'all is well';
    console.log(`${name}: ${verdict}, ${formatSeconds(seconds)}\n${formatTable(rows)}`);
  }
  return problems.length > 0 ? 1 : 0;
}

/** @returns the exit code */
async function stats(folder: string, { json, out, ...options }: StatsArguments): Promise<number> {
  const { openDataset } = require('../datasets/open') as typeof import('../datasets/open');
  const { datasetStats } = require('../datasets/stats') as typeof import('../datasets/stats');
  const { replaceFile } = require('../raster/png') as typeof import('../raster/png');
  const dataset = await openDataset(folder, options);
  for (const { message } of dataset.problems) console.error(formatError(message));
  const result = await withProgress((scan) => datasetStats(dataset, scan));
  if (out !== undefined) {
    const picture = await drawStats(result);
    await replaceFile(out, undefined, (file) => file.writeFile(picture));
  }
  console.log(json ? JSON.stringify(result, undefined, 2) : statsText(result));
  return dataset.problems.length > 0 ? 1 : 0;
}

/** Shows how far the work on the samples is, and lets Ctrl-C stop it. */
async function withProgress<T>(
  work: (options: { signal: AbortSignal; onProgress: (done: number, total: number) => void }) => Promise<T>,
): Promise<T> {
  const stream = process.stderr;
  const bar = stream.isTTY
    ? new SingleBar({
        stream,
        clearOnComplete: true,
        gracefulExit: false,
        format: 'images {value}/{total} {bar} {eta} s left',
      })
    : undefined;
  let printed = performance.now();
  const onProgress = (done: number, total: number): void => {
    if (bar) {
      if (!bar.isActive) bar.start(total, done);
      bar.update(done);
    } else if (performance.now() - printed >= lineMilliseconds) {
      printed = performance.now();
      stream.write(`images ${done}/${total}\n`);
    }
  };
  const interrupt = catchInterrupts(() => bar?.stop());
  try {
    return await work({ signal: interrupt.signal, onProgress });
  } catch (error) {
    if (interrupt.exitCode === undefined) throw error;
    bar?.stop();
    return process.exit(interrupt.exitCode);
  } finally {
    bar?.stop();
    interrupt.release();
  }
}

function statsText(stats: DatasetStats): string {
  const { name, images, labelled, splits, width, height, pixels, classes, ignored, foreground } = stats;
  const spread = ({ min, median, max }: Spread, write: (value: number) => string) =>
    `${write(min)}, ${write(median)}, ${write(max)} (least, median, greatest)`;
  const pixelCount = (value: number) => `${Math.round(value)} px`;
  const rows: [string, string][] = [
    ['images', `${images}, ${labelled} of them labelled`],
    [
      'split',
      Object.entries(splits)
        .map(([split, count]) => `${count} ${split}`)
        .join(', '),
    ],
    ['width', spread(width, pixelCount)],
    ['height', spread(height, pixelCount)],
    ['pixels', `${pixels.reduce((sum, count) => sum + count, 0).toLocaleString('en')} in all`],
    ['foreground', `${percent(foreground.share)}; by image ${spread(foreground.byImage, percent)}`],
    ['ignored', percent(ignored.share)],
  ];
  const byClass = classes.map(({ name, share, images }, i): [string, string] => [
    `class ${i} ${name}`,
    `${percent(share).padStart(7)}  in ${plural(images, 'image')}`,
  ]);
  return `${name}\n${formatTable([...rows, ...byClass])}`;
}

async function drawStats({ name, classes, ignored, pixels }: DatasetStats): Promise<Buffer> {
  const { barChart, histogram, renderCharts } = require('./chart') as typeof import('./chart');
  const bars = classes.map(({ name, color, share, images }) => ({
    label: name,
    value: share,
    note: `${percent(share)}, in ${plural(images, 'image')}`,
    color,
  }));
  const megapixels = (value: number) => `${(value / 1e6).toPrecision(3)} Mpx`;
  return renderCharts([
    barChart(`${name}: share of the pixels (${percent(ignored.share)} ignored)`, bars),
    histogram(`${name}: size of ${plural(pixels.length, 'image')}`, pixels, megapixels),
  ]);
}

function percent(share: number): string {
  return `${(100 * share).toFixed(share > 0 && share < 0.01 ? 2 : 1)} %`;
}

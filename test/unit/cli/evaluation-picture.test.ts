import sharp from 'sharp';
import { type Chart, renderCharts } from '../../../src/cli/chart';
import { matrixChart, tableChart } from '../../../src/cli/evaluation-picture';
import { ConfusionMatrix } from '../../../src/metrics/confusion';

const classes = [
  { name: 'sea <deep>', color: [0, 0, 200] },
  { name: 'land', color: [10, 200, 0] },
  { name: 'ice', color: [250, 251, 252] },
] as const;
const matrix = new ConfusionMatrix(3);
// Truth: 4 of class 0, of which 3 are right; 1 of class 1, wrong; none of class 2.
matrix.add(Uint8Array.of(0, 0, 0, 1, 2), Uint8Array.of(0, 0, 0, 0, 1));

function textsOf({ svg }: Chart): string[] {
  return [...svg.matchAll(/<text[^>]*>([^<]*)<\/text>/g)].map(([, text]) => text!);
}

test('a table has all of its cells, the title and the note', () => {
  const rows = [
    ['mode', 'output', 'mIoU'],
    ['global', 'local', '0.2500'],
  ];
  expect(textsOf(tableChart('a model', rows, '* a note'))).toEqual([
    'a model',
    'mode',
    'global',
    'output',
    'local',
    'mIoU',
    '0.2500',
    '* a note',
  ]);
  const { height } = tableChart('a model', rows);
  expect(tableChart('a model', [...rows, rows[1]!]).height).toBeGreaterThan(height);
});

test('a confusion matrix has shares of its rows, and names are only text', () => {
  const sea = 'sea &#60;deep&#62;';
  expect(textsOf(matrixChart('Matrix', matrix, classes))).toEqual([
    'Matrix',
    expect.stringMatching(/^Rows: /),
    ...[sea, 'land', 'ice'],
    ...[sea, '75.00', '25.00', '0.00'],
    ...['land', '0.00', '0.00', '100.00'],
    ...['ice', '–', '–', '–'],
  ]);
});

test('it is drawn whole, with a class in its colour and a right cell in blue', async () => {
  const chart = matrixChart('Matrix', matrix, classes);
  const png = await renderCharts([chart]);
  expect(await sharp(png).metadata()).toMatchObject({ width: chart.width, height: chart.height });
  /** The colour inside the last rectangle of a fill, near its corner. */
  const inside = async (fill: string) => {
    const rectangle = new RegExp(`<rect x="([\\d.]+)" y="([\\d.]+)"[^>]*fill="rgb\\(${fill}\\)"`, 'g');
    const [, x, y] = [...chart.svg.matchAll(rectangle)].at(-1)!;
    const at = { left: Math.round(Number(x)) + 4, top: Math.round(Number(y)) + 4, width: 1, height: 1 };
    return [...(await sharp(png).extract(at).raw().toBuffer())];
  };
  expect(await inside('10,200,0')).toEqual([10, 200, 0]);
  // 75 % of (31, 84, 150) over white.
  expect(await inside('87,127,176')).toEqual([87, 127, 176]);
});

import sharp from 'sharp';
import { drawEvaluation, evaluationSvg } from '../../../src/cli/evaluation-picture';
import { ConfusionMatrix } from '../../../src/metrics/confusion';

const matrix = new ConfusionMatrix(3);
// Truth: 4 of class 0, of which 3 are right; 1 of class 1, wrong; none of class 2.
matrix.add(Uint8Array.of(0, 0, 0, 1, 2), Uint8Array.of(0, 0, 0, 0, 1));
const picture = {
  title: 'a model & a set',
  table: [
    ['mode', 'output', 'mIoU'],
    ['global', 'global', '0.2500'],
  ],
  note: '* not in the means',
  matrixTitle: 'Confusion matrix',
  matrix,
  classes: [
    { name: 'sea <deep>', color: [0, 0, 200] },
    { name: 'land', color: [10, 200, 0] },
    { name: 'ice', color: [250, 251, 252] },
  ] as const,
};

test('every cell stands in it, and names are only text', () => {
  const svg = evaluationSvg(picture);
  const texts = [...svg.matchAll(/<text[^>]*>([^<]*)<\/text>/g)].map(([, text]) => text);
  expect(texts).toEqual([
    'a model &amp; a set',
    'mode',
    'global',
    'output',
    'global',
    'mIoU',
    '0.2500',
    '* not in the means',
    'Confusion matrix',
    expect.stringMatching(/^Rows: /),
    'sea &lt;deep&gt;',
    'land',
    'ice',
    'sea &lt;deep&gt;',
    '75.00',
    '25.00',
    '0.00',
    'land',
    '0.00',
    '0.00',
    '100.00',
    'ice',
    '–',
    '–',
    '–',
  ]);
});

test('it is a PNG of the size that the drawing says, with a class in its colour', async () => {
  const [, width, height] = /<svg[^>]*width="(\d+)" height="(\d+)"/.exec(evaluationSvg(picture))!;
  const png = await drawEvaluation(picture);
  expect(await sharp(png).metadata()).toMatchObject({
    format: 'png',
    width: Number(width),
    height: Number(height),
  });
  const [, x, y] = /<rect x="(\d[\d.]*)" y="(\d[\d.]*)"[^>]*fill="rgb\(10,200,0\)"/.exec(
    evaluationSvg(picture),
  )!;
  const pixel = await sharp(png)
    .extract({ left: Math.round(Number(x)) + 5, top: Math.round(Number(y)) + 5, width: 1, height: 1 })
    .removeAlpha()
    .raw()
    .toBuffer();
  expect([...pixel]).toEqual([10, 200, 0]);
});

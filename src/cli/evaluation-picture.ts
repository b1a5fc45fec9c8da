/** The picture of an evaluation: its table, and the confusion matrix of one output. */
import sharp from 'sharp';
import type { ClassInfo } from '../checkpoint/model-file';
import type { ConfusionMatrix } from '../metrics/confusion';
import { ratio } from '../metrics/ratio';

export interface EvaluationPicture {
  title: string;
  /** Cells by row, the titles first; the first two columns are flush left. */
  table: readonly (readonly string[])[];
  /** Below the table. */
  note?: string | undefined;
  matrixTitle: string;
  matrix: ConfusionMatrix;
  classes: readonly ClassInfo[];
}

const fontSize = 13;
/** Width of a character, for what must be laid out before it is drawn; few fonts are wider. */
const character = 0.62 * fontSize;
const lineHeight = 22;
const margin = 24;
/** Side of a class's colour sample. */
const sample = 11;

/** Draws it as a PNG, in the sans-serif font that the system has. */
export function drawEvaluation(picture: EvaluationPicture): Promise<Buffer> {
  return sharp(Buffer.from(evaluationSvg(picture)))
    .png()
    .toBuffer();
}

export function evaluationSvg({
  title,
  table,
  note,
  matrixTitle,
  matrix,
  classes,
}: EvaluationPicture): string {
  const shapes: string[] = [];
  let y = margin + fontSize;
  shapes.push(text(margin, y, title, 'font-weight="bold"'));
  y += 1.5 * lineHeight;

  const widths = table[0]!.map((_, i) => Math.max(...table.map((row) => row[i]!.length)) * character);
  let right = margin;
  for (const [i, width] of widths.entries()) {
    const left = right;
    right += width + 2 * character;
    for (const [j, row] of table.entries()) {
      const at = y + j * lineHeight;
      const weight = j === 0 ? ' font-weight="bold"' : '';
      shapes.push(
        i < 2
          ? text(left, at, row[i]!, weight)
          : text(left + width, at, row[i]!, `text-anchor="end"${weight}`),
      );
    }
  }
  shapes.push(`<path d="M${margin} ${y + 7}H${right - 2 * character}" stroke="#888"/>`);
  y += table.length * lineHeight;
  if (note !== undefined) {
    shapes.push(text(margin, y, note, 'fill="#555"'));
    y += lineHeight;
  }

  y += lineHeight;
  shapes.push(text(margin, y, matrixTitle, 'font-weight="bold"'));
  y += lineHeight;
  shapes.push(
    text(
      margin,
      y,
      'Rows: labels of the data set. Columns: predicted. Shares of each row in %.',
      'fill="#555"',
    ),
  );
  y += lineHeight / 2;
  const names = Math.max(...classes.map(({ name }) => name.length)) * character + sample + 2 * character;
  const cell = { width: Math.max(names, 64), height: 1.5 * lineHeight };
  const firstColumn = margin + names;
  const classLabel = (x: number, base: number, { name, color }: ClassInfo) =>
    `<rect x="${x}" y="${base - sample + 1}" width="${sample}" height="${sample}" fill="rgb(${color})" stroke="#888"/>` +
    text(x + sample + character / 2, base, name);
  for (const [i, info] of classes.entries()) {
    shapes.push(classLabel(firstColumn + i * cell.width + 4, y + lineHeight - 5, info));
  }
  y += lineHeight;
  for (const [i, counts] of matrix.toJSON().entries()) {
    const middle = y + cell.height / 2 + fontSize / 3;
    shapes.push(classLabel(margin, middle, classes[i]!));
    const all = counts.reduce((sum, count) => sum + count, 0);
    for (const [j, count] of counts.entries()) {
      const share = ratio(count, all);
      const x = firstColumn + j * cell.width;
      shapes.push(
        `<rect x="${x}" y="${y}" width="${cell.width}" height="${cell.height}" fill="${shade(share, i === j)}" stroke="#ccc"/>`,
        text(
          x + cell.width / 2,
          middle,
          all > 0 ? (100 * share).toFixed(2) : '–',
          `text-anchor="middle" fill="${share > 0.6 ? 'white' : 'black'}"`,
        ),
      );
    }
    y += cell.height;
  }

  const width = Math.ceil(
    Math.max(
      right,
      firstColumn + classes.length * cell.width,
      ...[title, note ?? '', matrixTitle].map(textEnd),
    ) + margin,
  );
  const height = Math.ceil(y + margin);
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" ` +
    `font-family="sans-serif" font-size="${fontSize}">` +
    `<rect width="${width}" height="${height}" fill="white"/>${shapes.join('')}</svg>`
  );
}

/** White to blue on the diagonal, to red elsewhere. */
function shade(share: number, right: boolean): string {
  const full = right ? [31, 84, 150] : [170, 40, 30];
  return `rgb(${full.map((channel) => Math.round(255 + (channel - 255) * share))})`;
}

function textEnd(line: string): number {
  return margin + line.length * character;
}

function text(x: number, y: number, content: string, attributes = ''): string {
  const escaped = content.replace(/[&<>]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[c]!);
  return `<text x="${x}" y="${y}" ${attributes}>${escaped}</text>`;
}

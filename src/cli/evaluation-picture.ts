/** What the picture of an evaluation is made of. */
import type { ClassInfo } from '../checkpoint/model-file';
import type { ConfusionMatrix } from '../metrics/confusion';
import { ratio } from '../metrics/ratio';
import { type Chart, heading, text } from './chart';

const margin = 16;
const top = 34;
const lineHeight = 22;
/** Of a character, for what must be laid out before it is drawn. */
const letterWidth = 8.5;
/** Side of a class's colour sample. */
const sample = 11;

/**
 * A table.
 * @param rows titles first; the first two columns are flush left
 * @param note below it
 */
export function tableChart(title: string, rows: readonly (readonly string[])[], note?: string): Chart {
  const shapes = [heading(title)];
  const bottom = top + rows.length * lineHeight;
  let right = margin;
  for (const i of rows[0]!.keys()) {
    const left = right;
    const end = left + Math.max(...rows.map((row) => row[i]!.length)) * letterWidth;
    for (const [j, row] of rows.entries()) {
      const base = top + (j + 0.7) * lineHeight;
      shapes.push(i < 2 ? text(left, base, row[i]!) : text(end, base, row[i]!, 'end'));
    }
    right = end + 2 * letterWidth;
  }
  shapes.push(`<path d="M${margin} ${top + lineHeight}H${right - 2 * letterWidth}" stroke="#888888"/>`);
  if (note !== undefined) shapes.push(text(margin, bottom + 0.7 * lineHeight, note));
  return {
    svg: shapes.join(''),
    width: Math.ceil(Math.max(right, 2 * margin + title.length * 1.2 * letterWidth)),
    height: bottom + 1.5 * lineHeight,
  };
}

/** A confusion matrix as shares of its rows, with the classes in their colours. */
export function matrixChart(title: string, matrix: ConfusionMatrix, classes: readonly ClassInfo[]): Chart {
  const names = Math.max(...classes.map(({ name }) => name.length)) * letterWidth + sample + 2 * letterWidth;
  const cell = { width: Math.max(names, 64), height: 32 };
  const left = margin + names;
  const shapes = [
    heading(title),
    text(margin, top + 10, 'Rows: labels of the data set. Columns: predicted. Shares of each row in %.'),
  ];
  const label = (x: number, base: number, { name, color }: ClassInfo) =>
    `<rect x="${x}" y="${base - sample + 1}" width="${sample}" height="${sample}" fill="rgb(${color})" stroke="#888888"/>` +
    text(x + sample + 5, base, name);
  for (const [i, info] of classes.entries()) shapes.push(label(left + i * cell.width + 4, top + 34, info));
  let y = top + 42;
  for (const [i, counts] of matrix.toJSON().entries()) {
    const base = y + cell.height / 2 + 5;
    shapes.push(label(margin, base, classes[i]!));
    const all = counts.reduce((sum, count) => sum + count, 0);
    for (const [j, count] of counts.entries()) {
      const share = ratio(count, all);
      const x = left + j * cell.width;
      shapes.push(
        `<rect x="${x}" y="${y}" width="${cell.width}" height="${cell.height}" fill="${shade(share, i === j)}" stroke="#cccccc"/>`,
        `<g fill="${share > 0.6 ? 'white' : 'black'}">`,
        text(x + cell.width / 2, base, all > 0 ? (100 * share).toFixed(2) : '–', 'middle'),
        '</g>',
      );
    }
    y += cell.height;
  }
  const width = Math.max(left + classes.length * cell.width + margin, 80 * letterWidth);
  return { svg: shapes.join(''), width: Math.ceil(width), height: y + margin };
}

/** From white to blue on the diagonal, to red elsewhere. */
function shade(share: number, right: boolean): string {
  const full = right ? [31, 84, 150] : [170, 40, 30];
  return `rgb(${full.map((channel) => Math.round(255 + (channel - 255) * share))})`;
}

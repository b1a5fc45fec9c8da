/** Small charts, drawn as SVG and rendered by sharp. */
import sharp from 'sharp';

/** A drawing: the elements of an SVG, and the pixels they take from (0, 0) on. */
export interface Chart {
  readonly svg: string;
  readonly width: number;
  readonly height: number;
}

export interface Bar {
  readonly label: string;
  /** From 0. */
  readonly value: number;
  /** What is written beside the bar. */
  readonly note: string;
  /** Red, green and blue, 0 to 255. */
  readonly color: readonly [number, number, number];
}

const width = 720;
const margin = 16;
const titleHeight = 34;
const barHeight = 18;
const barStep = 26;
/** Of a character, about. */
const letterWidth = 7.5;
const plotHeight = 160;
const mostBins = 20;
const ink = '#222222';
const outline = '#888888';
const histogramColour = '#4477AA';

/** Horizontal bars from a common zero, the longest as long as there is room. */
export function barChart(title: string, bars: readonly Bar[]): Chart {
  const longest = (texts: readonly string[]) =>
    letterWidth * Math.max(0, ...texts.map((text) => text.length));
  const left = margin + Math.min(longest(bars.map(({ label }) => label)), width / 3) + 8;
  const room = width - margin - longest(bars.map(({ note }) => note)) - 8 - left;
  const most = Math.max(...bars.map(({ value }) => value), Number.MIN_VALUE);
  const rows = bars.map(({ label, value, note, color }, i) => {
    const top = titleHeight + i * barStep;
    const length = Math.max(0, (value / most) * room);
    const middle = top + barHeight / 2 + 5;
    return (
      text(left - 8, middle, label, 'end') +
      `<rect x="${left}" y="${top}" width="${length.toFixed(1)}" height="${barHeight}" ` +
      `fill="rgb(${color.join()})" stroke="${outline}"/>` +
      text(left + length + 8, middle, note)
    );
  });
  return {
    svg: heading(title) + rows.join(''),
    width,
    height: titleHeight + bars.length * barStep + margin,
  };
}

/**
 * How many values there are in each of some equal intervals from the least to the greatest.
 *
 * @param format Writes a value under the axis.
 */
export function histogram(
  title: string,
  values: readonly number[],
  format: (value: number) => string,
): Chart {
  const height = titleHeight + plotHeight + 24 + margin;
  if (values.length === 0) return { svg: heading(title), width, height };
  const min = Math.min(...values);
  const max = Math.max(...values);
  const bins = max > min ? Math.min(mostBins, Math.max(4, Math.ceil(2 * Math.sqrt(values.length)))) : 1;
  const counts = new Array<number>(bins).fill(0);
  for (const value of values) {
    const bin = max > min ? Math.min(bins - 1, Math.floor(((value - min) / (max - min)) * bins)) : 0;
    counts[bin]! += 1;
  }
  const most = Math.max(...counts);
  const step = (width - 2 * margin) / bins;
  const bottom = titleHeight + plotHeight;
  const columns = counts.map((count, i) => {
    const columnHeight = (count / most) * (plotHeight - 16);
    const x = margin + i * step;
    return (
      `<rect x="${(x + 1).toFixed(1)}" y="${(bottom - columnHeight).toFixed(1)}" width="${(step - 2).toFixed(1)}" ` +
      `height="${columnHeight.toFixed(1)}" fill="${histogramColour}"/>` +
      (count > 0 ? text(x + step / 2, bottom - columnHeight - 4, String(count), 'middle') : '')
    );
  });
  const axis = `<line x1="${margin}" y1="${bottom}" x2="${width - margin}" y2="${bottom}" stroke="${ink}"/>`;
  const ends =
    max > min
      ? text(margin, bottom + 18, format(min)) + text(width - margin, bottom + 18, format(max), 'end')
      : text(width / 2, bottom + 18, format(min), 'middle');
  return { svg: heading(title) + columns.join('') + axis + ends, width, height };
}

/** Draws charts one below the other, black on white, as a PNG. */
export async function renderCharts(charts: readonly Chart[]): Promise<Buffer> {
  let top = 0;
  const groups = charts.map(({ svg, height }) => {
    const group = `<g transform="translate(0 ${top})">${svg}</g>`;
    top += height;
    return group;
  });
  const right = Math.max(...charts.map(({ width }) => width));
  const document =
    `<svg xmlns="http://www.w3.org/2000/svg" width="${right}" height="${top}" font-family="sans-serif" ` +
    `font-size="13" fill="${ink}"><rect width="100%" height="100%" fill="white"/>${groups.join('')}</svg>`;
  return sharp(Buffer.from(document)).removeAlpha().png().toBuffer();
}

/** The title line of a chart. */
export function heading(title: string): string {
  return `<text x="${margin}" y="22" font-size="15" font-weight="bold">${escapeXml(title)}</text>`;
}

/** A line of text, its base line at y. */
export function text(
  x: number,
  y: number,
  content: string,
  anchor: 'start' | 'middle' | 'end' = 'start',
): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}">${escapeXml(content)}</text>`;
}

function escapeXml(content: string): string {
  return (
    content
      .replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
      // Other control characters can't be in XML at all.
      .replace(/\p{Cc}/gu, ' ')
  );
}

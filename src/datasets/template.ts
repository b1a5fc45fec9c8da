/** Names of files with places to fill in, such as `images/{id}_sat.jpg`. */

/** What a file's name says, by the names of the template's places. */
export interface Fields {
  readonly id: string;
  readonly group?: string | undefined;
  /** Number of a part of a mosaic, from 1. */
  readonly part?: number | undefined;
}

const places: Readonly<Record<string, string>> = {
  id: '(?<id>[^/]+)',
  group: '(?<group>[^/]+)',
  part: '(?<part>\\d+)',
};

/** Each piece of a template that is no plain text: places, alternatives, and wildcards. */
const pieces = /\{(\w+)\}|\{([^{}]*,[^{}]*)\}|\*\*\/|\*|\?/g;

/**
 * A template for paths below a folder, with `/` between folders. `{id}` stands for the sample's id, `{group}` for what
 * it belongs to, `{part}` for the number of a mosaic's part; `*` for any characters but `/`, `?` for one, a folder
 * `**` for any folders, `{jpg,png}` for one of these. Upper and lower case are alike.
 */
export class Template {
  readonly text: string;
  /** Names of the places, in order. */
  readonly places: readonly string[];
  /** Characters that are given, so that of two templates the one that says more can be found. */
  readonly literals: number;
  readonly #regex: RegExp;

  constructor(text: string) {
    this.text = text;
    const names: string[] = [];
    let source = '';
    let literals = 0;
    let end = 0;
    const plain = (until: number) => {
      source += escapeRegex(text.slice(end, until));
      literals += until - end;
    };
    for (const match of text.matchAll(pieces)) {
      plain(match.index);
      const [piece, place, alternatives] = match;
      if (place !== undefined) {
        // A place that comes again holds the same text.
        source += names.includes(place) ? `\\k<${place}>` : (places[place] ?? escapeRegex(piece));
        names.push(place);
      } else if (alternatives !== undefined) {
        source += `(?:${alternatives.split(',').map(escapeRegex).join('|')})`;
      } else {
        source += piece === '**/' ? '(?:.*/)?' : piece === '*' ? '[^/]*' : '[^/]';
      }
      end = match.index + piece.length;
    }
    plain(text.length);
    this.places = names;
    this.literals = literals;
    this.#regex = new RegExp(`^${source}$`, 'i');
  }

  /** What is wrong with the template, if anything. */
  get problem(): string | undefined {
    const unknown = this.places.find((place) => !Object.hasOwn(places, place));
    if (unknown !== undefined) return `{${unknown}} is no place; expected {id}, {group} or {part}`;
    if (!this.places.includes('id')) return 'it has no {id}; expected a path such as images/{id}.png';
    if (this.text.startsWith('/') || this.text.split('/').includes('..')) {
      return 'expected a path inside the data set’s folder';
    }
    return undefined;
  }

  /** What the path of a file says, or undefined if it doesn't fit. */
  match(file: string): Fields | undefined {
    const groups = this.#regex.exec(file)?.groups;
    if (!groups) return undefined;
    const { id, group, part } = groups;
    return {
      id: group === undefined ? id! : `${group}/${id}`,
      group,
      part: part === undefined ? undefined : Number(part),
    };
  }
}

function escapeRegex(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

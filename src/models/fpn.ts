/** GLNet's feature pyramid: linear throughout, each stage may take a second map in. */
import { AggregateConv } from '../nn/layers';
import type { Parameters } from '../nn/parameters';
import { concat } from '../tensor/concat';
import { cropResize, type GridSource } from '../tensor/crop-resize';
import { paste } from '../tensor/paste';
import { resize } from '../tensor/resize';
import type { Tensor } from '../tensor/tensor';
import type { Levels } from './resnet';

/** The maps that branches share: of the backbone, the laterals, and the two rounds of smoothing. */
export const stages = ['c', 'ps0', 'ps1', 'ps2'] as const;
export type Stage = (typeof stages)[number];
export type BranchMaps = Readonly<Record<Stage, Levels<Tensor>>>;

export interface PyramidOutput {
  maps: BranchMaps;
  /** What the classifiers read: [N, H/4, W/4, 4 · smooth]. */
  ps3: Tensor;
}

/** What is made of the maps that ps3 is made of, without ps3. */
export interface Head {
  /** Of these maps alone, of the sources of all levels together; all of them, or all but the last level's. */
  forward(sources: readonly GridSource[]): Tensor;
  /** Adds what the last level's contribute. */
  addLast(sources: readonly GridSource[], others: Tensor): Tensor;
  /**
   * The last level from its laterals' sums on: one convolution over these, and the other branch's ps0, ps1 and ps2,
   * exact but for {@link foldedMargin} pixels at the border.
   */
  readonly last?: { forward(sources: readonly GridSource[], options: { addend: Tensor }): Tensor };
}

/** Rows and columns at each border of which {@link Head.last} knows nothing: of three layers of 3x3 one after the other. */
const foldedMargin = 3;

/** Rows of p that a row of the margin depends on, and of what is made of it, layer by layer. */
const stripDepths = [foldedMargin + 4, foldedMargin + 3, foldedMargin + 2] as const;

/** The other branch's map for a stage and level, as seen from this branch, without the resize to this branch's size. */
export type Share = (stage: Stage, level: number) => GridSource;

/** Appends a resize to what a source goes through. */
function resized(source: GridSource, height: number, width: number): GridSource {
  const chain = source.sizes ?? [];
  const [lastHeight, lastWidth] =
    chain.length > 0
      ? chain.slice(-2)
      : [source.cropHeight ?? source.x.dim(1), source.cropWidth ?? source.x.dim(2)];
  return lastHeight === height && lastWidth === width
    ? source
    : { ...source, sizes: [...chain, height, width] };
}

function sizeOf(map: Tensor): [number, number] {
  return [map.dim(1), map.dim(2)];
}

export class Pyramid {
  readonly #laterals: Levels<AggregateConv>;
  readonly #smooth1: Levels<AggregateConv>;
  readonly #smooth2: Levels<AggregateConv>;
  readonly #smooth: AggregateConv | undefined;
  readonly #classify: AggregateConv | undefined;
  readonly #shared: readonly Stage[];

  /**
   * @param parameters of `fpn_global` or `fpn_local`
   * @param options.suffix of the stages' names, `_ext` in the global branch that takes local maps in
   * @param options.shared stages that take the other branch's maps in; of a branch alone undefined
   *
   * Without `classify` among the parameters there are the maps and what heads make of them, and no ps3.
   */
  constructor(parameters: Parameters, options: { suffix?: '_ext'; shared?: readonly Stage[] }) {
    const { suffix = '', shared } = options;
    this.#shared = shared ?? [];
    const layers = (names: string[]) =>
      names.map(
        (name) => new AggregateConv(parameters.at(name + suffix)),
      ) as unknown as Levels<AggregateConv>;
    this.#laterals = layers(['toplayer', 'latlayer1', 'latlayer2', 'latlayer3']);
    this.#smooth1 = layers(['smooth1_1', 'smooth2_1', 'smooth3_1', 'smooth4_1']);
    this.#smooth2 = layers(['smooth1_2', 'smooth2_2', 'smooth3_2', 'smooth4_2']);
    if (!parameters.has('classify.weight')) return;
    if (shared) this.#smooth = new AggregateConv(parameters.at('smooth'));
    this.#classify = new AggregateConv(parameters.at('classify'));
  }

  /** Tensors made here and not returned are gone afterwards; `c` stays the caller's. */
  forward(c: Levels<Tensor>, share?: Share): PyramidOutput {
    return c[0].device.scope(() => {
      const { maps, sources } = this.#levels(c, share);
      const ps3 = this.#smooth
        ? this.#smooth.forward(sources)
        : concat(sources.map(({ x, sizes }) => (sizes ? resize(x, sizes[0]!, sizes[1]!) : x)));
      return { maps, ps3 };
    });
  }

  /**
   * As {@link forward}, with what heads make in the place of ps3.
   * @param keep whether the maps are wanted; else each goes, `c` too, when its last reader has been called
   */
  apply(
    heads: readonly Head[],
    c: Levels<Tensor>,
    share: Share,
    keep: boolean,
  ): { maps: BranchMaps | undefined; outputs: readonly Tensor[] } {
    return c[0].device.scope(() => {
      const [height, width] = sizeOf(c[3]);
      // Maps that are wanted are made, and then the heads may as well read them.
      const folds = !keep && Math.min(height, width) >= 2 * stripDepths[0] && heads.every(({ last }) => last);
      const { maps, sources } = this.#levels(c, share, keep, folds ? 3 : 4);
      const outputs = heads.map((head) => {
        if (!folds) return head.forward(sources);
        using others = head.forward(sources);
        return this.#foldedLevel(head, maps.ps0[3], share, others);
      });
      return { maps: keep ? maps : undefined, outputs };
    });
  }

  /**
   * The last level by its folded convolution, and the margin, where that does not hold, layer by layer.
   * @param p its laterals' sum
   * @param others what the head made of the other levels
   */
  #foldedLevel(head: Head, p: Tensor, share: Share, others: Tensor): Tensor {
    const { device } = p;
    const [height, width] = sizeOf(p);
    const sharedMaps = (['ps0', 'ps1', 'ps2'] as const).map((stage) =>
      this.#shared.includes(stage) ? resized(share(stage, 3), height, width) : undefined,
    );
    const shared = sharedMaps.filter((source) => source !== undefined);
    const whole = head.last!.forward([{ x: p }, ...shared], { addend: others });
    for (const side of ['top', 'bottom', 'left', 'right'] as const) {
      const lies = side === 'top' || side === 'bottom';
      const far = side === 'bottom' || side === 'right';
      /** The strip of some depth at this side, of a map or of a deeper strip. */
      const strip = (source: GridSource, depth: number, from?: number): GridSource => {
        const first = far ? (from ?? (lies ? height : width)) - depth : 0;
        return lies
          ? { ...source, windowTop: first, windowHeight: depth, windowWidth: width }
          : { ...source, windowLeft: first, windowHeight: height, windowWidth: depth };
      };
      device.scope(() => {
        let x = strip({ x: p }, stripDepths[0]);
        for (const [i, layer] of [this.#smooth1[3], this.#smooth2[3]].entries()) {
          const other = sharedMaps[i];
          const y = layer.forward(other ? [x, strip(other, stripDepths[i]!)] : [x]);
          // At its inner border a strip knows nothing of what is beyond.
          x = strip({ x: y }, stripDepths[i + 1]!, stripDepths[i]!);
        }
        const [, , depth] = stripDepths;
        const last = sharedMaps[2];
        const before = cropResize(strip({ x: others }, depth));
        const y = head.addLast(last ? [x, strip(last, depth)] : [x], before);
        const [top, left] = [
          lies && far ? height - foldedMargin : 0,
          !lies && far ? width - foldedMargin : 0,
        ];
        paste(whole, cropResize(strip({ x: y }, foldedMargin, depth)), top, left);
      });
    }
    return whole;
  }

  /**
   * The maps, and what ps3 is made of; unless they are kept, all maps that have been read are gone.
   * @param smoothed how many of the levels, smallest first, are smoothed and among the sources
   */
  #levels(
    c: Levels<Tensor>,
    share?: Share,
    keep = true,
    smoothed = 4,
  ): { maps: BranchMaps; sources: GridSource[] } {
    const read = (map: Tensor): void => {
      if (!keep) map.dispose();
    };
    const sources = (x: Tensor, stage: Stage, level: number): GridSource[] =>
      share && this.#shared.includes(stage) ? [{ x }, resized(share(stage, level), ...sizeOf(x))] : [{ x }];

    const ps0: Tensor[] = [];
    for (const [level, x] of c.entries()) {
      const from = sources(x, 'c', level);
      if (level === 0) {
        ps0.push(this.#laterals[0].forward(from));
      } else {
        using addend = resize(ps0[level - 1]!, ...sizeOf(x));
        ps0.push(this.#laterals[level]!.forward(from, { addend }));
      }
      read(x);
    }
    const size = sizeOf(ps0[3]!);
    const ps1 = ps0.slice(0, smoothed).map((p, level) => {
      const q = this.#smooth1[level]!.forward(sources(p, 'ps0', level));
      read(p);
      return q;
    });
    const ps2 = ps1.map((q, level) => {
      const r = this.#smooth2[level]!.forward(sources(q, 'ps1', level));
      read(q);
      return r;
    });

    return {
      maps: { c, ps0, ps1, ps2 } as unknown as BranchMaps,
      sources: ps2.flatMap((r, level) => sources(r, 'ps2', level).map((source) => resized(source, ...size))),
    };
  }

  /** Logits of this branch alone: [N, H/4, W/4, K]. */
  classify(ps3: Tensor): Tensor {
    return this.#classify!.forward([{ x: ps3 }]);
  }
}

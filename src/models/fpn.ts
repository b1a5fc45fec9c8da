/** GLNet's feature pyramid: linear throughout, each stage may take a second map in. */
import { AggregateConv, SampledConv } from '../nn/layers';
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
export type Maps<T> = Readonly<Record<Stage, Levels<T>>>;
export type BranchMaps = Maps<Tensor>;

/** Sees a map that was made; must not keep it. */
export type TakeMap = (stage: Stage, level: number, map: Tensor) => void;

export interface PyramidOutput {
  maps: BranchMaps;
  /** What the classifiers read: [N, H/4, W/4, 4 · smooth]. */
  ps3: Tensor;
}

/** What is made of the maps that ps3 is made of, without ps3. */
export interface Head {
  /** Of the sources of all levels together. */
  forward(sources: readonly GridSource[]): Tensor;
  /** What it adds up of the levels, where it is folded. */
  readonly folded?: Readonly<Record<keyof typeof folds, FoldedHead>>;
}

/**
 * One convolution to the logits. Exact but for some pixels at the border; and along a side, away from the corners, with
 * its edge.
 */
export interface FoldedHead {
  forward(sources: readonly GridSource[], addend?: Tensor): Tensor;
  /**
   * What to add to the outermost lines at a side, as many as the margin m.
   * @param lines those of the sources, channel after channel, with as many zeros before and after each as the convolution
   *   reaches, r: rows [N, m, W + 2·r, C], or columns [N, 1, H + 2·r, m·C]
   * @returns place after place along the side: [N, 1, W or H, m·K]
   */
  edge(side: Side, lines: Tensor): Tensor;
}

/** The borders of a map. */
export const sides = ['top', 'bottom', 'left', 'right'] as const;
export type Side = (typeof sides)[number];

/**
 * What heads fold: the last level, from its laterals' sums and the other branch's ps0, ps1 and ps2, four layers of 3x3; and the
 * others, from what ps3 is made of, two layers. `reach`: pixels that a pixel depends on in each direction. `margin`: rows and
 * columns at each border where zero padding between the layers makes a difference.
 */
const folds = { others: { margin: 1, reach: 2 }, last: { margin: 3, reach: 4 } } as const;

/** Side of the square at a corner that the margins' pixels there depend on. */
const cornerSide = folds.last.margin + folds.last.reach;

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
  /** The last level's smooth*_1, and both together, for few pixels. */
  readonly #sampled: readonly [SampledConv, SampledConv] | undefined;
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
    if (parameters.has('smooth4_1_sampled.0.weight'))
      this.#sampled = [
        new SampledConv(parameters.at('smooth4_1_sampled')),
        new SampledConv(parameters.at('smooth4_2_sampled')),
      ];
    if (!parameters.has('classify.weight')) return;
    if (shared) this.#smooth = new AggregateConv(parameters.at('smooth'));
    this.#classify = new AggregateConv(parameters.at('classify'));
  }

  /** Tensors made here and not returned are gone afterwards; `c` stays the caller's. */
  forward(c: Levels<Tensor>, share?: Share): PyramidOutput {
    return c[0].device.scope(() => {
      const { maps, sources } = this.#levels(c, share);
      return { maps, ps3: this.#ps3(sources) };
    });
  }

  /**
   * As {@link forward}, of which ps3 is left: each map goes, `c` too, when its last reader has been called.
   * @param take sees each map before it goes
   */
  forwardTaking(c: Levels<Tensor>, share: Share, take: TakeMap): Tensor {
    return c[0].device.scope(() => {
      const { maps, sources } = this.#levels(c, share, take);
      for (const [level, map] of maps.ps2.entries()) take('ps2', level, map);
      return this.#ps3(sources);
    });
  }

  /** As {@link forwardTaking}, with what heads make in the place of ps3. */
  apply(
    heads: readonly Head[],
    c: Levels<Tensor>,
    share: Share,
    take: TakeMap | undefined,
  ): readonly Tensor[] {
    return c[0].device.scope(() => {
      const [height, width] = sizeOf(c[3]);
      const areFolded =
        Math.min(height, width) >= 2 * cornerSide &&
        heads.every(({ folded }) => folded) &&
        // Maps that are wanted in full are made, and then the heads may as well read them.
        (!take || this.#samples(share, height, width));
      const { maps, sources } = this.#levels(c, share, take ?? (() => {}), areFolded ? 3 : 4);
      for (const [level, map] of maps.ps2.entries()) take?.('ps2', level, map);
      if (!areFolded) return heads.map((head) => head.forward(sources));
      const p = maps.ps0[3];
      if (take) {
        take('ps0', 3, p);
        this.#takeSampled(p, share, take);
      }
      return this.#foldedHeads(heads, p, share, sources);
    });
  }

  #ps3(sources: readonly GridSource[]): Tensor {
    return this.#smooth
      ? this.#smooth.forward(sources)
      : concat(sources.map(({ x, sizes }) => (sizes ? resize(x, sizes[0]!, sizes[1]!) : x)));
  }

  /**
   * Whether the last level's ps1 and ps2 can be computed at the pixels alone that are read when they are merged: where
   * that leaves out the border, of which the composed kernel of ps2 knows nothing.
   */
  #samples(share: Share, height: number, width: number): boolean {
    if (!this.#sampled || !this.#shared.includes('ps0') || !this.#shared.includes('ps1')) return false;
    const { cropHeight, cropWidth } = share('ps1', 3);
    return height >= 3 * cropHeight! && width >= 3 * cropWidth!;
  }

  /** The last level's ps1 and ps2 as they will be merged: of the size of the shared maps' crops. */
  #takeSampled(p: Tensor, share: Share, take: TakeMap): void {
    const [ps0, ps1] = [share('ps0', 3), share('ps1', 3)];
    const sources = [{ x: p }, resized(ps0, ...sizeOf(p)), resized(ps1, ...sizeOf(p))];
    for (const [i, stage] of (['ps1', 'ps2'] as const).entries()) {
      using map = this.#sampled![i]!.forward(sources.slice(0, 2 + i), ps1.cropHeight!, ps1.cropWidth!);
      take(stage, 3, map);
    }
  }

  /**
   * What heads give, by their folded convolutions.
   * @param p the last level's laterals' sum
   * @param others what ps3 is made of, of the other levels
   */
  #foldedHeads(heads: readonly Head[], p: Tensor, share: Share, others: readonly GridSource[]): Tensor[] {
    if (heads.length === 0) return [];
    const { device } = p;
    const [patches, height, width] = [p.dim(0), ...sizeOf(p)] as const;
    const shared = (['ps0', 'ps1', 'ps2'] as const).map((stage) =>
      this.#shared.includes(stage) ? resized(share(stage, 3), height, width) : undefined,
    );
    const sources = { others, last: [{ x: p }, ...shared.filter((source) => source !== undefined)] };
    const outputs = heads.map(({ folded }) => {
      using sum = folded!.others.forward(sources.others);
      return folded!.last.forward(sources.last, sum);
    });
    for (const [part, { margin, reach }] of Object.entries(folds) as [
      keyof typeof folds,
      { margin: number; reach: number },
    ][]) {
      for (const side of sides) {
        const lies = side === 'top' || side === 'bottom';
        const [top, left] = [side === 'bottom' ? height - margin : 0, side === 'right' ? width - margin : 0];
        device.scope(() => {
          const across = {
            windowTop: lies ? top : -reach,
            windowLeft: lies ? -reach : left,
            windowHeight: lies ? margin : height + 2 * reach,
            windowWidth: lies ? width + 2 * reach : margin,
          };
          const lines = cropResize(sources[part].map((source) => ({ ...source, ...across })));
          const columns = [patches, 1, lines.dim(1), margin * lines.dim(3)];
          const read = lies ? lines : device.view(lines, 0, columns);
          for (const [i, head] of heads.entries()) {
            const y = head.folded![part].edge(side, read);
            const places = [patches, y.dim(2), margin, y.dim(3) / margin];
            paste(outputs[i]!, device.view(y, 0, places), top, left, { add: true, transposed: lies });
          }
        });
      }
    }
    device.scope(() => this.#corners(heads, p, shared, others, outputs));
    return outputs;
  }

  /** Computes the corners layer by layer: the squares that they depend on lie together in one map. */
  #corners(
    heads: readonly Head[],
    p: Tensor,
    shared: readonly (GridSource | undefined)[],
    others: readonly GridSource[],
    outputs: readonly Tensor[],
  ): void {
    const { margin } = folds.last;
    const [height, width] = sizeOf(p);
    /** The squares of some side at the corners of a source that is of the given size. */
    const corners = (source: GridSource, side: number, [height, width]: [number, number]): GridSource => ({
      ...source,
      windowHeight: 2 * side,
      windowWidth: 2 * side,
      windowSkipRows: height - 2 * side,
      windowSkipColumns: width - 2 * side,
    });
    const squares = (source: GridSource) => corners(source, cornerSide, [height, width]);
    const [ps0, ps1, ps2] = shared.map((source) => (source ? [squares(source)] : []));
    // Squares touch with their inner borders, which spoils what is not used.
    const q = this.#smooth1[3].forward([squares({ x: p }), ...ps0!]);
    const r = this.#smooth2[3].forward([{ x: q }, ...ps1!]);
    const sources = [...others.map(squares), { x: r }, ...ps2!];
    for (const [i, head] of heads.entries()) {
      const y = head.forward(sources);
      const outermost = cropResize([corners({ x: y }, margin, sizeOf(y))]);
      paste(outputs[i]!, outermost, 0, 0, {
        skipRows: height - 2 * margin,
        skipColumns: width - 2 * margin,
      });
    }
  }

  /**
   * The maps, and what ps3 is made of.
   * @param take sees all maps that have been read, which then go; without it all stay
   * @param smoothed how many of the levels, smallest first, are smoothed and among the sources
   */
  #levels(
    c: Levels<Tensor>,
    share?: Share,
    take?: TakeMap,
    smoothed = 4,
  ): { maps: BranchMaps; sources: GridSource[] } {
    const read: TakeMap = (stage, level, map) => {
      if (!take) return;
      take(stage, level, map);
      map.dispose();
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
        ps0.push(this.#laterals[level]!.forward(from, { addend, overwrite: !x.device.tape }));
      }
      read('c', level, x);
    }
    const size = sizeOf(ps0[3]!);
    const ps1 = ps0.slice(0, smoothed).map((p, level) => {
      const q = this.#smooth1[level]!.forward(sources(p, 'ps0', level));
      read('ps0', level, p);
      return q;
    });
    const ps2 = ps1.map((q, level) => {
      const r = this.#smooth2[level]!.forward(sources(q, 'ps1', level));
      read('ps1', level, q);
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

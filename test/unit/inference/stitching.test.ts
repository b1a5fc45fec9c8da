/** Bands that are stitched while patches further down are computed. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type ModelFile, openModel } from '../../../src/checkpoint/model-file';
import { HandOver } from '../../../src/inference/hand-over';
import { NetworkStore } from '../../../src/inference/networks';
import {
  allOutputs,
  type Band,
  type Output,
  type PredictOptions,
  type PredictReport,
  type Progress,
  predict,
} from '../../../src/inference/predict';
import { patchSource } from '../../../src/inference/steps';
import { Stitching } from '../../../src/inference/stitching';
import { openRaster } from '../../../src/raster/raster';
import { Device, type TensorData } from '../../../src/tensor/device';
import { type StitchSource, stitch } from '../../../src/tensor/stitch';
import type { Tensor } from '../../../src/tensor/tensor';
import { patchGrid } from '../../../src/tiling';
import { writeTinyModel } from '../../support/tiny-model';

const patch = 508;
/** Bands of 1048 rows, and rows of 5 patches. */
const width = 2000;

describe('Stitching', () => {
  /** Stands for logits. */
  const nothing = (name: string) => ({ name }) as unknown as Tensor;

  test.each([1, 200, patch, patch + 1, 900, 1048, 1049, 2096, 2500, 5003])(
    'of %i rows, each comes once, from all that lies there, and all logits are spent',
    (height) => {
      const grid = patchGrid(width, height, patch);
      const stitching = new Stitching({ width, height }, ['ensemble', 'local'], false);
      const columns = grid.columns.length;
      const sources = new Map<StitchSource, Output>();
      const spent: Tensor[] = [];
      const rows = new Map<Output, number>([
        ['ensemble', 0],
        ['local', 0],
      ]);
      const take = (complete: number): void => {
        stitching.complete(complete);
        for (let band = stitching.next(); band; band = stitching.next()) {
          const { output, whole } = band;
          expect(band.fine).toBeUndefined();
          expect(whole.row).toBe(rows.get(output));
          expect(whole.rows).toBe(Math.min(1048, height - whole.row));
          const end = whole.row + whole.rows;
          expect(end).toBeLessThanOrEqual(complete);
          rows.set(output, end);
          expect(band.last).toBe(rows.get('ensemble') === rows.get('local'));
          const meeting = [...sources].filter(([{ tops, height: h }, of]) => {
            const top = tops![0]!;
            return of === output && top < end && top + h! > whole.row;
          });
          expect(whole.sources).toEqual(meeting.map(([source]) => source));
          expect(spent).not.toEqual(expect.arrayContaining(meeting.map(([{ logits }]) => logits)));
          spent.push(...band.spent);
        }
      };
      for (const [row] of grid.rows.entries()) {
        for (const output of ['local', 'ensemble'] as const) {
          const patches = Array.from({ length: columns }, (_, column) => row * columns + column);
          const source = patchSource(0, grid, { patches, logits: nothing(`${output} ${row}`) });
          sources.set(source, output);
          stitching.keep(output, source);
        }
        take(grid.rows[row + 1] ?? height);
      }
      expect([...rows.values()]).toEqual([height, height]);
      expect(stitching.next()).toBeUndefined();
      expect(new Set(spent)).toEqual(new Set([...sources.keys()].map(({ logits }) => logits)));
      expect(spent).toHaveLength(sources.size);
    },
  );

  test('coarse to fine, what is inside the box is stitched as well, and a copy goes its own way', () => {
    const size = { width, height: 2500 };
    const box = { top: 1000, left: 100, width: 600, height: 700 };
    const stitching = new Stitching(size, ['ensemble', 'global'], true);
    stitching.refine(box);
    const whole = { tops: [0], lefts: [0], width, height: 2500, turn: 0 };
    stitching.keep('coarse', { ...whole, logits: nothing('coarse') });
    stitching.keep('global', { ...whole, logits: nothing('global') });
    const copy = stitching.copy();
    const fine = { tops: [1000, 1192], lefts: [150, 150], width: patch, height: patch, turn: 0 };
    stitching.keep('ensemble', { ...fine, logits: nothing('fine') });
    const bandsOf = (each: Stitching) => {
      each.complete(2500);
      return Array.from({ length: 6 }, () => each.next()!).map((band) => ({
        ...band,
        fine: band.fine && [band.fine.row, band.fine.rows, band.fine.sources.length],
        whole: [band.whole.row, band.whole.sources.map(({ logits }) => logits)],
      }));
    };
    const [coarse, global] = [nothing('coarse'), nothing('global')];
    expect(bandsOf(stitching)).toEqual([
      { output: 'ensemble', whole: [0, [coarse]], fine: [1000, 48, 1], spent: [], last: false },
      { output: 'global', whole: [0, [global]], spent: [], last: true },
      {
        output: 'ensemble',
        whole: [1048, [coarse]],
        fine: [1048, 652, 1],
        spent: [nothing('fine')],
        last: false,
      },
      { output: 'global', whole: [1048, [global]], spent: [], last: true },
      { output: 'ensemble', whole: [2096, [coarse]], spent: [], last: false },
      { output: 'global', whole: [2096, [global]], spent: [global, coarse], last: true },
    ]);
    expect(bandsOf(copy)[2]!.fine).toEqual([1048, 652, 0]);
  });

  test('of turned patches, rows are the image’s', () => {
    const size = { width: 3000, height: 700 };
    const stitching = new Stitching(size, ['local'], false);
    // A quarter turn anticlockwise: what is on the right comes to the top.
    const grid = patchGrid(700, 3000, 600);
    for (const [patches, name] of [
      [[0], 'right, at the top'],
      [[grid.columns.length - 1], 'right, at the bottom'],
    ] as const) {
      stitching.keep('local', patchSource(1, grid, { patches, logits: nothing(name) }));
    }
    stitching.complete(700);
    const band = stitching.next()!;
    expect([band.whole.row, band.whole.rows]).toEqual([0, 699]);
    expect(band.whole.sources).toHaveLength(2);
    expect(band.spent).toEqual([nothing('right, at the top')]);
    expect(stitching.next()!.whole.sources).toHaveLength(1);
  });
});

describe('HandOver', () => {
  const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

  test('gives in order, one at a time, and has room for two', async () => {
    const handOver = new HandOver();
    const log: string[] = [];
    for (const [i, name] of ['a', 'b', 'c', 'd'].entries()) {
      await handOver.room();
      log.push(`add ${name}`);
      const made = pause(i === 0 ? 20 : 1).then(() => name);
      handOver.add(made, async (result) => {
        log.push(`begin ${result}`);
        await pause(5);
        log.push(`end ${result}`);
      });
    }
    await handOver.end();
    const given = log.filter((line) => !line.startsWith('add'));
    expect(given).toEqual(['a', 'b', 'c', 'd'].flatMap((name) => [`begin ${name}`, `end ${name}`]));
    expect(log.indexOf('add c')).toBeGreaterThan(log.indexOf('end a'));
    expect(log.indexOf('add c')).toBeLessThan(log.indexOf('end b'));
  });

  test('tells a failure to whatever follows, and gives no more', async () => {
    const handOver = new HandOver();
    const given: number[] = [];
    const give = async (result: number) => {
      given.push(result);
      if (result === 1) throw new Error('no room on the disk');
    };
    handOver.add(Promise.resolve(1), give);
    handOver.add(Promise.resolve(2), give);
    await expect(handOver.room()).rejects.toThrow('no room on the disk');
    expect(() => handOver.check()).toThrow('no room on the disk');
    await expect(handOver.end()).rejects.toThrow('no room on the disk');
    await handOver.stop();
    expect(given).toEqual([1]);
  });

  test('stops after what is being handed over', async () => {
    const handOver = new HandOver();
    const given: number[] = [];
    const give = async (result: number) => {
      await pause(5);
      given.push(result);
    };
    handOver.add(Promise.resolve(1), give);
    handOver.add(
      pause(1).then(() => 2),
      give,
    );
    handOver.add(Promise.reject(new Error('lost')), give);
    await pause(1);
    await handOver.stop();
    expect(given).toEqual([1]);
  });
});

describe('predictions', () => {
  let folder: string;
  let file: ModelFile;
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'glnet-stitching-'));
    const weights = path.join(folder, 'tiny.safetensors');
    await writeTinyModel(weights, { modes: ['global', 'global-to-local'] });
    file = await openModel(weights);
  });
  afterAll(async () => {
    await file.close();
    await rm(folder, { recursive: true });
  });

  interface Run {
    report: PredictReport;
    /** Of each device. */
    peaks: number[];
    bands: [Output, Band][];
  }

  /** Predicts on new devices; checks that no tensor stays. */
  async function run(
    height: number,
    options: Partial<PredictOptions> & {
      devices?: number;
      memoryLimit?: number;
      onDevice?: (main: Device) => void;
    },
  ): Promise<Run> {
    const { devices: count = 1, memoryLimit = 0, onDevice, ...rest } = options;
    const data = Uint8Array.from(
      { length: width * height * 3 },
      (_, i) => (i * 7 + ((i / 6000) | 0) * 31) % 256,
    );
    const raster = await openRaster({ data, width, height, channels: 3 });
    const devices = Array.from({ length: count }, () => new Device({ memoryLimit }));
    const stores = devices.map((device) => new NetworkStore(file, device));
    const bands: [Output, Band][] = [];
    try {
      const networks = await Promise.all(stores.map((store) => store.get('global-to-local')));
      const before = devices.map((device) => device.memory().tensors);
      onDevice?.(devices[0]!);
      try {
        const report = await predict(networks, raster, {
          mode: 'global-to-local',
          outputs: ['ensemble'],
          patch,
          globalSize: 64,
          flipRotate: false,
          onBand: (output, band) => void bands.push([output, band]),
          ...rest,
        });
        return { report, peaks: devices.map((device) => device.memory().peak), bands };
      } finally {
        expect(devices.map((device) => device.memory().tensors)).toEqual(before);
      }
    } finally {
      for (const store of stores) await store.dispose();
      for (const device of devices) device.dispose();
    }
  }

  /** The bands of an output, put together. */
  function together(bands: [Output, Band][], output: Output): { labels: Buffer; confidence: Buffer } {
    const own = bands.flatMap(([of, band]) => (of === output ? [band] : []));
    let row = 0;
    for (const band of own) {
      expect(band.row).toBe(row);
      expect(band.labels).toHaveLength(band.rows * width);
      row += band.rows;
    }
    return {
      labels: Buffer.concat(own.map(({ labels }) => labels)),
      confidence: Buffer.concat(own.map(({ confidence }) => confidence)),
    };
  }

  test.each([
    [300, 1],
    [patch, 1],
    [patch + 1, 1],
    [1100, 1],
    [2500, 1],
    [2500, 2],
    [2500, 3],
  ])('%i rows on %i devices: all outputs are what is stitched in one go', async (height, devices) => {
    const logits: [Output, StitchSource, Promise<TensorData>][] = [];
    const { bands } = await run(height, {
      outputs: allOutputs,
      devices,
      onLogits: (output, source) => logits.push([output, source, source.logits.data()]),
    });
    using device = new Device();
    for (const output of allOutputs) {
      const { labels, confidence } = together(bands, output);
      const sources: StitchSource[] = [];
      for (const [of, source, values] of logits) {
        if (of !== output) continue;
        const { shape, dtype } = source.logits;
        sources.push({ ...source, logits: device.upload(await values, shape, dtype) });
      }
      const expected = stitch({ sources, imageHeight: height, imageWidth: width, row: 0, rows: height });
      expect(Buffer.compare(labels, (await expected.labels.data()) as Uint8Array)).toBe(0);
      expect(Buffer.compare(confidence, (await expected.confidence.data()) as Uint8Array)).toBe(0);
      for (const tensor of [expected.labels, expected.confidence]) tensor.dispose();
      for (const source of sources) source.logits.dispose();
    }
  });

  test.each([1, 2])('on %i devices, four times the rows take hardly more memory', async (devices) => {
    const options = { devices, batch: 2 };
    const short = await run(2500, options);
    const tall = await run(10_000, options);
    const row = patchGrid(width, patch, patch).count * (patch / 4) ** 2 * file.config.classes.length * 4;
    // 16 rows of patches more; how many stay until a band is stitched depends on where it ends.
    for (const [place, peak] of tall.peaks.entries()) {
      expect(peak - short.peaks[place]!).toBeLessThanOrEqual((place === 0 ? 1.5 * devices : 0) * row);
    }
  });

  test.each([
    [2500, {}],
    [5000, { batch: 3 }],
    [3000, { outputs: allOutputs }],
    [3300, { batch: 1, devices: 2 }],
    [3000, { coarseToFine: { margin: 0.1 } }],
    [600, {}],
  ])('%i rows, %o: the planned peak is the peak', async (height, options) => {
    const { report, peaks } = await run(height, { ...options, memoryLimit: 1e9 });
    expect(report.plannedPeakBytes).toBe(Math.max(...peaks));
  });

  test('the limit that a plan finds is kept', async () => {
    const { peaks } = await run(5000, { memoryLimit: 1e9, batch: 4 });
    const memoryLimit = Math.floor(peaks[0]! * 0.8);
    const tight = await run(5000, { memoryLimit, batch: 4 });
    expect(tight.report.batch).toBeLessThan(4);
    expect(tight.report.plannedPeakBytes).toBe(tight.peaks[0]);
  });

  test('of more than 256 batches, a little more than the peak is planned', async () => {
    const { report, peaks } = await run(3300, { memoryLimit: 1e9, batch: 1, patch: 160 });
    expect(report.patches).toBeGreaterThan(400);
    expect(report.plannedPeakBytes).toBeGreaterThanOrEqual(peaks[0]!);
    expect(report.plannedPeakBytes).toBeLessThan(peaks[0]! * 1.1);
  });

  test('bands come while patches are computed, one at a time; patches wait for slow ones; `stitch` comes last', async () => {
    const events: (Progress | 'begin' | 'end')[] = [];
    let done = 0;
    let during = 0;
    let most = 0;
    const { report } = await run(8000, {
      batch: 2,
      onProgress: (progress) => {
        events.push(progress);
        if (progress.stage === 'patches') done = progress.done;
      },
      onBand: async (_, { row }) => {
        expect(events.at(-1)).not.toBe('begin');
        const before = done;
        events.push('begin');
        await new Promise((resolve) => setTimeout(resolve, row === 0 ? 1500 : 100));
        events.push('end');
        during += done - before;
        most = Math.max(most, done - before);
        for (const event of events.slice(events.lastIndexOf('begin'), -1)) expect(event).not.toBe('end');
      },
    });
    expect(during).toBeGreaterThan(10);
    // Two bands are less than five rows of patches, and some are computed already.
    expect(most).toBeLessThan(8 * 5);
    const stages = events.flatMap((event) => (typeof event === 'string' ? [] : [event.stage]));
    expect([...new Set(stages)]).toEqual(['read', 'patches', 'stitch']);
    expect(stages.lastIndexOf('patches')).toBeLessThan(stages.indexOf('stitch'));
    expect(events.filter((event) => typeof event === 'object').at(-1)).toEqual({
      stage: 'stitch',
      done: 8000,
      total: 8000,
    });
    expect(report.seconds.patches).toBeGreaterThan(report.seconds.stitch);
  });

  test.each([1, 2])(
    'on %i devices, a band that cannot be taken ends it, and no other comes',
    async (devices) => {
      let [taken, patches] = [0, 0];
      const failing = run(6000, {
        devices,
        outputs: allOutputs,
        onProgress: ({ stage, done }) => {
          if (stage === 'patches') patches = done;
        },
        onBand: async () => {
          taken += 1;
          await new Promise((resolve) => setTimeout(resolve, 1));
          throw new Error('no room on the disk');
        },
      });
      await expect(failing).rejects.toThrow('no room on the disk');
      expect(taken).toBe(1);
      expect(patches).toBeLessThan(patchGrid(width, 6000, patch).count);
    },
  );

  test.each([1, 2])('on %i devices, an abort ends it once the band on its way is taken', async (devices) => {
    const controller = new AbortController();
    let [begun, ended] = [0, 0];
    const aborted = run(6000, {
      devices,
      signal: controller.signal,
      onBand: async () => {
        begun += 1;
        controller.abort();
        await new Promise((resolve) => setTimeout(resolve, 200));
        ended += 1;
      },
    });
    await expect(aborted).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    expect([begun, ended]).toEqual([1, 1]);
  });

  test('a device that fails in mid-stream ends it', async () => {
    let fail = () => {};
    let taken = 0;
    const failing = run(6000, {
      onDevice: (main) => {
        // Fails in the queue: dtypes that no kernel computes with.
        fail = () => {
          using pixels = main.zeros([1, 2, 2, 3], 'float16');
          main.run('relu', { x: pixels })[0]!.dispose();
        };
      },
      onBand: () => {
        taken += 1;
        fail();
      },
    });
    await expect(failing).rejects.toMatchObject({ code: expect.stringMatching(/^ERR_/) });
    expect(taken).toBe(1);
  });
});

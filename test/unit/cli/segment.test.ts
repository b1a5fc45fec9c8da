/** `glnet segment` as a process. */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { GLNet } from '../../../src';
import { readIndexMask } from '../../../src/raster/index-mask';
import { glnet, type RunOptions } from '../../support/command';
import { tinyConfig, writeTinyModel } from '../../support/tiny-model';

const folder = mkdtempSync(path.join(tmpdir(), 'glnet-segment-'));
const at = (...names: string[]) => path.join(folder, ...names);
afterAll(() => rmSync(folder, { recursive: true }));

/** Smooth noise, so that a mask of random weights has more than one class. */
async function image(width: number, height: number, channels: 1 | 3 | 4): Promise<sharp.Sharp> {
  const size = [Math.ceil(width / 8), Math.ceil(height / 8)] as const;
  let state = 1;
  const noise = Uint8Array.from({ length: size[0] * size[1] * channels }, () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return state >>> 24;
  });
  const raw = { width: size[0], height: size[1], channels };
  return sharp(noise, { raw }).resize(width, height, { fit: 'fill' });
}

function segment(args: string[], options: RunOptions = {}) {
  return glnet(['segment', '-w', at('model.safetensors'), ...args], { cwd: folder, ...options });
}

function filesIn(name: string): string[] {
  const names = existsSync(at(name)) ? readdirSync(at(name), { recursive: true, encoding: 'utf8' }) : [];
  return names.filter((entry) => statSync(at(name, entry)).isFile()).sort();
}

beforeAll(async () => {
  await writeTinyModel(at('model.safetensors'));
  mkdirSync(at('in'));
  await (await image(150, 90, 3)).png().toFile(at('in/rgb.png'));
  await (await image(70, 64, 4)).png().toFile(at('in/rgba.png'));
  await (await image(100, 40, 1)).toColourspace('b-w').jpeg().toFile(at('in/gray.jpg'));
  await (await image(1, 1, 3)).tiff().toFile(at('in/pixel.tif'));
  mkdirSync(at('bad'));
  writeFileSync(at('bad/text.png'), 'not an image');
  writeFileSync(at('bad/short.png'), readFileSync(at('in/rgb.png')).subarray(0, 400));
  writeFileSync(at('bad/empty.jpg'), '');
});

test('masks are those of the library, with the palette, the preview and the confidence', async () => {
  const { code, stdout, stderr } = await segment(['in', '-o', 'all', '--overlay', '--confidence']);
  expect({ code, stderr: stderr.replace(/^\[\d\/4\] .*\n/gm, '') }).toEqual({ code: 0, stderr: '' });
  expect(filesIn('all')).toEqual(
    ['gray', 'pixel', 'rgb', 'rgba'].flatMap((name) => [
      `${name}.confidence.png`,
      `${name}.overlay.jpg`,
      `${name}.png`,
    ]),
  );
  expect(stdout).toMatch(/in\/rgb\.png -> all\/rgb\.png +150x90, 24 patches, /);
  expect(stdout).toMatch(
    /\n4 images segmented in .*\n +time by stage +load .*patches.*\n +patches +\d+, .*\/s\n/,
  );
  expect(stdout).toMatch(/tensor pool +[\d.]+ MB at most\n +process +[\d.]+ MB at most\n$/);

  await using model = await GLNet.load(at('model.safetensors'));
  const seen = new Set<number>();
  for (const [file, name] of Object.entries({
    'gray.jpg': 'gray',
    'pixel.tif': 'pixel',
    'rgb.png': 'rgb',
    'rgba.png': 'rgba',
  })) {
    const { width, height, labels, confidence } = await model.segment(at('in', file));
    const mask = await readIndexMask(at('all', `${name}.png`));
    expect({ ...mask, labels: [...mask.labels] }).toEqual({ width, height, labels: [...labels] });
    const gray = await readIndexMask(at('all', `${name}.confidence.png`));
    expect([...gray.labels]).toEqual([...confidence]);
    for (const label of labels) seen.add(label);
    expect(await sharp(at('all', `${name}.overlay.jpg`)).metadata()).toMatchObject({ width, height });
    const rgb = await sharp(at('all', `${name}.png`))
      .removeAlpha()
      .raw()
      .toBuffer();
    expect([...rgb.subarray(0, 3)]).toEqual([...tinyConfig.classes[labels[0]!]!.color]);
  }
  expect(seen.size).toBeGreaterThan(1);
});

test('bad files are reported and the rest goes on', async () => {
  const bad = ['bad/text.png', 'nope.png', 'bad/short.png', 'bad/empty.jpg', 'nope/*.tif'];
  const { code, stdout, stderr } = await segment([...bad, 'in/gray.jpg', '-o', 'some', '--json']);
  expect(code).toBe(1);
  expect(filesIn('some')).toEqual(['gray.png']);
  expect(stderr).toMatch(/glnet: nope\.png: no such file or folder; check the path\n/);
  expect(stderr).toMatch(/glnet: nope\/\*\.tif: no file matches this pattern\n/);
  expect(stderr).toMatch(/glnet: bad\/text\.png: not an image that can be read: it starts with "not an i"/);
  expect(stderr).toMatch(/glnet: bad\/short\.png: can't be decoded as png/);
  expect(stderr).toMatch(/glnet: bad\/empty\.jpg: is empty/);
  expect(stderr).not.toMatch(/\n {4}at /);

  const { images, totals } = JSON.parse(stdout);
  expect(
    images.map(({ path, error }: { path: string; error?: { code: string } }) => [path, error?.code]),
  ).toEqual([
    ['nope.png', 'ERR_FILE'],
    ['nope/*.tif', 'ERR_FILE'],
    ['bad/text.png', 'ERR_FILE'],
    ['bad/short.png', 'ERR_FILE'],
    ['bad/empty.jpg', 'ERR_FILE'],
    ['in/gray.jpg', undefined],
  ]);
  const number = expect.any(Number);
  const seconds = {
    load: number,
    read: number,
    global: number,
    patches: number,
    stitch: number,
    write: number,
  };
  expect(images[5]).toEqual({
    path: 'in/gray.jpg',
    output: 'some/gray.png',
    width: 100,
    height: 40,
    seconds,
    totalSeconds: number,
    patches: 4,
    patchesPerSecond: number,
    batch: 2,
    devices: ['cpu:0'],
    poolPeakBytes: number,
  });
  expect(totals).toEqual({
    images: 6,
    done: 1,
    skipped: 0,
    failed: 5,
    aborted: false,
    seconds,
    totalSeconds: number,
    patches: 4,
    patchesPerSecond: number,
    poolPeakBytes: images[5].poolPeakBytes,
    processPeakBytes: number,
  });
  expect(totals.processPeakBytes).toBeGreaterThan(totals.poolPeakBytes);
  expect(totals.poolPeakBytes).toBeGreaterThan(0);
});

test('an image too large for the limit, and one too large for the memory, are bad files', async () => {
  const limited = await segment(['in/rgb.png', 'in/pixel.tif', '-o', 'limited', '--max-pixels', '10000']);
  expect(limited.code).toBe(1);
  expect(limited.stderr).toMatch(
    /glnet: in\/rgb\.png: the image is 150x90, 13500 pixels, and the limit is 10000/,
  );
  expect(filesIn('limited')).toEqual(['pixel.png']);
  const starved = await segment(['in/rgb.png', '-o', 'starved', '--memory-limit', '1MB']);
  expect(starved.code).toBe(1);
  expect(starved.stderr).toMatch(/glnet: in\/rgb\.png: .*(memory|limit)/);
  expect(filesIn('starved')).toEqual([]);
});

test('--profile writes a trace of all ops and stages', async () => {
  const { code } = await segment(['in/rgb.png', '-o', 'profiled', '--profile', 'traces/run.json']);
  expect(code).toBe(0);
  expect(filesIn('traces')).toEqual(['run.json']);
  const { traceEvents } = JSON.parse(readFileSync(at('traces/run.json'), 'utf8'));
  const names = traceEvents.filter(({ ph }: { ph: string }) => ph === 'M');
  expect(names.map(({ args }: { args: { name: string } }) => args.name)).toEqual(['stages', 'cpu:0']);
  const spans = traceEvents.filter(({ ph }: { ph: string }) => ph === 'X');
  const of = (tid: number) => spans.filter((span: { tid: number }) => span.tid === tid);
  expect(new Set(of(0).map(({ name }: { name: string }) => name))).toEqual(
    new Set(['load', 'read', 'global', 'patches', 'stitch', 'write']),
  );
  let end = 0;
  let multiplyAdds = 0;
  for (const { cat, ts, dur, args } of of(1)) {
    expect(cat).toBe('op');
    // In order, one after the other, after the start.
    expect(ts).toBeGreaterThanOrEqual(end - 0.002);
    end = ts + dur;
    multiplyAdds += args.multiplyAdds ?? 0;
  }
  expect(of(1).map(({ name }: { name: string }) => name)).toEqual(
    expect.arrayContaining(['pack', 'conv2d', 'aggregate_conv', 'stitch']),
  );
  const model = await GLNet.load(at('model.safetensors'));
  const { report } = await model.segment(at('in/rgb.png'));
  expect(multiplyAdds).toBeCloseTo(report.multiplyAdds, -1);
  const stop = model.startProfile();
  expect(() => model.startProfile()).toThrow('a profile is being recorded already');
  expect(stop().traceEvents.filter(({ ph }) => ph === 'X')).toEqual([]);
  await model.dispose();
  expect(() => model.startProfile()).toThrow('the model was disposed of');
});

test('options reach the network', async () => {
  const { code, stdout } = await segment(
    [
      'in/rgb.png',
      '-o',
      'options',
      '--json',
      '--mode',
      'global-to-local',
      '--output',
      'local',
      '--patch',
      '100',
    ].concat([
      '--global-size',
      '32',
      '--batch',
      '1',
      '--flip-rotate',
      '--threads',
      '1',
      '--memory-limit',
      '1GB',
      '--bands',
      '3,2,1',
      '--stretch',
      '20,200',
    ]),
  );
  expect(code).toBe(0);
  const [image] = JSON.parse(stdout).images;
  expect(image).toMatchObject({ patches: 16, batch: 1 });
  expect(image.plannedPeakBytes).toBe(image.poolPeakBytes);
  await using model = await GLNet.load(at('model.safetensors'));
  const { labels } = await model.segment(at('in/rgb.png'), {
    mode: 'global-to-local',
    output: 'local',
    patch: 100,
    globalSize: 32,
    flipRotate: true,
    raster: { bands: [3, 2, 1], stretch: [20, 200] },
  });
  expect([...(await readIndexMask(at('options/rgb.png'))).labels]).toEqual([...labels]);
});

test.each<[string, string[], RegExp]>([
  ['a patch', ['--patch', '62'], /^glnet: patch is 62; expected a multiple of 4/m],
  [
    'an output',
    ['--mode', 'global', '--output', 'local'],
    /^glnet: output is local; mode global has global/m,
  ],
])('what no image could be segmented with is wrong usage: %s', async (_, args, message) => {
  const { code, stderr } = await segment(['in', '-o', 'usage', ...args]);
  expect(code).toBe(2);
  expect(stderr).toMatch(message);
  expect(filesIn('usage')).toEqual([]);
});

test('weights that cannot be used stop everything', async () => {
  for (const [weights, message] of [
    ['nope.safetensors', /^glnet: nope\.safetensors: .*no such file/m],
    ['in/rgb.png', /^glnet: in\/rgb\.png: /m],
  ] as const) {
    const { code, stdout, stderr } = await glnet(['segment', 'in', '-w', weights, '-o', 'weights'], {
      cwd: folder,
    });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(message);
  }
});

test('an output folder that is a file, or not writable, is an error', async () => {
  const file = await segment(['in/rgb.png', '-o', 'in/gray.jpg']);
  expect(file.code).toBe(1);
  expect(file.stderr).toMatch(/glnet: in\/gray\.jpg: this folder can't be made \(EEXIST\)/);
  mkdirSync(at('blocked/rgb.png'), { recursive: true });
  const blocked = await segment(['in/rgb.png', '-o', 'blocked', '--overlay', '--confidence']);
  expect(blocked.code).toBe(1);
  expect(blocked.stderr).toMatch(/glnet: in\/rgb\.png: blocked\/rgb\.png: can't be written/);
  expect(filesIn('blocked').filter((name) => name.includes('partial'))).toEqual([]);
});

test('results of the same name are refused before anything is computed', async () => {
  mkdirSync(at('same'));
  copyFileSync(at('in/pixel.tif'), at('same/x.tif'));
  copyFileSync(at('in/gray.jpg'), at('same/x.jpg'));
  const { code, stderr } = await segment(['same', '-o', 'out-same']);
  expect(code).toBe(2);
  expect(stderr).toMatch(
    /glnet: same\/x\.tif: its result out-same\/x\.png would overwrite the result of same\/x\.jpg/,
  );
  expect(filesIn('out-same')).toEqual([]);
});

test('subfolders are kept, and an output folder inside the input folder is not read', async () => {
  for (const name of ['a', 'b']) {
    mkdirSync(at('tree', name), { recursive: true });
    copyFileSync(at('in/pixel.tif'), at('tree', name, 'x.tif'));
  }
  for (let run = 0; run < 2; run++) {
    const { code, stdout } = await segment(['tree', '-r', '-o', 'tree/out', '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout).totals.done).toBe(2);
  }
  expect(filesIn('tree/out')).toEqual(['a/x.png', 'b/x.png']);
});

test('--resume skips what is complete, and only that', async () => {
  const args = ['in/pixel.tif', 'in/gray.jpg', '-o', 'resumed', '--overlay', '--json'];
  expect((await segment(args)).code).toBe(0);
  rmSync(at('resumed/gray.overlay.jpg'));
  const long = new Date(0);
  for (const name of filesIn('resumed')) utimesSync(at('resumed', name), long, long);

  const { code, stdout } = await segment([...args, '--resume']);
  expect(code).toBe(0);
  const { images, totals } = JSON.parse(stdout);
  expect(totals).toMatchObject({ images: 2, done: 1, skipped: 1, failed: 0 });
  expect(images[0]).toEqual({
    path: 'in/pixel.tif',
    output: 'resumed/pixel.png',
    overlay: 'resumed/pixel.overlay.jpg',
    skipped: true,
  });
  const isOld = (name: string) => statSync(at('resumed', name)).mtimeMs === 0;
  expect(filesIn('resumed').map((name) => [name, isOld(name)])).toEqual([
    ['gray.overlay.jpg', false],
    ['gray.png', false],
    ['pixel.overlay.jpg', true],
    ['pixel.png', true],
  ]);
  // Without it, everything is made anew.
  expect((await segment(args)).code).toBe(0);
  expect(filesIn('resumed').some(isOld)).toBe(false);
});

describe('Ctrl-C', () => {
  beforeAll(async () => {
    await (await image(1200, 1000, 3)).png().toFile(at('many-patches.png'));
    await (await image(6000, 6000, 3)).jpeg().toFile(at('large.jpg'));
  });

  /** Calls `action` once, as soon as a file of the folder has such a name. */
  function onceThereIs(name: RegExp, where: string, action: (found: string) => void): NodeJS.Timeout {
    const poll = setInterval(() => {
      const found = filesIn(where).find((file) => name.test(file));
      if (found === undefined) return;
      clearInterval(poll);
      action(found);
    }, 2);
    return poll;
  }

  test('between patch batches leaves nothing, keeps what is finished and says so', async () => {
    let poll: NodeJS.Timeout | undefined;
    const args = ['in/pixel.tif', 'many-patches.png', '-o', 'stopped', '--json'];
    const { code, stdout, stderr } = await segment(args, {
      onStart: (child) => {
        // By then the second image has been decoded; its patches take far longer.
        poll = onceThereIs(/^pixel\.png$/, 'stopped', () => setTimeout(() => child.kill('SIGINT'), 1000));
      },
    });
    clearInterval(poll);
    expect(code).toBe(130);
    expect(stderr).toMatch(/glnet: stopping at the next patch batch/);
    expect(stderr).toMatch(/glnet: stopped; 1 image not segmented, what is finished stays in stopped\./);
    expect(filesIn('stopped')).toEqual(['pixel.png']);
    const { images, totals } = JSON.parse(stdout);
    expect(images.map(({ path }: { path: string }) => path)).toEqual(['in/pixel.tif']);
    expect(totals).toMatchObject({ done: 1, failed: 0, aborted: true });
  });

  test('while results are written leaves no part of them', async () => {
    let poll: NodeJS.Timeout | undefined;
    let partial = '';
    // Large labels and an overlay that reads the image again: the second image never gets its turn.
    const args = [
      'large.jpg',
      'many-patches.png',
      '-o',
      'half',
      '--mode',
      'global',
      '--overlay',
      '--confidence',
    ];
    const { code, stderr } = await segment(args, {
      onStart: (child) => {
        poll = onceThereIs(/\.partial$/, 'half', (found) => {
          partial = found;
          child.kill('SIGINT');
        });
      },
    });
    clearInterval(poll);
    expect(partial).toMatch(/^large\./);
    expect(code).toBe(130);
    expect(stderr).toMatch(/glnet: stopped; /);
    const left = filesIn('half');
    expect(left.filter((name) => name.endsWith('.partial'))).toEqual([]);
    for (const name of left) expect(await sharp(at('half', name)).stats()).toBeDefined();
  });

  test('twice ends at once', async () => {
    // The plain device is busy with the global image for seconds.
    const args = [
      'in/rgb.png',
      '-o',
      'twice',
      '--device',
      'reference',
      '--mode',
      'global',
      '--global-size',
      '2048',
    ];
    const triggers = ['reading rows', 'stopping'];
    const { code, stderr } = await segment(args, {
      onStderr: (child, text) => {
        if (!text.includes(triggers[0] ?? '\0')) return;
        triggers.shift();
        child.kill('SIGINT');
      },
    });
    expect(code).toBe(130);
    expect(stderr).not.toMatch(/glnet: stopped/);
    expect(filesIn('twice')).toEqual([]);
  });
});

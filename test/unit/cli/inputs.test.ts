import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { findInputs, planJobs } from '../../../src/cli/inputs';

const home = process.cwd();
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'glnet-inputs-'));
  process.chdir(folder);
});
afterEach(() => {
  process.chdir(home);
  rmSync(folder, { recursive: true });
});

function files(...names: string[]): void {
  for (const name of names) {
    mkdirSync(path.dirname(name), { recursive: true });
    writeFileSync(name, '');
  }
}

async function find(sources: string[], { recursive = false, out = 'out' } = {}): Promise<[string, string][]> {
  const { inputs, problems } = await findInputs(sources, { recursive, out });
  expect(problems).toEqual([]);
  return inputs.map(({ path, name }) => [path, name]);
}

async function plan(sources: string[], out: string, recursive = false) {
  const { inputs } = await findInputs(sources, { recursive, out });
  return planJobs(inputs, out, { overlay: true, confidence: true });
}

test('a folder means its images, in the order of their numbers', async () => {
  files('in/b10.TIF', 'in/b9.jpg', 'in/notes.txt', 'in/.hidden.png', 'in/sub/c.webp', 'in/noextension');
  expect(await find(['in'])).toEqual([
    ['in/b9.jpg', 'b9'],
    ['in/b10.TIF', 'b10'],
  ]);
  expect(await find(['in/'], { recursive: true })).toEqual([
    ['in/b9.jpg', 'b9'],
    ['in/b10.TIF', 'b10'],
    ['in/sub/c.webp', 'sub/c'],
  ]);
});

test('a pattern keeps the subfolders below its fixed part', async () => {
  files('in/a/x.png', 'in/b/x.png', 'in/b/y.txt');
  expect(await find(['in/*/x.png'])).toEqual([
    ['in/a/x.png', 'a/x'],
    ['in/b/x.png', 'b/x'],
  ]);
  expect(await find([`${folder}/in/b/*.{png,txt}`])).toEqual([
    [`${folder}/in/b/x.png`, 'x'],
    [`${folder}/in/b/y.txt`, 'y'],
  ]);
});

test('a file whose name looks like a pattern is a file', async () => {
  files('scene[1].png', 'scene1.png');
  expect(await find(['scene[1].png'])).toEqual([['scene[1].png', 'scene[1]']]);
});

test('an image that is named twice, or through a link, is taken once', async () => {
  files('in/x.png');
  symlinkSync('in', 'link');
  expect(await find(['in/x.png', 'in', './in/../in/x.png', 'link/x.png', 'link'])).toEqual([
    ['in/x.png', 'x'],
  ]);
});

test('an output folder inside the input folder is not read', async () => {
  files('in/x.png', 'in/out/x.png', 'in/out/x.overlay.jpg', 'in/outer/y.png');
  const expected = [
    ['in/outer/y.png', 'outer/y'],
    ['in/x.png', 'x'],
  ];
  expect(await find(['in'], { recursive: true, out: 'in/out' })).toEqual(expected);
  expect(await find(['in/**/*.{png,jpg}'], { out: `${folder}/in/../in/out/` })).toEqual(expected);
  symlinkSync(path.join(folder, 'in/out'), 'elsewhere');
  expect(await find(['in'], { recursive: true, out: 'elsewhere' })).toEqual(expected);
});

test('what names nothing is a problem that says what to do', async () => {
  files('empty/readme.txt');
  const { inputs, problems } = await findInputs(['nope.png', 'empty', 'in/*.tif'], {
    recursive: false,
    out: 'out',
  });
  expect(inputs).toEqual([]);
  expect(problems.map(({ error }) => error.message)).toEqual([
    'nope.png: no such file or folder; check the path',
    expect.stringMatching(/^empty: this folder has no images \(\.jpg, .*--recursive/),
    'in/*.tif: no file matches this pattern',
  ]);
});

test('results are planned below the output folder', async () => {
  files('in/sub/x.tif');
  expect(await plan(['in'], 'out', true)).toEqual([
    {
      path: 'in/sub/x.tif',
      mask: 'out/sub/x.png',
      overlay: 'out/sub/x.overlay.jpg',
      confidence: 'out/sub/x.confidence.png',
    },
  ]);
});

test.each<[string, string[], string[], string, RegExp]>([
  [
    'two files',
    ['a/x.jpg', 'b/x.tif'],
    ['a/x.jpg', 'b/x.tif'],
    'out',
    /b\/x\.tif: .*would overwrite the result of a\/x\.jpg/,
  ],
  [
    'one folder',
    ['a/x.jpg', 'a/x.png'],
    ['a'],
    'out',
    /a\/x\.png: .*would overwrite the result of a\/x\.jpg/,
  ],
  [
    'a mask and a confidence',
    ['a/x.jpg', 'a/x.confidence.jpg'],
    ['a'],
    'out',
    /out\/x\.confidence\.png would overwrite/,
  ],
  [
    'an image',
    ['a/x.png'],
    ['a'],
    'a',
    /a\/x\.png would overwrite the image a\/x\.png itself; choose another output folder/,
  ],
  [
    'another image',
    ['a/x.jpg', 'b/x.png'],
    ['a', 'b/x.png'],
    'b',
    /would overwrite the image b\/x\.png itself/,
  ],
])('results that would overwrite each other are refused: %s', async (_, names, sources, out, message) => {
  files(...names);
  const problem = await plan(sources, out).catch((error) => error);
  expect(problem).toMatchObject({ code: 'ERR_INVALID_ARGUMENT', message: expect.stringMatching(message) });
});

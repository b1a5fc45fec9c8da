/** The package as its users get it: packed, installed in an empty folder, loaded, typed and run from there. */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const root = path.join(__dirname, '..', '..');
const { version } = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8')) as {
  version: string;
};
const prebuilds = path.join('prebuilds', `${process.platform}-${process.arch}`);

let folder: string;
let installed: string;
let packed: string[];

/** The environment without what an outer npm tells its scripts, which an inner npm would take for its own. */
function environment(): NodeJS.ProcessEnv {
  const inherited = /^(npm_(package|lifecycle)_|npm_config_local_prefix$|npm_command$|INIT_CWD$)/;
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !inherited.test(name)));
}

function attempt(
  cwd: string,
  program: string,
  args: string[],
  env = environment(),
): SpawnSyncReturns<string> {
  return spawnSync(program, args, { cwd, env, encoding: 'utf8', maxBuffer: 2 ** 28 });
}

/** Runs a program that must succeed; its standard output. */
function run(cwd: string, program: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = attempt(cwd, program, args);
  if (status !== 0) {
    throw new Error(`${program} ${args.join(' ')} ended with ${status ?? error}\n${stdout}\n${stderr}`);
  }
  return stdout;
}

function write(name: string, text: string): string {
  const file = path.join(folder, name);
  fs.writeFileSync(file, text);
  return file;
}

beforeAll(() => {
  folder = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'glnet-package-')));
  run(root, 'npm', 'pack', '--silent', '--pack-destination', folder);
  const tarball = `glnet-${version}.tgz`;
  packed = run(folder, 'tar', '-tzf', tarball).trim().split('\n');
  write('package.json', JSON.stringify({ private: true }));
  run(
    folder,
    'npm',
    'install',
    '--prefer-offline',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
    `./${tarball}`,
  );
  installed = path.join(folder, 'node_modules', 'glnet');
}, 600_000);

afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));

/** What only some machines load: the devices of kind cuda, and the program that checks them. */
const onDemand = ['glnet_native_test', 'libglnet_cuda.so'];

test('the tarball holds what users need and nothing else', () => {
  const tops = new Set(packed.map((file) => file.split('/')[1]));
  const needed = [
    'CMakeLists.txt',
    'LICENSE',
    'binding.d.ts',
    'dist',
    'native',
    'package.json',
    'prebuilds',
    'scripts',
  ];
  expect([...tops].filter((name) => name !== 'README.md').sort()).toEqual(needed.sort());
  expect(
    packed.filter((file) => /\.(map|tsbuildinfo|test\.\w+)$|^package\/native\/test\//.test(file)),
  ).toEqual([]);
  expect(packed.filter((file) => file.startsWith('package/scripts/')).sort()).toEqual([
    'package/scripts/cuda.sh',
    'package/scripts/native.js',
  ]);
  for (const file of [
    'dist/index.js',
    'dist/index.mjs',
    'dist/index.d.ts',
    'dist/index.d.mts',
    'dist/cli/main.js',
  ]) {
    expect(packed).toContain(`package/${file}`);
  }
  expect(packed).toContain(`package/${prebuilds}/licences/README.txt`);
});

test('the prebuilt addon is used, with the libraries beside it', () => {
  expect(fs.existsSync(path.join(installed, 'build'))).toBe(false);
  const script = write(
    'mapped.cjs',
    `require(require.resolve('node-gyp-build', { paths: [${JSON.stringify(installed)}] }))(${JSON.stringify(installed)});
     const maps = require('node:fs').readFileSync('/proc/self/maps', 'utf8');
     console.log(JSON.stringify([...new Set(maps.match(/\\/\\S*(glnet[^/]*\\.node|lib(dnnl|gomp|OpenCL)\\.so\\S*)$/gm))]));`,
  );
  const mapped = JSON.parse(run(folder, process.execPath, script)) as string[];
  expect(mapped.map((file) => path.dirname(file))).toEqual(mapped.map(() => path.join(installed, prebuilds)));
  const names = mapped.map((file) => path.basename(file).split('.')[0]).sort();
  const libraries = fs
    .readdirSync(path.join(installed, prebuilds))
    .filter((name) => name !== 'licences' && !onDemand.includes(name));
  expect(names).toEqual(libraries.map((name) => name.split('.')[0]).sort());
  expect(names).toEqual(expect.arrayContaining(['glnet', 'libdnnl']));
});

test('the CUDA library, where it was built, is loaded when it is asked for, and its program starts', () => {
  const there = onDemand.filter((name) => fs.existsSync(path.join(installed, prebuilds, name)));
  if (there.length === 0) return;
  expect(there).toEqual(onDemand);
  const addon = fs.readdirSync(path.join(installed, prebuilds)).find((name) => name.endsWith('.node'))!;
  const script = write(
    'cuda.cjs',
    `try {
       console.log(require(${JSON.stringify(path.join(installed, prebuilds, addon))}).deviceCount('cuda'));
     } catch (error) {
       console.log(error.code, error.message);
     }`,
  );
  // Devices, or the word of the library's own runtime that there is none.
  expect(run(folder, process.execPath, script)).toMatch(/^(\d+\n|ERR_NATIVE CUDA: )/);
  const program = path.join(installed, prebuilds, 'glnet_native_test');
  expect(run(folder, program, '--device', 'reference', '--op', 'relu')).toMatch(
    /^[1-9]\d* passed, 0 failed$/m,
  );
});

test('import and require give the same names and the same classes', () => {
  const script = write(
    'same.mjs',
    `import * as esm from 'glnet';
     import { GLNet, GlnetError } from 'glnet';
     import { createRequire } from 'node:module';
     const cjs = createRequire(import.meta.url)('glnet');
     const names = Object.keys(esm).filter((name) => name !== 'default' && name !== 'module.exports');
     console.log(JSON.stringify({
       esm: names.sort(),
       cjs: Object.keys(cjs).sort(),
       different: names.filter((name) => esm[name] !== cjs[name]),
       types: [typeof GLNet.load, typeof GlnetError],
     }));`,
  );
  const found = JSON.parse(run(folder, process.execPath, script));
  expect(found.esm).toEqual(found.cjs);
  expect(found).toMatchObject({ different: [], types: ['function', 'function'] });
});

test.each([
  ['require', 'bad.cjs', `const { GLNet } = require('glnet');`],
  ['import', 'bad.mjs', `import { GLNet } from 'glnet';`],
])('errors keep their code through %s', (_, name, head) => {
  const script = write(
    name,
    `${head} GLNet.load('missing.safetensors').catch((e) => console.log(e.name, e.code));`,
  );
  expect(run(folder, process.execPath, script)).toMatch(/^GlnetError ERR_[A-Z_]+\n$/);
});

test('the command runs', () => {
  const command = path.join(folder, 'node_modules', '.bin', 'glnet');
  expect(run(folder, command, '--version')).toBe(`${version}\n`);
  expect(run(folder, command, '--help')).toContain('segment');
  expect(run(folder, command, 'doctor')).toMatch(/^passes/m);
});

describe('types', () => {
  const program = (broken: boolean) => `
    import { GLNet, GlnetError, type SegmentResult } from 'glnet';
    export async function labels(file: string): Promise<Uint8Array> {
      const model: GLNet = await GLNet.load(file${broken ? ', 1, 2, 3' : ''});
      const result: SegmentResult = await model.segment(file, { signal: new AbortController().signal });
      model.dispose();
      if (!(result.labels instanceof Uint8Array)) throw new GlnetError(${broken ? 1 : `'ERR_INVALID_ARGUMENT'`}, 'no labels');
      return result.labels;
    }`;
  const compile = (file: string, text: string) => {
    const config = write(
      `${file}.json`,
      JSON.stringify({
        compilerOptions: {
          module: 'node16',
          moduleResolution: 'node16',
          target: 'es2022',
          lib: ['es2022', 'esnext.disposable'],
          strict: true,
          noEmit: true,
          types: ['node'],
          typeRoots: [path.join(root, 'node_modules', '@types')],
        },
        files: [write(file, text)],
      }),
    );
    const tsc = path.join(root, 'node_modules', 'typescript', 'bin', 'tsc');
    return attempt(folder, process.execPath, [tsc, '-p', config]).stdout;
  };

  test.each(['user.mts', 'user.cts'])('resolve from %s, library checks on', (file) => {
    expect(compile(file, program(false))).toBe('');
  });

  test('are real: wrong arguments are refused', () => {
    const messages = compile('wrong.mts', program(true));
    expect(messages).toMatch(/wrong\.mts\(4,\d+\): error TS2554/);
    expect(messages).toMatch(/wrong\.mts\(7,\d+\): error TS2345/);
  });
});

test('where neither prebuilt nor source works, the install step says what to do', () => {
  const copy = path.join(folder, 'broken');
  fs.mkdirSync(path.join(copy, 'scripts'), { recursive: true });
  fs.mkdirSync(path.join(copy, prebuilds), { recursive: true });
  fs.copyFileSync(path.join(installed, 'scripts', 'native.js'), path.join(copy, 'scripts', 'native.js'));
  fs.writeFileSync(path.join(copy, prebuilds, 'glnet.node'), 'not an addon');
  // node-gyp-build must be found, a compiler not.
  fs.symlinkSync(path.join(folder, 'node_modules'), path.join(copy, 'node_modules'));
  const { status, stderr } = attempt(copy, process.execPath, [path.join('scripts', 'native.js'), 'install'], {
    ...environment(),
    PATH: path.join(copy, 'empty'),
  });
  expect(status).toBe(1);
  expect(stderr).toContain('glnet.node');
  expect(stderr).toContain('cmake and c++ not found on the PATH');
  expect(stderr).toContain('apt-get install -y g++ cmake make libdnnl-dev');
});

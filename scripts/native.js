'use strict';

/**
 * The native addon, built or found. Plain CommonJS, because npm runs it before anything else is built.
 *
 *   node scripts/native.js build [emulator] [cuda]
 *                                    compiles build/Release/glnet.node with cmake-js (incremental), and the libraries
 *                                    of other kinds of devices beside it: 'emulator' for tests; 'cuda' with the
 *                                    toolkit that scripts/cuda.sh finds or fetches, and the program that checks it
 *   node scripts/native.js install   npm's install step on a user's machine: keeps the prebuilt addon when it
 *                                    loads, else builds from source, else says what can be done
 */

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const root = path.join(__dirname, '..');

/** A compiler takes about 1 GB for the larger files: more jobs than memory allows would end in the OOM killer. */
function jobs() {
  return Math.max(1, Math.min(os.availableParallelism(), Math.floor(os.totalmem() / 2 ** 30)));
}

function isOnPath(program) {
  return (process.env.PATH ?? '')
    .split(path.delimiter)
    .some((folder) => folder !== '' && fs.existsSync(path.join(folder, program)));
}

/**
 * A CMake cache remembers absolute paths: after the folder was moved or copied it can only be thrown away.
 * So is one that cmake-js did not configure, which knows no Node-API headers.
 */
function dropForeignCache() {
  const cache = path.join(root, 'build', 'CMakeCache.txt');
  if (!fs.existsSync(cache)) return;
  const text = fs.readFileSync(cache, 'utf8');
  const home = /^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$/m.exec(text)?.[1];
  if (home !== fs.realpathSync(root) || !text.includes('CMAKE_JS_VERSION')) {
    fs.rmSync(path.join(root, 'build'), { recursive: true, force: true });
  }
}

/** Compiles the addon, and libraries of devices. Returns undefined, or why there is none. */
function build(devices = []) {
  const missing = ['cmake', ...(process.env.CXX ? [] : ['c++'])].filter((program) => !isOnPath(program));
  if (missing.length > 0) return `${missing.join(' and ')} not found on the PATH`;
  dropForeignCache();
  const cmakeJs = path.join(path.dirname(require.resolve('cmake-js/package.json')), 'bin', 'cmake-js');
  const args = ['build', '--target', 'glnet', '--parallel', String(jobs()), '--log-level', 'warn'];
  const { status, error } = spawnSync(process.execPath, [cmakeJs, ...args], { cwd: root, stdio: 'inherit' });
  if (error) return `cmake-js could not be started: ${error.message}`;
  if (status !== 0) return `cmake-js build failed with exit code ${status} (its messages are above)`;
  for (const device of devices) {
    if (!(device === 'cuda' ? buildCuda() : cmakeBuild('build', `glnet_${device}`))) {
      return `the library of the device '${device}' was not built (messages are above)`;
    }
  }
  return undefined;
}

function cmakeBuild(folder, ...targets) {
  const args = ['--build', folder, '--target', ...targets, '--parallel', String(jobs())];
  return spawnSync('cmake', args, { cwd: root, stdio: 'inherit' }).status === 0;
}

/** In a build folder of its own, where the kernels are CUDA. */
function buildCuda() {
  const found = spawnSync('bash', ['scripts/cuda.sh'], {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (found.status !== 0) return false;
  const nvcc = path.join(found.stdout.trim(), 'bin', 'nvcc');
  const folder = path.join(root, 'build-cuda');
  // CMake cannot change a build folder's compiler.
  const cache = path.join(folder, 'CMakeCache.txt');
  const known = (line) => line.startsWith('CMAKE_CUDA_COMPILER:') && line.endsWith(`=${nvcc}`);
  if (fs.existsSync(cache) && !fs.readFileSync(cache, 'utf8').split('\n').some(known)) {
    fs.rmSync(folder, { recursive: true, force: true });
  }
  // The packed package lacks the tests.
  const hasTests = fs.existsSync(path.join(root, 'native', 'test'));
  const off = ['CPU', 'EMULATOR', 'BUILD_ADDON'].map((option) => `-DGLNET_${option}=OFF`);
  const on = ['CUDA', ...(hasTests ? ['BUILD_TESTS'] : [])].map((option) => `-DGLNET_${option}=ON`);
  const configured = spawnSync(
    'cmake',
    ['-S', '.', '-B', folder, ...on, ...off, `-DCMAKE_CUDA_COMPILER=${nvcc}`],
    {
      cwd: root,
      stdio: ['ignore', 'ignore', 'inherit'],
    },
  );
  const targets = ['glnet_cuda', ...(hasTests ? ['glnet_native_test'] : [])];
  if (configured.status !== 0 || !cmakeBuild(folder, ...targets)) return false;
  for (const file of ['libglnet_cuda.so', ...targets.slice(1)]) {
    // Beside, then renamed: the old one may be loaded.
    const target = path.join(root, 'build', 'Release', file);
    fs.copyFileSync(path.join(folder, file), `${target}.part`);
    fs.renameSync(`${target}.part`, target);
  }
  return true;
}

/**
 * Loads the addon in a process of its own, so that one built for another processor cannot take npm down.
 * Returns undefined, or why it did not load.
 */
function tryLoad() {
  const script = `require('node-gyp-build')(${JSON.stringify(root)})`;
  const child = spawnSync(process.execPath, ['-e', script], { cwd: root, encoding: 'utf8' });
  if (child.status === 0) return undefined;
  if (child.signal) return `loading it ended with ${child.signal}`;
  const message = child.stderr.split('\n').find((line) => line.startsWith('Error'));
  return message ?? (child.stderr.trim() || String(child.error));
}

function install() {
  // Only a source checkout has a tsconfig.json: there scripts/setup.sh builds, and `npm ci` stays quick.
  if (fs.existsSync(path.join(root, 'tsconfig.json'))) return;

  const fromSource = process.env.npm_config_build_from_source === 'true';
  const prebuilt = fromSource ? 'passed over, since build_from_source is set' : tryLoad();
  if (prebuilt === undefined) return;
  console.log(`glnet: prebuilt addon for ${process.platform}-${process.arch}: ${prebuilt}`);
  console.log('glnet: building the addon from source; this takes a few minutes.');
  const failure = build() ?? tryLoad();
  if (failure === undefined) return;

  console.error(`
glnet could not be installed: there is no native addon that works on this machine.
  prebuilt (${process.platform}-${process.arch}): ${prebuilt}
  from source: ${failure}
What you can do:
  Debian 12, Ubuntu 22.04 and later:
      sudo apt-get install -y g++ cmake make libdnnl-dev
  Elsewhere: install a C++20 compiler, CMake 3.22 or later and oneDNN 2.6 or later.
      If oneDNN is not in a standard place: export CMAKE_PREFIX_PATH=/path/to/onednn
  Then run npm install again.
`);
  process.exitCode = 1;
}

const command = process.argv[2];
if (command === 'install') {
  install();
} else if (command === 'build') {
  const failure = build(process.argv.slice(3));
  if (failure !== undefined) {
    console.error(`glnet: the addon was not built: ${failure}`);
    process.exitCode = 1;
  }
} else {
  console.error(`native.js: unknown command '${command ?? ''}'; expected 'build' or 'install'.`);
  process.exitCode = 2;
}

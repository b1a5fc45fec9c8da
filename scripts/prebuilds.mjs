/**
 * Lays out prebuilds/<platform>-<arch>/: the addon as node-gyp-build finds it, beside it the shared libraries
 * that a user's machine may lack, and their licences. Run it on the oldest system to be supported: the C library
 * of the machine it runs on is the floor.
 *
 * prebuildify names, strips and copies; it can only start node-gyp, so it is given a program that has nothing left
 * to build, and a folder of its own, because it moves the addon out of the folder it was built in.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import prebuildify from 'prebuildify';

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '..');
const built = path.join(root, 'build', 'Release', 'glnet.node');
const staging = path.join(root, 'build', 'prebuilds');
const target = path.join(root, 'prebuilds', `${process.platform}-${process.arch}`);

/** Part of every system that runs Node.js, and tied to its kernel or compiler: never shipped. */
const SYSTEM = /^(ld-linux.*|linux-vdso|lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s))\.so\b/;
/** What oneDNN is made of: itself, the OpenMP runtime, and the OpenCL loader that Debian's build links. */
const SHIPPED = /^lib(dnnl|gomp|OpenCL)\.so\.\d+$/;

const run = (program, ...args) => execFileSync(program, args, { encoding: 'utf8' });

/** Shared libraries that the addon needs, its dependencies' dependencies included, as [name, file]. */
function sharedLibraries(addon) {
  const libraries = [];
  for (const line of run('ldd', addon).split('\n')) {
    const match = /^\s*(\S+)(?: => (\S+))?/.exec(line);
    if (!match) continue;
    const name = path.basename(match[1]);
    if (SYSTEM.test(name)) continue;
    if (!SHIPPED.test(name)) {
      throw new Error(
        `${addon} needs ${name}, which is neither in SYSTEM nor in SHIPPED of scripts/prebuilds.mjs.`,
      );
    }
    if (!match[2]?.startsWith('/'))
      throw new Error(`${addon} needs ${name}, which this system does not have.`);
    libraries.push([name, fs.realpathSync(match[2])]);
  }
  return libraries;
}

/** An old-style RPATH serves the libraries' own dependencies as well; a RUNPATH would serve the addon's only. */
function checkRpath(addon) {
  const dynamic = run('readelf', '--dynamic', '--wide', addon);
  const rpath = /\(RPATH\)\s+Library rpath: \[(.*)\]/.exec(dynamic)?.[1];
  if (rpath !== '$ORIGIN') {
    throw new Error(
      `${addon} has the RPATH ${rpath ?? '(none)'}; expected $ORIGIN and no other folder. In CMakeLists.txt: ` +
        'BUILD_RPATH "$ORIGIN" and the link option -Wl,--disable-new-dtags; oneDNN from a system folder.',
    );
  }
}

/** One of another version would be refused on the user's machine; that there is no GPU here does not matter. */
function checkCuda() {
  const name = fs.readdirSync(target).find((file) => file.endsWith('.node'));
  const addon = createRequire(import.meta.url)(path.join(target, name));
  try {
    addon.deviceCount('cuda');
  } catch (error) {
    if (/belongs to|does not load/.test(error.message)) throw error;
  }
}

/** Debian keeps the copyright and licence of each package in one file, and the long licences in a shared folder. */
function writeLicences(libraries, folder) {
  fs.mkdirSync(folder, { recursive: true });
  const lines = ['Shared libraries in the folder above, as Debian ships them but for stripped symbols:', ''];
  const common = new Set();
  for (const [name, file] of libraries) {
    const owner = run('dpkg-query', '--search', file).split(': ')[0];
    // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query expands them
    const source = run('dpkg-query', '--show', '--showformat=${source:Package}=${source:Version}', owner);
    const packageName = owner.split(':')[0];
    const copyright = fs.readFileSync(path.join('/usr/share/doc', packageName, 'copyright'), 'utf8');
    fs.writeFileSync(path.join(folder, `${packageName}.txt`), copyright);
    for (const [, licence] of copyright.matchAll(/\/usr\/share\/common-licenses\/([\w.-]*\w)/g))
      common.add(licence);
    lines.push(`${name}: licence in ${packageName}.txt, source by apt-get source ${source}`);
  }
  for (const licence of common) {
    fs.copyFileSync(path.join('/usr/share/common-licenses', licence), path.join(folder, `${licence}.txt`));
  }
  lines.push(
    '',
    'libglnet_cuda.so, where it is there, holds the CUDA runtime, linked from NVIDIA’s libcudart_static.a.',
  );
  fs.writeFileSync(path.join(folder, 'README.txt'), `${lines.join('\n')}\n`);
}

if (process.platform !== 'linux') {
  throw new Error(`prebuilds are made on Linux (Debian or Ubuntu); this is ${process.platform}.`);
}
execFileSync(process.execPath, [path.join(root, 'scripts', 'native.js'), 'build'], { stdio: 'inherit' });
checkRpath(built);
const libraries = sharedLibraries(built);

fs.rmSync(staging, { recursive: true, force: true });
fs.rmSync(target, { recursive: true, force: true });
const output = path.join(staging, 'build', 'Release');
fs.mkdirSync(output, { recursive: true });
for (const [name, file] of [['glnet.node', built], ...libraries])
  fs.copyFileSync(file, path.join(output, name));
await promisify(prebuildify)({
  name: 'glnet',
  cwd: staging,
  out: root,
  napi: true,
  tagLibc: true,
  strip: true,
  nodeGyp: 'true',
});
// With its checking program; it holds the CUDA runtime and needs nothing but a driver.
for (const name of ['libglnet_cuda.so', 'glnet_native_test']) {
  const file = path.join(path.dirname(built), name);
  if (fs.existsSync(file)) fs.copyFileSync(file, path.join(target, name));
  else console.log(`prebuilds: without ${name}; to have it, run: node scripts/native.js build cuda`);
}
checkCuda();
writeLicences(libraries, path.join(target, 'licences'));
fs.rmSync(staging, { recursive: true, force: true });

for (const name of fs.readdirSync(target)) {
  const file = path.join(target, name);
  console.log(`${path.relative(root, file)}  ${(fs.statSync(file).size / 1e6).toFixed(1)} MB`);
}

/**
 * Registers and shared memory of every CUDA kernel, as compiled for each architecture.
 *
 *   node scripts/cuda-resources.js            writes docs/cuda-kernels.md
 *   node scripts/cuda-resources.js --check    compares with it, and fails on what `compare` refuses
 *
 * Reads, with cuobjdump, the objects in build-cuda, which `bash scripts/test.sh cuda` makes. The last line of
 * --check is 'N passed, M failed', where a file and a kernel count as one each.
 */
const { execFileSync } = require('node:child_process');
const { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } = require('node:fs');
const path = require('node:path');

const root = path.join(__dirname, '..');
const build = path.join(root, 'build-cuda');
const table = path.join(root, 'docs', 'cuda-kernels.md');
const renew = 'if this is meant, run: node scripts/cuda-resources.js';

/** Of a multiprocessor, of which two blocks are to fit at the least. */
const REGISTERS = 65536;
/** Threads of a block where a kernel has no __launch_bounds__. */
const THREADS = 256;
/** Growth of a kernel's registers that may come from an innocent change. */
const MORE_REGISTERS = 8;
/** Bytes that the system takes of a kernel's shared memory on sm_90 and later; cuobjdump counts them in. */
const RESERVED_SHARED = 1024;

function fail(message) {
  console.error(`cuda-resources: ${message}`);
  process.exit(1);
}

function cached(name) {
  const file = path.join(build, 'CMakeCache.txt');
  if (!existsSync(file)) fail('there is no build-cuda; run: bash scripts/test.sh cuda');
  return new RegExp(`^${name}:[A-Z]+=(.*)$`, 'm').exec(readFileSync(file, 'utf8'))?.[1] ?? '';
}

const nvcc = cached('CMAKE_CUDA_COMPILER');
const archs = cached('GLNET_CUDA_ARCHITECTURES')
  .split(';')
  .map((arch) => Number.parseInt(arch, 10));

/** 'void glnet::cuda::(anonymous namespace)::long_rows_kernel<float>(float const*)' -> 'long_rows_kernel<float>' */
function shortName(demangled) {
  const name = demangled.replaceAll(/\(anonymous namespace\)::|glnet::(cuda::)?/g, '').replace(/^void /, '');
  let depth = 0;
  for (let i = 0; i < name.length; ++i) {
    if (name[i] === '<') ++depth;
    else if (name[i] === '>') --depth;
    else if (name[i] === '(' && depth === 0) return name.slice(0, i);
  }
  return name;
}

function cuobjdump(option, object) {
  // Its remarks on the debug sections are of no use; an error has what it wrote in its message.
  const options = { encoding: 'utf8', maxBuffer: 2 ** 30, stdio: 'pipe' };
  return execFileSync(path.join(path.dirname(nvcc), 'cuobjdump'), [option, object], options);
}

/** Threads a block by the mangled name of each kernel that has __launch_bounds__. */
function readBounds(object) {
  const bounds = new Map();
  let name = '';
  let next = false;
  for (const line of cuobjdump('--dump-elf', object).split('\n')) {
    if (line.startsWith('.'))
      name = line.startsWith('.nv.info.') ? line.slice('.nv.info.'.length).trim() : '';
    else if (line.includes('EIATTR_MAX_THREADS')) next = true;
    else if (next && line.includes('Value:')) {
      const sides = line.match(/0x[0-9a-f]+/g).map(Number);
      if (name) bounds.set(name, sides[0] * sides[1] * sides[2]);
      next = false;
    }
  }
  return bounds;
}

/** The kernels that an object holds: { threads, shared, stack and registers by architecture }. */
function readObject(object) {
  const bounds = readBounds(object);
  const text = cuobjdump('--dump-resource-usage', object);
  const found = [];
  let arch = 0;
  let name = '';
  for (const line of text.split('\n')) {
    const usage = /REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)/.exec(line)?.slice(1).map(Number);
    if (line.startsWith('arch = ')) arch = Number(/\d+/.exec(line)[0]);
    else if (line.startsWith(' Function ')) name = /Function (.*):/.exec(line)[1];
    else if (usage && name) {
      const [registers, stack, shared, local] = usage;
      found.push({ name, arch, registers, stack: stack + local, shared });
      name = '';
    }
  }
  const demangled = execFileSync('c++filt', { input: found.map((k) => k.name).join('\n'), encoding: 'utf8' });
  const kernels = new Map();
  for (const [i, name] of demangled.split('\n').slice(0, found.length).entries()) {
    const { arch, registers, stack, shared } = found[i];
    const kernel = shortName(name);
    if (!kernels.has(kernel)) {
      kernels.set(kernel, {
        threads: bounds.get(found[i].name),
        shared: 0,
        stack: new Map(),
        registers: new Map(),
      });
    }
    const row = kernels.get(kernel);
    if (row.registers.has(arch)) fail(`two kernels of ${object} are called ${kernel}`);
    row.registers.set(arch, registers);
    if (stack > 0) row.stack.set(arch, stack);
    row.shared = Math.max(row.shared, arch >= 90 && shared > 0 ? shared - RESERVED_SHARED : shared);
  }
  return kernels;
}

/** The kernels as built, by 'file kernel'; reports files that were not compiled as they ought to be. */
function readBuild(report) {
  const kernels = new Map();
  const objects = path.join(build, 'native', 'cuda', 'CMakeFiles');
  const files = readdirSync(path.join(root, 'native', 'cuda')).filter((file) => file.endsWith('.cu'));
  for (const file of files.sort()) {
    const object = path.join(objects, 'glnet_cuda.dir', `${file}.o`);
    const wrong = [];
    if (existsSync(object)) {
      const found = readObject(object);
      // Without kernels a file needs no code. One that is taken to have none is compiled for one architecture.
      const missing = archs.filter((arch) =>
        [...found.values()].some(({ registers }) => !registers.has(arch)),
      );
      if (missing.length > 0) wrong.push(`has no code for sm_${missing.join(', sm_')}`);
      for (const [name, row] of [...found].sort()) {
        kernels.set(`${file} ${name}`, { file, name, ...row });
      }
    } else {
      wrong.push('was not compiled');
    }
    report(file, wrong);
  }
  return kernels;
}

function format(kernels, release) {
  const rows = [...kernels.values()].map(({ file, name, threads, shared, registers }) => [
    `\`${file}\``,
    `\`${name}\``,
    threads ?? '-',
    shared,
    ...archs.map((arch) => registers.get(arch) ?? '-'),
  ]);
  const lines = [['file', 'kernel', 'threads', 'shared', ...archs.map((arch) => `sm_${arch}`)], [], ...rows];
  lines[1] = lines[0].map((_, i) => (i < 2 ? '---' : '---:'));
  return `# CUDA kernels

Every kernel as CUDA ${release} compiles it: the threads of a block that \`__launch_bounds__\` names, bytes of static shared
memory a block, and registers a thread by architecture. None has a stack frame, and so none spills. Made by
\`node scripts/cuda-resources.js\`; the stage \`cuda\` of the tests compares with it.

${lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n')}
`;
}

/** The committed table: the release it was made with, and the kernels. */
function readTable() {
  const text = existsSync(table) ? readFileSync(table, 'utf8') : '';
  const rows = text
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .map((line) => line.split('|').slice(1, -1))
    .map((cells) => cells.map((cell) => cell.trim().replaceAll('`', '')));
  const [header = [], , ...body] = rows;
  const kernels = new Map(
    body.map(([file, name, , shared, ...registers]) => [
      `${file} ${name}`,
      {
        shared: Number(shared),
        registers: new Map(registers.map((cell, i) => [Number(header[4 + i].slice(3)), Number(cell)])),
      },
    ]),
  );
  return { release: /as CUDA (\S+) compiles/.exec(text)?.[1], kernels };
}

/** What is wrong with a kernel. `before` is its row of the table; without `grown`, how it grew is no matter. */
function compare(now, before, grown) {
  const wrong = [];
  for (const [arch, bytes] of now.stack) {
    wrong.push(`has a stack frame of ${bytes} bytes on sm_${arch}: it spills, or indexes an array`);
  }
  const threads = now.threads ?? THREADS;
  const most = Math.floor(REGISTERS / 2 / threads);
  for (const [arch, registers] of now.registers) {
    if (registers > most) {
      wrong.push(
        `takes ${registers} registers on sm_${arch}, more than ${most}: no two blocks of ${threads} threads fit`,
      );
    }
    const old = before?.registers.get(arch);
    if (grown && registers > old + MORE_REGISTERS) {
      wrong.push(`takes ${registers} registers on sm_${arch}, where it took ${old}; ${renew}`);
    }
  }
  if (!before) wrong.push(`is not in the table; ${renew}`);
  else if (grown && now.shared > before.shared) {
    wrong.push(`takes ${now.shared} bytes of shared memory, where it took ${before.shared}; ${renew}`);
  }
  return wrong;
}

let passed = 0;
let failed = 0;
function report(what, wrong) {
  if (wrong.length === 0) ++passed;
  else ++failed;
  for (const text of wrong) console.log(`FAILED ${what} ${text}`);
}

const option = process.argv[2] ?? '';
if (!['', '--check'].includes(option)) fail(`unknown option '${option}'; expected --check or nothing`);
const release = /release (\S+),/.exec(execFileSync(nvcc, ['--version'], { encoding: 'utf8' }))[1];
const kernels = readBuild(report);
if (option === '--check') {
  const before = readTable();
  const grown = before.release === release;
  if (!grown) {
    console.log(`The table is of CUDA ${before.release}, and this is ${release}: growth is not compared.`);
  }
  for (const [key, kernel] of kernels) report(key, compare(kernel, before.kernels.get(key), grown));
  for (const key of before.kernels.keys()) {
    if (!kernels.has(key)) report(key, [`is in the table, and is not there any more; ${renew}`]);
  }
  console.log(`${passed} passed, ${failed} failed`);
} else if (failed === 0) {
  for (const [key, { stack }] of kernels) {
    if (stack.size > 0) fail(`${key} has a stack frame; the table is for kernels without one (see --check)`);
  }
  writeFileSync(`${table}.part`, format(kernels, release));
  renameSync(`${table}.part`, table);
  console.log(`${path.relative(root, table)}: ${kernels.size} kernels`);
}
process.exitCode = failed > 0 ? 1 : 0;

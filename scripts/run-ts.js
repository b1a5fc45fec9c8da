'use strict';

/** Runs a TypeScript program of this repository on Node 20: node scripts/run-ts.js bench/model.ts [arguments] */

const fs = require('node:fs');
const path = require('node:path');
const { transformSync } = require('@swc/core');

require.extensions['.ts'] = (module, filename) => {
  const { code } = transformSync(fs.readFileSync(filename, 'utf8'), {
    filename,
    swcrc: false,
    jsc: { parser: { syntax: 'typescript' }, target: 'es2022' },
    module: { type: 'commonjs' },
    sourceMaps: 'inline',
  });
  module._compile(code, filename);
};
process.setSourceMapsEnabled(true);

const program = process.argv[2];
if (program === undefined) {
  console.error('run-ts.js: name the program to run, for example: node scripts/run-ts.js bench/model.ts');
  process.exitCode = 2;
} else {
  process.argv.splice(1, 2, path.resolve(program));
  require(path.resolve(program));
}

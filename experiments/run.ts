/** Runs an experiment by its name: npm run experiment -- blue-marble [its options] */
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';

const names = readdirSync(__dirname).filter((name) => existsSync(path.join(__dirname, name, 'run.ts')));
const [name] = process.argv.splice(2, 1);
if (name !== undefined && names.includes(name)) {
  require(path.join(__dirname, name, 'run.ts'));
} else {
  console.error(`experiment: ${name ?? 'no name'} was given; expected one of ${names.join(', ')}`);
  process.exitCode = 2;
}

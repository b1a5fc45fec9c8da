// Tests get a copy of the environment, too late for the OpenMP runtime: see src/binding.ts.
process.env.GOMP_SPINCOUNT ??= '5000';

const swc = ['@swc/jest', { jsc: { target: 'es2022' }, module: { type: 'commonjs' } }];

/** @type {import('jest').Config} */
module.exports = {
  testEnvironment: 'node',
  testMatch: ['<rootDir>/test/**/*.test.ts'],
  // quick-lru, a dependency of geotiff, ships only as an ES module, which jest cannot require.
  transform: { '^.+\\.ts$': swc, '/node_modules/quick-lru/.+\\.js$': swc },
  transformIgnorePatterns: ['/node_modules/(?!quick-lru/)'],
  testTimeout: 120_000,
  maxWorkers: 1,
  // With a limit jest runs the test files in a child process, not in its own: a crash costs one file, not the run.
  workerIdleMemoryLimit: '4GB',
};

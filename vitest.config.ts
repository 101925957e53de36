import { defineConfig } from 'vitest/config';

/** Suites of a minute of work with no clock in them: two at a time, after the others, whose servers must answer in time. */
const HEAVY = ['apps/auth-api/test/property/sessions-model.test.ts', 'packages/bench/test/{bench,soak}.test.ts'];

/** Suites that keep every core busy by themselves: one at a time. */
const ALONE = [
  'apps/auth-api/test/overload/ten-times.test.ts',
  'apps/auth-api/test/property/storm.test.ts',
  'apps/auth-api/test/races/{refresh,revoke-all}.test.ts',
  'packages/infra-checks/test/images.test.ts',
];

/** Run when asked for: images take minutes (`IMAGES=auth-api`, or `all`). */
const ON_REQUEST = process.env.IMAGES === undefined ? ['packages/infra-checks/test/images.test.ts'] : [];

const common = {
  // Suites talk to real servers and spawn real processes on as little as two cores.
  testTimeout: 60_000,
  hookTimeout: 60_000,
  setupFiles: ['packages/dev-stack/src/test-patience.ts'],
  expect: { poll: { timeout: 20_000 } },
};

export default defineConfig({
  test: {
    globalSetup: ['packages/dev-stack/src/test-stack.ts'],
    projects: [
      {
        test: {
          ...common,
          name: 'suites',
          include: ['apps/*/test/**/*.test.ts', 'packages/*/test/**/*.test.ts'],
          exclude: [...HEAVY, ...ALONE],
          // Three starve each other on two cores: a server that must answer within 750 ms then does not.
          maxWorkers: 2,
          // A suite in the process of the one before: two seconds of a core less for each. Its servers and keys are its own all the same.
          isolate: false,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          ...common,
          name: 'heavy',
          include: HEAVY,
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          ...common,
          name: 'alone',
          include: ALONE,
          exclude: ON_REQUEST,
          maxWorkers: 1,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});

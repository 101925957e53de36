/** `npm test`: lint, dead code, types, tests, in this order, up to the first that fails; then one line of counts. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { inheritedEnvironment } from './environment.ts';
import { startProcess, stopAllProcesses, temporaryFolder } from './processes.ts';
import { elapsed } from './progress.ts';
import { repositoryRoot } from './repository.ts';
import { StackFailure } from './stack-failure.ts';
import { stopRequestOfProcess } from './stop-request.ts';
import { ensureProgram, ensureRedis } from './system-programs.ts';
import { countResults, summaryLine, type TestResults } from './test-results.ts';

type Step = { readonly name: string; readonly command: readonly [program: string, ...args: string[]] };

const NOTHING: TestResults = { passed: 0, failed: 1, skipped: [] };
/** What some suites need; without it their tests are skipped by name. */
const OPTIONAL_PROGRAMS = [
  {
    names: ['chromium', 'chromium-browser', 'google-chrome'],
    aptPackage: 'chromium',
    missing: 'Chromium is missing and cannot be installed from here: the tests that need a browser are skipped.',
  },
  {
    names: ['faketime'],
    aptPackage: 'faketime',
    missing: 'faketime is missing and cannot be installed from here: the tests with clocks that differ are skipped.',
  },
  ...['nginx', 'caddy', 'haproxy'].map((gateway) => ({
    names: [gateway],
    aptPackage: gateway,
    missing: `${gateway} is missing and cannot be installed from here: the tests behind it are skipped.`,
  })),
  {
    names: ['pgbouncer'],
    aptPackage: 'pgbouncer',
    missing: 'PgBouncer is missing and cannot be installed from here: the tests through it are skipped.',
  },
  {
    names: ['postfix'],
    aptPackage: 'postfix',
    missing: 'Postfix is missing and cannot be installed from here: the test through it is skipped.',
  },
  {
    names: ['promtool'],
    aptPackage: 'prometheus',
    missing: 'promtool is missing and cannot be installed from here: the tests of the alert rules are skipped.',
  },
  {
    names: ['openssl'],
    aptPackage: 'openssl',
    missing: 'openssl is missing and cannot be installed from here: the tests of TLS to Redis are skipped.',
  },
];
const bin = (name: string): string => join(repositoryRoot, 'node_modules', '.bin', name);
const say = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

/** Where Node keeps what it has compiled, for this run: of the four seconds of a core that an app takes to start it saves half a one. */
const compileCache = temporaryFolder('compile-cache');

const stop = stopRequestOfProcess();
const interrupted = stop.asked.then(() => undefined);
const results = await Promise.race([testRun(process.argv.slice(2)), interrupted]);
if (results === undefined) {
  await stopAllProcesses();
  say('\nInterrupted.');
}
const { passed, failed, skipped } = results ?? NOTHING;
say(`\n${summaryLine({ passed, failed, skipped })}`);
process.exit(results === undefined ? 130 : failed === 0 ? 0 : 1);

/** @param args For vitest: file name filters, `-t` and so on. */
async function testRun(args: readonly string[]): Promise<TestResults> {
  const reportFile = join(temporaryFolder('test-report'), 'report.json');
  const before: Step[] = [
    { name: 'lint', command: [bin('biome'), 'check', '--error-on-warnings', '.'] },
    { name: 'dead code', command: [bin('knip'), '--treat-config-hints-as-errors'] },
    { name: 'types', command: ['npx', '--yes', '-p', pinnedPnpm(), '-c', 'turbo run typecheck'] },
  ];
  for (const step of before) {
    if (!(await succeeds(step))) {
      return NOTHING;
    }
  }
  try {
    await ensureRedis(say);
  } catch (error) {
    if (error instanceof StackFailure) {
      say(error.message);
      return NOTHING;
    }
    throw error;
  }
  for (const { names, aptPackage, missing } of OPTIONAL_PROGRAMS) {
    if ((await ensureProgram(names, aptPackage, say)) === undefined) {
      say(missing);
    }
  }
  const allPassed = await succeeds({
    name: 'tests',
    command: [
      bin('vitest'),
      'run',
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${reportFile}`,
      ...args,
    ],
  });
  const counted = countResults(readReport(reportFile));
  if (counted.skipped.length > 0) {
    say(`\nSkipped:\n${counted.skipped.map((name) => `  - ${name}`).join('\n')}`);
  }
  // Vitest also fails for what is no test's fault: an unhandled rejection, a teardown, no test at all.
  return allPassed ? counted : { ...counted, failed: Math.max(counted.failed, 1) };
}

async function succeeds({ name, command: [program, ...args] }: Step): Promise<boolean> {
  say(`\n── ${name}`);
  const start = performance.now();
  const { ended } = startProcess({
    command: program,
    args,
    cwd: repositoryRoot,
    env: { ...inheritedEnvironment(), NODE_COMPILE_CACHE: compileCache },
    endSignal: 'SIGTERM',
    output: 'inherit',
  });
  const { code } = await ended;
  say(`── ${name}: ${code === 0 ? 'passed' : `failed (exit code ${code})`} (${elapsed(start)})`);
  return code === 0;
}

/** turbo calls pnpm by its name, which a fresh machine has not: npx puts the pinned one on the PATH. */
function pinnedPnpm(): string {
  const manifest = JSON.parse(readFileSync(join(repositoryRoot, 'package.json'), 'utf8')) as { packageManager: string };
  return manifest.packageManager.split('+')[0] ?? 'pnpm';
}

function readReport(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as unknown;
  } catch {
    return undefined;
  }
}

/**
 * What `npm start`, `npm test`, `npm run tour` and `npm run bench` run on the machine's own Node (20 or later), before
 * anything is installed: plain JavaScript without a dependency. It installs what the lockfile names, generates the Prisma
 * client, and hands over to the Node that package.json pins.
 */
import { spawn } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { homedir, constants as osConstants, userInfo } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const OLDEST_NODE = 20;
/** How often the launcher looks whether npm is still there. */
const WATCH_MS = 500;

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const bin = join(root, 'node_modules', '.bin');
const node = join(bin, 'node');
const scripts = {
  start: 'packages/dev-stack/src/start.ts',
  test: 'packages/dev-stack/src/test-run.ts',
  tour: 'packages/dev-stack/src/tour.ts',
  bench: 'packages/bench/src/main.ts',
};

/** A problem the person can solve: shown without a stack trace. */
class Problem extends Error {}

/** The program that runs now, if one does, and whether somebody wants all of it to end. */
let current;
let stopAsked = false;

// Ctrl-C reaches npm, the shell, this process and the program alike. Whoever asked, the program decides when it is over.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    stopAsked = true;
    current?.kill(signal);
  });
}
watchNpm();

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof Problem)) {
    throw error;
  }
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}

async function main([command, ...args]) {
  // `npm start --fresh`, without the `--`: npm keeps the flag for itself and says so here.
  if (command === 'start' && process.env.npm_config_fresh === 'true' && !args.includes('--fresh')) args.push('--fresh');
  const script = Object.hasOwn(scripts, command ?? '') ? scripts[command] : undefined;
  if (script === undefined) {
    throw new Problem(`usage: node packages/dev-stack/launch.mjs ${Object.keys(scripts).join('|')} [options]`);
  }
  checkMachine();
  checkFolder();
  const env = environment();
  await install(env);
  await generate(env);
  return stopAsked ? 130 : run(node, [join(root, script), ...args], env, ['inherit', 'inherit', 'inherit', 'ipc']);
}

function checkMachine() {
  if (Number(process.versions.node.split('.')[0]) < OLDEST_NODE) {
    throw new Problem(
      `Node ${process.versions.node} is too old: install Node ${OLDEST_NODE} or later (https://nodejs.org).`,
    );
  }
  if (process.platform === 'win32') {
    throw new Problem('On Windows, run this inside WSL (https://learn.microsoft.com/windows/wsl/install).');
  }
}

function checkFolder() {
  for (const folder of [root, join(root, 'node_modules')].filter((path) => existsSync(path))) {
    try {
      accessSync(folder, constants.W_OK | constants.X_OK);
    } catch (error) {
      throw new Problem(
        `The folder ${folder} cannot be written by ${userInfo().username} (${error.code}). ` +
          'Dependencies and state are kept there: own it (sudo chown -R "$USER" …), or clone somewhere you may write.',
      );
    }
  }
}

function environment() {
  return {
    ...process.env,
    ...homeToUse(),
    PATH: [bin, process.env.PATH ?? ''].join(delimiter),
    // The version is pinned by what we call; a registry that lacks some platform's build of it must not stop us.
    pnpm_config_pm_on_fail: 'ignore',
    pnpm_config_update_notifier: 'false',
    TURBO_TELEMETRY_DISABLED: '1',
    DO_NOT_TRACK: '1',
  };
}

/** npm and pnpm keep their caches in the home folder; a user without a usable one gets one here. */
function homeToUse() {
  const home = homedir();
  try {
    accessSync(home, constants.W_OK | constants.X_OK);
    return {};
  } catch {
    const own = join(root, '.latchkey', 'home');
    mkdirSync(own, { recursive: true, mode: 0o700 });
    return { HOME: own, npm_config_cache: join(own, '.npm') };
  }
}

/** Installs unless what is installed is what the lockfile names: pnpm keeps a copy of the lockfile it has installed. */
async function install(env) {
  if (isInstalled()) {
    return;
  }
  const { packageManager } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const pnpm = packageManager.split('+')[0];
  const start = Date.now();
  process.stderr.write(`Installing dependencies with ${pnpm} (the first time, this takes about half a minute)\n`);
  const reporter = process.stdout.isTTY ? 'default' : 'append-only';
  const args = ['--yes', pnpm, 'install', '--frozen-lockfile', `--reporter=${reporter}`];
  // On the machine's own Node: the pinned one may be what is being installed.
  const status = await run(
    'npx',
    args,
    { ...env, PATH: process.env.PATH, npm_config_update_notifier: 'false' },
    'inherit',
  );
  if (stopAsked) {
    throw new Problem('Stopped while installing. Run it again to go on.');
  }
  if (status !== 0 || !isInstalled()) {
    throw new Problem(
      `Installing failed (exit code ${status}), see above. It needs the npm registry (npm config get registry); ` +
        'if node_modules is damaged, delete it. Then run this again.',
    );
  }
  process.stderr.write(`Dependencies installed (${seconds(start)})\n`);
}

function isInstalled() {
  return (
    existsSync(node) &&
    sameContent(join(root, 'pnpm-lock.yaml'), join(root, 'node_modules', '.pnpm', 'lock.yaml')) &&
    ['apps', 'packages'].every((group) =>
      readdirSync(join(root, group)).every(
        (name) =>
          !existsSync(join(root, group, name, 'package.json')) || existsSync(join(root, group, name, 'node_modules')),
      ),
    )
  );
}

function sameContent(one, other) {
  return existsSync(one) && existsSync(other) && readFileSync(one).equals(readFileSync(other));
}

/** Writes the Prisma client when there is none, or an older one than the schema or the installed Prisma. */
async function generate(env) {
  const shared = join(root, 'packages', 'shared');
  const made = modified(join(shared, 'src', 'generated', 'prisma', 'client.ts'));
  const sources = [join(shared, 'prisma', 'schema.prisma'), join(root, 'node_modules', '.pnpm', 'lock.yaml')];
  if (stopAsked || (made > 0 && sources.every((source) => modified(source) <= made))) {
    return;
  }
  const start = Date.now();
  const status = await run(node, [join(shared, 'prisma', 'generate.ts')], env, 'inherit');
  if (status !== 0) {
    throw new Problem(`The Prisma client could not be generated (exit code ${status}), see above.`);
  }
  process.stderr.write(`Prisma client generated (${seconds(start)})\n`);
}

function modified(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

/** Runs a program in the repository and resolves to its exit code; 128 + n when a signal n ended it, as shells say it. */
function run(program, args, env, stdio) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: root, env, stdio });
    current = child;
    child.once('error', (error) => reject(new Problem(`${program} could not be started: ${error.message}`)));
    child.once('exit', (code, signal) => {
      current = undefined;
      resolve(code ?? 128 + osConstants.signals[signal]);
    });
  });
}

/**
 * npm that is killed with -9 tells nobody, and the shell between us goes on waiting: so we look. When we ourselves are
 * killed, the program notices by the closed channel (stop-request.ts).
 */
function watchNpm() {
  const above = process.env.npm_lifecycle_event === undefined ? [] : processesUpToNpm();
  const timer = setInterval(() => {
    if (above.some(({ pid, startedAt }) => lookUp(pid)?.startedAt !== startedAt)) {
      clearInterval(timer);
      stopAsked = true;
      current?.kill('SIGTERM');
    }
  }, WATCH_MS);
  timer.unref();
}

/** Our parent, and its parents up to npm: the shell npm runs scripts with may stand between. Linux only. */
function processesUpToNpm() {
  const found = [];
  for (let pid = process.ppid; pid > 1 && found.length < 3; ) {
    const ancestor = lookUp(pid);
    if (ancestor === undefined) {
      return [];
    }
    found.push(ancestor);
    if (ancestor.name.startsWith('npm')) {
      return found;
    }
    pid = ancestor.parent;
  }
  return [];
}

/** proc(5), stat: the name in brackets, then state, parent, … and, 20th, the start time. */
function lookUp(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const end = stat.lastIndexOf(')');
    const fields = stat.slice(end + 2).split(' ');
    const gone = fields[0] === 'Z' || fields[0] === 'X';
    const name = stat.slice(stat.indexOf('(') + 1, end);
    return gone ? undefined : { pid, name, parent: Number(fields[1]), startedAt: fields[19] };
  } catch {
    return undefined;
  }
}

function seconds(start) {
  return `${((Date.now() - start) / 1000).toFixed(1)} s`;
}

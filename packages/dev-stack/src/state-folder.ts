/** The one folder `npm start` keeps its state in: databases, mails, logs, secrets made once. One run at a time. */
import { randomBytes } from 'node:crypto';
import { existsSync, linkSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { identify, isRunning, type ProcessIdentity } from './process-identity.ts';
import { reaperIdentity } from './processes.ts';
import { StackFailure } from './stack-failure.ts';

/** Made at the first start and kept, so that tokens, sealed keys and copied curl lines survive a restart. */
export type KeptState = {
  /** 32 bytes, base64. */
  readonly masterKey: string;
  readonly devClientSecret: string;
  /** Of the embedded parts at the last start; taken again where they are free. */
  readonly ports: { readonly postgres?: number; readonly redis?: number; readonly smtp?: number };
};

export type StateFolder = {
  readonly path: string;
  readonly logs: string;
  readonly state: KeptState;
  savePorts(ports: KeptState['ports']): void;
  /** Lets the next run have the folder. */
  release(): void;
};

type Lock = { readonly owner: ProcessIdentity; readonly reaper: ProcessIdentity | undefined };

const LOCK = 'lock.json';
const STATE = 'state.json';
/** npm's cache where a user has no home of their own (launch.mjs): not state, and dear to fetch again. */
const KEPT_WHEN_FRESH: ReadonlySet<string> = new Set([LOCK, 'home']);
/** The reaper of a killed run gives its processes 3 s, then kills them. */
const ORPHAN_PATIENCE_MS = 10_000;

/**
 * Takes the folder for this run, making it where it is missing and emptying it if asked to.
 *
 * @throws StackFailure when it cannot be written, or another run has it.
 */
export async function takeStateFolder(
  path: string,
  fresh: boolean,
  note: (line: string) => void,
): Promise<StateFolder> {
  const taken = await writableOrExplained(path, async () => {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    await takeLock(path, note);
    if (fresh) {
      for (const entry of readdirSync(path).filter((name) => !KEPT_WHEN_FRESH.has(name))) {
        rmSync(join(path, entry), { recursive: true, force: true });
      }
    }
    mkdirSync(join(path, 'logs'), { recursive: true, mode: 0o700 });
    const state = readState(path, note);
    writeState(path, state);
    return state;
  });
  return {
    path,
    logs: join(path, 'logs'),
    state: taken,
    savePorts: (ports) => writeState(path, { ...taken, ports }),
    release: () => rmSync(join(path, LOCK), { force: true }),
  };
}

async function writableOrExplained<Result>(path: string, use: () => Promise<Result>): Promise<Result> {
  try {
    return await use();
  } catch (error) {
    if (
      error instanceof Error &&
      'code' in error &&
      ['EACCES', 'EPERM', 'EROFS', 'ENOTDIR'].includes(String(error.code))
    ) {
      throw new StackFailure(
        `The folder ${path} cannot be written by ${userInfo().username} (${error.message}). ` +
          'It holds the databases, logs and secrets of npm start: own it (sudo chown -R "$USER" …), delete it, or clone somewhere you may write.',
      );
    }
    throw error;
  }
}

/** The lock names its holder: one left behind by a run that was killed no longer counts once its reaper is done, too. */
async function takeLock(path: string, note: (line: string) => void): Promise<void> {
  const file = join(path, LOCK);
  const owner = identify(process.pid);
  if (owner === undefined) {
    throw new Error('this process does not see itself');
  }
  const mine = JSON.stringify({ owner, reaper: reaperIdentity() } satisfies Lock);
  const deadline = Date.now() + ORPHAN_PATIENCE_MS;
  let said = false;
  while (!writeExclusively(file, mine)) {
    const holder = readJson<Lock>(file);
    if (holder !== undefined && isRunning(holder.owner)) {
      throw new StackFailure(
        `npm start already runs in this folder (pid ${holder.owner.pid}). Use that one, stop it with Ctrl-C, or clone a second time and choose other ports: API_PORT, WORKER_PORT, INBOX_PORT.`,
      );
    }
    if (holder?.reaper === undefined || !isRunning(holder.reaper)) {
      rmSync(file, { force: true });
    } else if (Date.now() > deadline) {
      throw new StackFailure(
        `What an earlier run left behind does not end (see pid ${holder.reaper.pid}). End it and start again.`,
      );
    } else {
      if (!said) {
        note('waiting for an earlier run, which was killed, to be cleaned up');
        said = true;
      }
      await delay(50);
    }
  }
}

/** The lock appears with its content or not at all: a link, unlike a write, cannot be seen half done. */
function writeExclusively(file: string, content: string): boolean {
  const draft = `${file}.${process.pid}`;
  writeFileSync(draft, content, { mode: 0o600 });
  try {
    linkSync(draft, file);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') {
      return false;
    }
    throw error;
  } finally {
    rmSync(draft, { force: true });
  }
}

function readState(path: string, note: (line: string) => void): KeptState {
  const file = join(path, STATE);
  const kept = readJson<Partial<KeptState>>(file);
  if (kept === undefined && existsSync(file)) {
    note(
      `${file} was unreadable: new secrets were made; what the old ones sealed (signing keys) is of no use any more`,
    );
  }
  return {
    masterKey: kept?.masterKey ?? randomBytes(32).toString('base64'),
    devClientSecret: kept?.devClientSecret ?? randomBytes(32).toString('base64url'),
    ports: kept?.ports ?? {},
  };
}

/** In one step, so that an interruption leaves the old or the new state. */
function writeState(path: string, state: KeptState): void {
  const file = join(path, STATE);
  writeFileSync(`${file}.new`, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

function readJson<Content>(file: string): Content | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Content;
  } catch {
    return undefined;
  }
}

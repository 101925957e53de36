/** Password hashing in a bounded pool of threads. */
import { availableParallelism } from 'node:os';
import { NO_PASSWORD } from '@latchkey/shared/password-hashes';
import { Piscina } from 'piscina';
import { Problem } from '../problems.ts';
import { HASH_PREFIX, isArgon2id } from './argon2id.ts';
import type { StrengthTask } from './password-strength-worker.ts';
import type { PasswordCheck, PasswordTask, PasswordTaskResult } from './password-worker.ts';

/**
 * Work that may wait per thread, in hashes of our own. At about 100 of them a second and thread, a full queue is a wait of 1.3 s; beyond
 * that it is more honest to say come back than to let everyone wait.
 */
const QUEUE_PER_THREAD = 128;
/** Milliseconds of waiting work beyond which no more is let in; what is let in at once may be more. */
const ENOUGH = 2000;
/**
 * Milliseconds anybody waits at most: the threads give way to what is quicker, and their cores may be shared out in small parts. Far more than a
 * full queue takes on cores of our own (1.3 s): a few hundred at once are all served even where every hash takes ten times as long.
 */
export const LONGEST_WAIT = 30_000;
/** Cost of checking a hash of another system, in hashes of our own: up to 330 ms (packages/shared/src/password-hashes.ts) where ours take 10. */
const FOREIGN_WORK = 25;

/** Milliseconds a refused login takes while hashes of other systems are left: longer than checking one of those takes. */
export const REFUSAL_FLOOR = 1000;

/** argon2id of a random value nobody knows, with the same cost: what an unknown user's password is compared with. */
const NOBODY = `${HASH_PREFIX}4cVmBQq6bKXYqXdLrJgFnw$X5uSGv8rF3mVOWPqYH1q9m3cNQjHbzv2kK0d7y4mO9E`;

/** What others know of somebody, and would try first as their password. */
export const knownToOthers = (email: string, displayName: string | null): string[] => [
  email,
  ...email.split('@'),
  ...(displayName === null ? [] : [displayName]),
];

/** As many as there are cores: more would not hash faster. */
const THREADS = availableParallelism();

/** What is being done included. */
const MOST_WORK = THREADS * (QUEUE_PER_THREAD + 1);

/** Tasks given to the threads: each has its next one at hand when it has done one. */
const AT_ONCE = 2 * THREADS;

/** Half as many: looking at most new passwords takes half as long as hashing them, so a burst of registrations waits no longer for this. */
const STRENGTH_THREADS = Math.ceil(THREADS / 2);

/**
 * New passwords that wait to be looked at, or are: as many as may be hashed, since looking takes half as long. A few take ten times as long:
 * then other new passwords wait for them, for {@link LONGEST_WAIT} at most, but no login does.
 */
const MOST_LOOKED_AT = MOST_WORK;

/** Beside this file as sources, beside the bundle once built. */
const fileOf = (worker: string): string =>
  new URL(`./${worker}${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url).href;

const poolOf = <Task, Result>(worker: string, count: number) =>
  new Piscina<Task, Result>({ filename: fileOf(worker), minThreads: count, maxThreads: count });

const once = <T>(make: () => T): (() => T) => {
  let made: T | undefined;
  return () => {
    made ??= make();
    return made;
  };
};

// The threads are the process's, as the cores are the machine's: they end with it; idle, they keep no process alive.
const hashingThreads = once(() => poolOf<PasswordTask, PasswordTaskResult>('password-worker', THREADS));

/**
 * Starts the threads that look at new passwords, unless they have been. Their dictionaries take most of a second of a core: a service loads
 * them as it starts, and a process that looks at no new password does without.
 */
export const strengthThreads = once(() => poolOf<StrengthTask, boolean>('password-strength-worker', STRENGTH_THREADS));

const tooMuch = () => new Problem('overloaded', { detail: 'Too many logins and registrations at once', retryAfter: 2 });

/**
 * A moving average of the milliseconds between the ends of two tasks: a new value weighs a tenth when it is longer, a thirtieth when it is
 * shorter. Threads that starve end tasks in bursts, and a burst must not let in as many as if it went on like that.
 */
export const paceAfter = (pace: number, took: number): number => pace + (took - pace) / (took > pace ? 10 : 30);

export type Passwords = ReturnType<typeof createPasswords>;

export function createPasswords() {
  const hashing = hashingThreads();
  let waiting = 0;
  let lookedAt = 0;
  let closed = false;
  /** Those that no thread has been given yet, the oldest first. */
  const line = new Set<{ go: () => void }>();
  let atOnce = 0;
  /** Milliseconds from the end of a task to the next, while some wait. */
  let pace = 0;
  let endedAt = 0;

  /** Whether as much waits as may. The same for every task, whatever it costs: who is refused must not tell whose hash is another system's. */
  const full = (): boolean => waiting >= MOST_WORK;

  /** Waits for a thread. */
  async function turn(): Promise<void> {
    if (atOnce < AT_ONCE) {
      if (atOnce === 0) endedAt = performance.now();
      atOnce += 1;
      return;
    }
    await new Promise<void>((go, refuse) => {
      const one = { go };
      line.add(one);
      setTimeout(() => {
        if (line.delete(one)) refuse(tooMuch());
      }, LONGEST_WAIT).unref();
    });
  }

  function nextTurn(): void {
    const now = performance.now();
    const [first] = line;
    if (first) {
      pace = paceAfter(pace, now - endedAt);
      line.delete(first);
      first.go();
    } else atOnce -= 1;
    endedAt = now;
  }

  /** Begins a task of so much work, unless too much is waiting. */
  async function admitted<T>(work: number, begin: () => Promise<T>): Promise<T> {
    if (full()) throw tooMuch();
    waiting += work;
    try {
      await turn();
      const result = await begin().finally(nextTurn);
      // The stores that would be asked next are closed too.
      if (closed) throw new Problem('overloaded', { detail: 'This instance is stopping', retryAfter: 1 });
      return result;
    } finally {
      waiting -= work;
    }
  }

  /** Whether it is hard to guess. */
  async function look(task: StrengthTask): Promise<boolean> {
    lookedAt += 1;
    const looked = strengthThreads()
      .run(task)
      .finally(() => {
        lookedAt -= 1;
      });
    // (What has been given to a thread is looked at all the same: to take it back would end the thread.)
    const { promise: tooLate, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => reject(tooMuch()), LONGEST_WAIT).unref();
    return Promise.race([looked, tooLate]).finally(() => clearTimeout(timer));
  }

  return {
    /**
     * A PHC string (argon2id) of the password.
     * @param hints what an attacker would try first: {@link knownToOthers}.
     * @param pointer the field the password came in.
     * @throws {Problem} `password_too_weak`; `overloaded` when too much is waiting.
     */
    async hash(password: string, hints: string[], pointer = '/password'): Promise<string> {
      // Before either is begun: a call refused by one must not be in the other's way.
      if (lookedAt >= MOST_LOOKED_AT || full()) throw tooMuch();
      // A weak password is hashed too, so that the answer takes the same time.
      const [strong, hash] = await Promise.all([
        look({ password, knownToOthers: hints }),
        admitted(1, () => hashing.run({ type: 'hash', password }) as Promise<string>),
      ]);
      if (strong) return hash;
      const detail = 'is too easy to guess: use a longer one, such as four unrelated words';
      throw new Problem('password_too_weak', { errors: [{ pointer, detail }] });
    },

    /**
     * Whether the password belongs to the hash. Without a hash (no such user, no password) the same work is done, and the answer is no.
     * @returns also, for a password that matches a hash of another system or of other parameters, the hash it should have.
     * @throws {Problem} `overloaded` when too much is waiting.
     */
    async verify(password: string, hash: string | undefined): Promise<PasswordCheck> {
      const compared = hash === undefined || hash === NO_PASSWORD ? NOBODY : hash;
      const check = await admitted(
        isArgon2id(compared) ? 1 : FOREIGN_WORK,
        () => hashing.run({ type: 'verify', password, hash: compared }) as Promise<PasswordCheck>,
      );
      return compared === hash ? check : { matches: false };
    },

    /** Whether no more should be let in: one more would be refused, or would wait for long. */
    full: (): boolean => full() || (line.size + atOnce) * pace > ENOUGH,
    /** Tasks that wait for a thread. */
    queued: (): number => line.size + hashing.queueSize,
    /** As many may; of hashes of other systems, fewer. */
    queueLimit: THREADS * QUEUE_PER_THREAD,
    /** Whoever still waits is refused. */
    close(): void {
      closed = true;
    },
  };
}

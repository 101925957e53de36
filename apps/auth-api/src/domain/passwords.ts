/** Password hashing in a bounded pool of threads. */
import { availableParallelism } from 'node:os';
import { NO_PASSWORD } from '@latchkey/shared/password-hashes';
import { Piscina } from 'piscina';
import { Problem } from '../problems.ts';
import type { PasswordCheck, PasswordTask, PasswordTaskResult } from './password-worker.ts';

/**
 * Work that may wait per thread, in hashes of our own. At about 100 of them a second and thread, who joins a full queue waits 1.3 s; beyond
 * that it is more honest to say come back than to let everyone wait.
 */
const QUEUE_PER_THREAD = 128;
/** What checking a hash of another system may cost, in hashes of our own (packages/shared/src/password-hashes.ts). */
const FOREIGN_WORK = 25;

/** Milliseconds a refused login takes while hashes of other systems are left, whose check takes longer than ours: longer than that takes. */
export const REFUSAL_FLOOR = 1000;

/** argon2id of a random value nobody knows, with the same cost: what an unknown user's password is compared with. */
const NOBODY = '$argon2id$v=19$m=19456,t=2,p=1$4cVmBQq6bKXYqXdLrJgFnw$X5uSGv8rF3mVOWPqYH1q9m3cNQjHbzv2kK0d7y4mO9E';

/** What others know of somebody, and would try first as their password. */
export const knownToOthers = (email: string, displayName: string | null): string[] => [
  email,
  ...email.split('@'),
  ...(displayName === null ? [] : [displayName]),
];

const isOwn = (hash: string): boolean => hash.startsWith('$argon2id$');

/** As many as there are cores: more would not hash faster. */
const THREADS = availableParallelism();

let started: Piscina<PasswordTask, PasswordTaskResult> | undefined;

/** The threads are the process's, as the cores are the machine's: they start with its first app and end with it; idle, they keep no process alive. */
function threads() {
  started ??= new Piscina<PasswordTask, PasswordTaskResult>({
    // Beside this file as sources, beside the bundle once built.
    filename: new URL(
      import.meta.url.endsWith('.ts') ? './password-worker.ts' : './password-worker.js',
      import.meta.url,
    ).href,
    minThreads: THREADS,
    maxThreads: THREADS,
  });
  return started;
}

export type Passwords = ReturnType<typeof createPasswords>;

export function createPasswords() {
  const pool = threads();
  let waiting = 0;
  let closed = false;

  async function run<T extends PasswordTaskResult>(task: PasswordTask): Promise<T> {
    const work = task.type === 'hash' || isOwn(task.hash) ? 1 : FOREIGN_WORK;
    // One task may always run, whatever it costs.
    if (waiting > 0 && waiting + work > THREADS * (QUEUE_PER_THREAD + 1))
      throw new Problem('overloaded', { detail: 'Too many logins and registrations at once', retryAfter: 2 });
    waiting += work;
    try {
      const result = (await pool.run(task)) as T;
      // The stores that would be asked next are closed too.
      if (closed) throw new Problem('overloaded', { detail: 'This instance is stopping', retryAfter: 1 });
      return result;
    } finally {
      waiting -= work;
    }
  }

  return {
    /**
     * A PHC string (argon2id) of the password.
     * @param knownToOthers what an attacker would try first: see {@link knownToOthers}.
     * @param pointer the field the password came in.
     * @throws {Problem} `password_too_weak`; `overloaded` when too much is waiting.
     */
    async hash(password: string, knownToOthers: string[], pointer = '/password'): Promise<string> {
      const { weak, hash } = await run<{ weak: boolean; hash: string }>({ type: 'hash', password, knownToOthers });
      if (!weak) return hash;
      const detail = 'is too easy to guess: use a longer one, such as four unrelated words';
      throw new Problem('password_too_weak', { errors: [{ pointer, detail }] });
    },

    /**
     * Whether the password belongs to the hash. Without a hash (no such user, no password) the same work is done, and the answer is no.
     * @returns also, for a password that matches a hash of another system or of other parameters, the hash it should have.
     * @throws {Problem} `overloaded` when too much is waiting.
     */
    async verify(
      password: string,
      hash: string | undefined,
    ): Promise<{ matches: boolean; rehashed?: string | undefined }> {
      const compared = hash === undefined || hash === NO_PASSWORD ? NOBODY : hash;
      const { match, rehashed } = await run<PasswordCheck>({ type: 'verify', password, hash: compared });
      return compared === hash ? { matches: match, rehashed } : { matches: false };
    },

    /** Tasks that wait for a thread. */
    queued: (): number => pool.queueSize,
    /** Whoever waits still is refused. */
    close(): void {
      closed = true;
    },
  };
}

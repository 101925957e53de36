/** Password hashing in a bounded pool of threads. */
import { availableParallelism } from 'node:os';
import { Piscina } from 'piscina';
import { Problem } from '../problems.ts';
import type { PasswordTask, PasswordTaskResult } from './password-worker.ts';

/**
 * Tasks that may wait per thread. At about 100 hashes a second and thread, who joins a full queue waits 1.3 s; beyond that it is more
 * honest to say come back than to let everyone wait.
 */
const QUEUE_PER_THREAD = 128;

/** argon2id of a random value nobody knows, with the same cost: what an unknown user's password is compared with. */
const NOBODY = '$argon2id$v=19$m=19456,t=2,p=1$4cVmBQq6bKXYqXdLrJgFnw$X5uSGv8rF3mVOWPqYH1q9m3cNQjHbzv2kK0d7y4mO9E';

/** What others know of somebody, and would try first as their password. */
export const knownToOthers = (email: string, displayName: string | null): string[] => [
  email,
  ...email.split('@'),
  ...(displayName === null ? [] : [displayName]),
];

export type Passwords = ReturnType<typeof createPasswords>;

export function createPasswords(threads = availableParallelism()) {
  const pool = new Piscina<PasswordTask, PasswordTaskResult>({
    // Beside this file as sources, beside the bundle once built.
    filename: new URL(
      import.meta.url.endsWith('.ts') ? './password-worker.ts' : './password-worker.js',
      import.meta.url,
    ).href,
    minThreads: threads,
    maxThreads: threads,
    maxQueue: threads * QUEUE_PER_THREAD,
  });

  async function run<T extends PasswordTaskResult>(task: PasswordTask): Promise<T> {
    try {
      return (await pool.run(task)) as T;
    } catch (error) {
      if (error instanceof Error && error.message === 'Task queue is at limit') {
        throw new Problem('overloaded', { detail: 'Too many logins and registrations at once', retryAfter: 2 });
      }
      throw error;
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
     * Whether the password belongs to the hash. Without a hash (no such user) the same work is done, and the answer is no.
     * @throws {Problem} `overloaded` when too much is waiting.
     */
    async verify(password: string, hash: string | undefined): Promise<boolean> {
      const { match } = await run<{ match: boolean }>({ type: 'verify', password, hash: hash ?? NOBODY });
      return match && hash !== undefined;
    },

    /** Tasks that wait for a thread. */
    queued: (): number => pool.queueSize,
    close: (): Promise<void> => pool.destroy(),
  };
}

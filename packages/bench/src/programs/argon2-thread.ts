/** A thread that does nothing but argon2id. */
import { constants, setPriority } from 'node:os';
import { parentPort } from 'node:worker_threads';
import { hashSync } from '@node-rs/argon2';
import { steadyNow } from './control.ts';

/** OWASP Password Storage Cheat Sheet, as auth-api has it: argon2id (2) with 19 MiB, 2 iterations, parallelism 1. */
const ARGON2ID = { algorithm: 2, memoryCost: 19_456, timeCost: 2, parallelism: 1 } as const;

/** What the thread is asked: to hash for so many seconds. */
type HashRequest = { readonly seconds: number };
/** What it answers. */
export type HashRate = { readonly perSecond: number };

// auth-api's threads give way to its event loop. With the same priority, what else runs on the machine slows both alike.
try {
  setPriority(constants.priority.PRIORITY_LOW);
} catch {
  // Not allowed here: auth-api's threads are not either.
}

parentPort?.on('message', ({ seconds }: HashRequest) => {
  const start = steadyNow();
  let hashes = 0;
  let elapsed = 0;
  while (elapsed < seconds * 1000) {
    hashSync('correct horse battery staple', ARGON2ID);
    hashes += 1;
    elapsed = steadyNow() - start;
  }
  parentPort?.postMessage({ perSecond: (hashes / elapsed) * 1000 } satisfies HashRate);
});

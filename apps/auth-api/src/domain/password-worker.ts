/** What a thread of the password pool runs: CPU work of milliseconds, which the event loop of a service that verifies tokens must not do. */
import { pbkdf2Sync, scryptSync, timingSafeEqual } from 'node:crypto';
import { type ForeignHash, readForeignHash } from '@latchkey/shared/password-hashes';
import { hashSync, verifySync } from '@node-rs/argon2';
import { ARGON2ID, HASH_PREFIX, isArgon2id } from './argon2id.ts';
import { yieldToOthers } from './low-priority.ts';

yieldToOthers();

export type PasswordTask = { type: 'hash'; password: string } | { type: 'verify'; password: string; hash: string };

export interface PasswordCheck {
  matches: boolean;
  /** What a password that matches should be stored as, if not as it is. */
  rehashed?: string;
}

/** The hash, or what checking one found. */
export type PasswordTaskResult = string | PasswordCheck;

/** The other system's bytes are the password's own, not normalised. */
function matchesForeign(password: string, hash: ForeignHash): boolean {
  if (hash.scheme === 'argon2') return verifySync(hash.phc, password);
  const { salt, key } = hash;
  if (hash.scheme === 'scrypt') {
    const { cost: N, blockSize: r, parallelism: p } = hash;
    // Node counts some more than the 128 N r of RFC 7914.
    const maxmem = 128 * r * (N + p + 2) + 1024 * 1024;
    return timingSafeEqual(scryptSync(password, salt, key.length, { N, r, p, maxmem }), key);
  }
  const digest = hash.scheme === 'pbkdf2_sha256' ? 'sha256' : 'sha1';
  return timingSafeEqual(pbkdf2Sync(password, salt, hash.iterations, key.length, digest), key);
}

function matchesHash(raw: string, normalised: string, hash: string): boolean {
  if (isArgon2id(hash)) return verifySync(hash, normalised);
  const foreign = readForeignHash(hash);
  return !('refused' in foreign) && matchesForeign(raw, foreign);
}

export default function run(task: PasswordTask): PasswordTaskResult {
  // NFKC: the same password typed on another keyboard must be the same bytes (NIST SP 800-63B section 5.1.1.2).
  const password = task.password.normalize('NFKC');
  if (task.type === 'hash') return hashSync(password, ARGON2ID);
  const matches = matchesHash(task.password, password, task.hash);
  return matches && !task.hash.startsWith(HASH_PREFIX)
    ? { matches, rehashed: hashSync(password, ARGON2ID) }
    : { matches };
}

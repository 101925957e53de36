/** How passwords are hashed. */

/**
 * OWASP Password Storage Cheat Sheet: argon2id with 19 MiB, 2 iterations, parallelism 1.
 * (`algorithm: 2` is the library's Algorithm.Argon2id, an ambient const enum that can't be imported.)
 */
export const ARGON2ID = { algorithm: 2, memoryCost: 19_456, timeCost: 2, parallelism: 1 } as const;

/** Hashes of other parameters begin like this too. */
const ANY_PREFIX = '$argon2id$';

/** How a hash of these parameters begins. */
export const HASH_PREFIX = `${ANY_PREFIX}v=19$m=${ARGON2ID.memoryCost},t=${ARGON2ID.timeCost},p=${ARGON2ID.parallelism}$`;

/** Whether it is argon2id, of whatever parameters. */
export const isArgon2id = (hash: string): boolean => hash.startsWith(ANY_PREFIX);

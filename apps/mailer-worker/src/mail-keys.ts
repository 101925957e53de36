/**
 * The key of a link, made the moment its mail is sent: so its life starts at the mail, however long the job waited, and the queue
 * never holds anything worth stealing.
 */

import { hash, randomInt } from 'node:crypto';
import type { RedisConnection } from '@latchkey/shared/redis-connections';
import type { RedisKeys } from '@latchkey/shared/redis-keys';

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

/** 32 of 62 characters are 190 bits: guessing is hopeless, and the link still fits on one line of a mail. */
const LENGTH = 32;

/** Seconds a key works, and after that can still be renewed or, where nothing renews it, is still known to have expired. */
export interface KeyLife {
  readonly activates: number;
  readonly renews: number;
}

/** What a key is for. It is kept under a name of that purpose, so it is good for no other. */
export type KeyPurpose = 'activationKey' | 'passwordResetKey' | 'emailChangeKey';

/** A fresh key; `randomInt` draws from the CSPRNG without modulo bias. */
export function newKey(): string {
  let key = '';
  while (key.length < LENGTH) key += ALPHABET.charAt(randomInt(ALPHABET.length));
  return key;
}

/** A key that was made. */
export interface MailKey {
  /** The key itself: it goes into the mail and nowhere else. */
  readonly key: string;
  /** Lets its life begin now: until the mail's data a mail server may take minutes. @throws Error if Redis has lost it. */
  restart(): Promise<void>;
  /** Removes it because its mail surely did not go out. It would expire by itself: nobody has ever seen it. */
  forget(): Promise<void>;
}

/**
 * Mints keys. Redis learns only the SHA-256 (base64url) of a key's characters.
 * @param life how long a key works and is known after that, in seconds.
 */
export function createMailKeys(redis: RedisConnection, keys: RedisKeys, life: KeyLife) {
  const renewalMs = life.renews * 1000;
  const lifeMs = life.activates * 1000 + renewalMs;
  return {
    /** Makes a key that stands for one attempt of one user. It works while more than `renewal_ms` of its life is left. */
    async mint(purpose: KeyPurpose, userId: string, attempt: number): Promise<MailKey> {
      const key = newKey();
      const name = keys[purpose](hash('sha256', key, 'base64url'));
      const meaning = JSON.stringify({ user_id: userId, attempt, renewal_ms: renewalMs });
      await redis.set(name, meaning, 'PX', lifeMs);
      return {
        key,
        async restart() {
          if ((await redis.set(name, meaning, 'PX', lifeMs, 'XX')) === null)
            throw new Error('the key of the mail is lost');
        },
        async forget() {
          await redis.del(name);
        },
      };
    },
  };
}

export type MailKeys = ReturnType<typeof createMailKeys>;

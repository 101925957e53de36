/** What a mailed key stands for: written by mailer-worker as it sends, read here. Only the SHA-256 of a key is ever stored. */

import { hash } from 'node:crypto';
import type { RedisConnection } from '@latchkey/shared/redis-connections';

export interface MailKeyRecord {
  userId: string;
  attempt: number;
  /** Milliseconds it still works; zero or less: it has expired. */
  worksFor: number;
  /** The same as an instant of Redis's clock: to be shown, not compared. */
  expiresAt: Date;
}

export type MailKeyStore = ReturnType<typeof createMailKeyStore>;

/** 32 base62 characters; anything else was never mailed, and is not looked up. */
const KEY = /^[A-Za-z0-9]{32}$/;

/** @param nameOf the name of the record of a key with this SHA-256 (base64url): each purpose has names of its own. */
export function createMailKeyStore(redis: RedisConnection, nameOf: (sha256: string) => string) {
  return {
    /**
     * Age is what is left of the record's life in Redis, so no clock of this host or the worker's matters.
     * @returns undefined for a key never mailed for this purpose, or one nobody remembers any more.
     */
    async find(key: string): Promise<MailKeyRecord | undefined> {
      if (!KEY.test(key)) return undefined;
      const name = nameOf(hash('sha256', key, 'base64url'));
      const [record, left, end] = await Promise.all([redis.get(name), redis.pttl(name), redis.pexpiretime(name)]);
      if (record === null || left < 0 || end < 0) return undefined;
      const { user_id, attempt, renewal_ms } = JSON.parse(record) as {
        user_id: string;
        attempt: number;
        renewal_ms: number;
      };
      return { userId: user_id, attempt, worksFor: left - renewal_ms, expiresAt: new Date(end - renewal_ms) };
    },
  };
}

/** What a mailed key stands for: written by mailer-worker as it sends, read here. Only the SHA-256 of a key is ever stored. */
import { createHash } from 'node:crypto';
import type { RedisKeys } from '@latchkey/shared/redis-keys';
import type { Redis } from 'ioredis';

export interface ActivationKeyRecord {
  userId: string;
  attempt: number;
  /** Milliseconds it still activates; zero or less: only a renewal is left. */
  activatesFor: number;
}

export type ActivationKeyStore = ReturnType<typeof createActivationKeyStore>;

export function createActivationKeyStore(redis: Redis, keys: RedisKeys) {
  return {
    /**
     * Age is what is left of the record's life in Redis, so no clock of this host or the worker's matters.
     * @returns undefined for a key never mailed, or one past its renewal.
     */
    async find(key: string): Promise<ActivationKeyRecord | undefined> {
      const name = keys.activationKey(createHash('sha256').update(key).digest('base64url'));
      const [record, left] = await Promise.all([redis.get(name), redis.pttl(name)]);
      if (record === null || left < 0) return undefined;
      const { user_id, attempt, renewal_ms } = JSON.parse(record) as {
        user_id: string;
        attempt: number;
        renewal_ms: number;
      };
      return { userId: user_id, attempt, activatesFor: left - renewal_ms };
    },
  };
}

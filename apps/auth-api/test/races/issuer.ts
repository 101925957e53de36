/**
 * What a login does once the password was right, without the 13 ms the password costs: ten thousand of them fit into a test. A third
 * instance, made of the app's own parts.
 */
import { randomBytes } from 'node:crypto';
import { connectDatabase } from '@latchkey/shared/database';
import { createLogger } from '@latchkey/shared/logger';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { accessTokenClaims } from '../../src/domain/access-token.ts';
import { createKeyring } from '../../src/domain/keyring.ts';
import { createSigningKeys, keyLives } from '../../src/domain/signing-keys.ts';
import { readEnv } from '../../src/env.ts';
import { createSessionStore } from '../../src/store/sessions.ts';
import { createSigningKeyStore } from '../../src/store/signing-keys.ts';

/** An access token and the instant of its issue, in microseconds. */
export interface Issued {
  accessToken: string;
  issuedAt: number;
}

export function createIssuer(environment: Record<string, string>) {
  const env = readEnv(environment);
  const db = connectDatabase(env.DATABASE_URL, () => undefined);
  const redis = connectRedis(env.REDIS_URL, 'queueWorker', () => undefined);
  const sessions = createSessionStore(redis, redisKeys(), env);
  const signingKeys = createSigningKeys({
    store: createSigningKeyStore(db, keyLives(env.ACCESS_TOKEN_TTL)),
    keyring: createKeyring(env.MASTER_KEY),
    alg: env.SIGNING_ALG,
    denyKey: async () => undefined,
    copy: { deniesKey: () => false, epoch: () => undefined },
    logger: createLogger('auth-api', 'error'),
  });
  const rules = { issuer: env.PUBLIC_URL, audience: env.TOKEN_AUDIENCE, ttl: env.ACCESS_TOKEN_TTL };
  const device = { deviceName: null, userAgent: null, ip: '127.0.0.1' };

  return {
    /** What a login reads before it checks the password. */
    generation: sessions.generation,

    /** @returns undefined when everything was revoked since the generation was read. */
    async issue(userId: string, generation: string): Promise<Issued | undefined> {
      const sessionId = randomBytes(16).toString('base64url');
      const created = await sessions.create(userId, sessionId, 'jwt', device, { generation, notBefore: 0 });
      if (created.status === 'changed') return undefined;
      if (created.status === 'closed') throw new Error('the door is closed');
      const { createdAt } = created;
      await signingKeys.ensure();
      const claims = accessTokenClaims({ userId, sessionId, createdAt, issuedAt: createdAt }, rules);
      return { accessToken: await signingKeys.sign(claims), issuedAt: createdAt };
    },

    async close() {
      redis.disconnect();
      await db.$disconnect();
    },
  };
}

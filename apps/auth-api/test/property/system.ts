/** The system under test: the real stores and the domain over them, as `services.ts` puts them together, from the folder of sources that is named. */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { connectDatabase } from '@latchkey/shared/database';
import { createLogger } from '@latchkey/shared/logger';
import { connectRedis, type RedisConnection } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { createRevocationCopy } from '@latchkey/verifier/revocation-copy';
import { vi } from 'vitest';
import type { Env } from '../../src/env.ts';
import type { SessionStore } from '../../src/store/sessions.ts';
import { createMovingClock, type MovingClock } from './moving-clock.ts';

/** Production's sources. A mutant is a changed copy of them. */
export const SOURCES = join(import.meta.dirname, '../../src');

/**
 * Seconds. Every limit is an odd multiple of 500, time moves by multiples of 1000 and doors open at odd multiples of 250: however long a
 * run takes, no instant comes so near to a limit that real time could decide.
 */
export const LIMITS = { accessLife: 4500, idle: 20_500, grace: 1500, sessions: 4 } as const;
export const DOOR_PHASE = 250;

type Settings = Pick<Env, 'SESSION_MAX_AGE' | 'OPAQUE_TOKEN_TTL' | 'RESET_TOKEN_TTL_ON_USE' | 'OVERWRITE_NONE_TTL'>;

/** Instances that run at the same time, each set up in another way, as during a change of the settings. */
export const SETTINGS = [
  { SESSION_MAX_AGE: 60_500, OPAQUE_TOKEN_TTL: 30_500, RESET_TOKEN_TTL_ON_USE: true, OVERWRITE_NONE_TTL: true },
  { SESSION_MAX_AGE: 60_500, OPAQUE_TOKEN_TTL: null, RESET_TOKEN_TTL_ON_USE: true, OVERWRITE_NONE_TTL: true },
  { SESSION_MAX_AGE: 60_500, OPAQUE_TOKEN_TTL: 9500, RESET_TOKEN_TTL_ON_USE: true, OVERWRITE_NONE_TTL: false },
  { SESSION_MAX_AGE: 60_500, OPAQUE_TOKEN_TTL: 9500, RESET_TOKEN_TTL_ON_USE: false, OVERWRITE_NONE_TTL: true },
] as const satisfies Settings[];

const environment = (settings: Settings) => ({
  ...settings,
  ACCESS_TOKEN_TTL: LIMITS.accessLife,
  REFRESH_TOKEN_TTL: LIMITS.idle,
  REFRESH_GRACE: LIMITS.grace,
  MAX_SESSIONS_PER_USER: LIMITS.sessions,
  PUBLIC_URL: 'https://auth.example.test',
  TOKEN_AUDIENCE: 'https://auth.example.test',
});

/** Where the stores are, and which of the keys in Redis are this system's. */
export interface Place {
  redisUrl: string;
  databaseUrl: string;
  namespace: string;
}

async function load(sources: string) {
  const from = (file: string) => import(/* @vite-ignore */ pathToFileURL(join(sources, file)).href);
  const [store, log, users, audit, revocation, sessions, login, keyring, signing, signingStore, refreshToken] =
    await Promise.all([
      from('store/sessions.ts') as Promise<typeof import('../../src/store/sessions.ts')>,
      from('store/revocation-log.ts') as Promise<typeof import('../../src/store/revocation-log.ts')>,
      from('store/users.ts') as Promise<typeof import('../../src/store/users.ts')>,
      from('store/audit.ts') as Promise<typeof import('../../src/store/audit.ts')>,
      from('domain/revocation.ts') as Promise<typeof import('../../src/domain/revocation.ts')>,
      from('domain/sessions.ts') as Promise<typeof import('../../src/domain/sessions.ts')>,
      from('domain/login.ts') as Promise<typeof import('../../src/domain/login.ts')>,
      from('domain/keyring.ts') as Promise<typeof import('../../src/domain/keyring.ts')>,
      from('domain/signing-keys.ts') as Promise<typeof import('../../src/domain/signing-keys.ts')>,
      from('store/signing-keys.ts') as Promise<typeof import('../../src/store/signing-keys.ts')>,
      from('domain/refresh-token.ts') as Promise<typeof import('../../src/domain/refresh-token.ts')>,
    ]);
  const { createAudit } = (await from('domain/audit.ts')) as typeof import('../../src/domain/audit.ts');
  return {
    ...store,
    ...log,
    ...users,
    ...audit,
    createAudit,
    ...revocation,
    ...sessions,
    ...login,
    ...keyring,
    ...signing,
    ...signingStore,
    ...refreshToken,
  };
}

export type System = Awaited<ReturnType<typeof startSystem>>;
export type Lane = ReturnType<System['lane']>;

const missing = (what: string): never => {
  throw new Error(`there is no ${what}`);
};

/** @param sources the folder of sources: production's, or a mutant's. */
export async function startSystem({ redisUrl, databaseUrl, namespace }: Place, sources = SOURCES) {
  const code = await load(sources);
  const keys = redisKeys(namespace);
  /** What went wrong in the background. */
  const logs: string[] = [];
  // No time limit per command: a machine with two cores that runs every suite at once is slow, not broken.
  const connect = () => connectRedis(redisUrl, 'queueWorker', (error) => logs.push(error.message));
  const connections = [connect(), connect()] as const;
  const db = connectDatabase(databaseUrl, () => undefined);
  const copyOf = (redis: RedisConnection) =>
    createRevocationCopy({
      connect: () => redis,
      stream: keys.revocations,
      epochKey: keys.epoch,
      lagMax: 60_000,
      onError: (error) => logs.push(error.message),
    });
  /** What an instance that revokes knows at once; and what one that only hears of it knows. */
  const copies = {
    own: copyOf(connectRedis(redisUrl, 'queueWorker', (error) => logs.push(error.message))),
    other: copyOf(connectRedis(redisUrl, 'queueWorker', (error) => logs.push(error.message))),
  };
  await code.createEpochs(connections[0], keys).begin(undefined, 0);
  for (const copy of Object.values(copies)) copy.start();
  await vi.waitFor(
    () => {
      for (const copy of Object.values(copies))
        if (!copy.fresh()) throw new Error('the revocation copy is not complete');
    },
    { timeout: 20_000 },
  );

  const log = code.createRevocationLog(connections[0], keys, LIMITS.accessLife, copies.own);
  await log.announceLife();
  const keyring = code.createKeyring(Buffer.alloc(32, 7));
  const lives = code.keyLives(LIMITS.accessLife);
  const signingKeys = code.createSigningKeys({
    store: code.createSigningKeyStore(db, lives),
    keyring,
    alg: 'ES256',
    denyKey: (kid) => log.denyKey(kid, lives.deniedFor),
    copy: copies.own,
    logger: createLogger('auth-api', 'error', { write: (line) => logs.push(line) }),
  });
  // The first connections to PostgreSQL: on a machine that is busy one may take longer than a request may wait.
  await vi.waitFor(() => signingKeys.ensure(), 15_000);
  const users = code.createUserStore(db);
  const audit = code.createAudit(
    code.createAuditStore(db),
    createLogger('auth-api', 'error', { write: (line) => logs.push(line) }),
  );
  const passwords = () => Promise.reject(new Error('nobody logs in with a password here'));

  const stores = SETTINGS.map((settings, index) =>
    code.createSessionStore(connections[index % 2 === 0 ? 0 : 1], keys, environment(settings)),
  );
  const instancesBy = (clock: MovingClock) =>
    SETTINGS.map((settings, index) => {
      const env = environment(settings);
      const store = clock.move(stores[index] ?? missing(`instance ${index}`));
      return {
        store,
        /** The domain over a store that may note what it was asked. */
        domain(sessions: SessionStore) {
          const revocation = code.createRevocation({ sessions, users, log });
          return {
            revocation,
            sessions: code.createSessions({ store: sessions, log, revocation, audit, copy: copies.own }),
            login: code.createLogin({
              users,
              sessions,
              log,
              passwords: {
                hash: passwords,
                verify: passwords,
                full: () => false,
                queued: () => 0,
                queueLimit: 0,
                close: async () => undefined,
              },
              signingKeys,
              keyring,
              audit,
              env,
              // What a whole Redis says is enough; what a shard forgot is in engines/cluster.test.ts. Here somebody may end a session before it
              // begins, which only a model can, and then the log refuses one that lives.
              copy: { ...copies.own, denies: () => false },
            }),
          };
        },
      };
    });

  /** What a history is played with: instances on a clock of their own. */
  function lane() {
    const clock = createMovingClock(connections[0], keys);
    return { ...shared, clock, instances: instancesBy(clock) };
  }
  const shared = {
    log,
    logs,
    copies,
    encodeRefreshToken: (content: Parameters<typeof code.encodeRefreshToken>[1]) =>
      code.encodeRefreshToken(keyring, content),
    decodeRefreshToken: (token: string) => code.decodeRefreshToken(keyring, token),
    /** The end of the revocation log: what a copy that has heard everything has read. */
    async endOfLog(): Promise<string> {
      const [last] = await connections[0].xrevrange(keys.revocations, '+', '-', 'COUNT', 1);
      return last?.[0] ?? '0-0';
    },
    /** So that PostgreSQL has a row to remember cut-offs in. */
    async addUsers(ids: readonly string[]): Promise<void> {
      const data = ids.map((id) => ({
        id,
        email: `${id}@example.test`,
        emailKey: `${id}@example.test`,
        status: 'active' as const,
        passwordHash: '',
        locale: 'en',
      }));
      await vi.waitFor(() => db.user.createMany({ data, skipDuplicates: true }), 15_000);
    },
    born: () => copies.own.epoch()?.born ?? 0,
  };
  return {
    ...shared,
    lane,
    async stop(): Promise<void> {
      await audit.close();
      for (const copy of Object.values(copies)) copy.close();
      for (const connection of connections) connection.disconnect();
      await db.$disconnect();
    },
  };
}

/** The app listening, a client that may read the feed, and verifiers at the end of a wire that can be cut. */
import { randomUUID } from 'node:crypto';
import { connect, createServer, type Socket } from 'node:net';
import { connectDatabase } from '@latchkey/shared/database';
import { createLogger } from '@latchkey/shared/logger';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { revocationFeed } from '@latchkey/verifier/feed';
import { type NewRevocation, writeEntry } from '@latchkey/verifier/log-entry';
import { revocationsInRedis } from '@latchkey/verifier/redis';
import { createVerifier } from '@latchkey/verifier/verifier';
import { onTestFinished, vi } from 'vitest';
import { createKeyring } from '../../src/domain/keyring.ts';
import { createSigningKeys, keyLives } from '../../src/domain/signing-keys.ts';
import { createJti } from '../../src/domain/token-identity.ts';
import { createSigningKeyStore } from '../../src/store/signing-keys.ts';
import { addClient } from '../clients.ts';
import { MASTER_KEY, PUBLIC_URL, type TestApp } from '../test-app.ts';

/** Milliseconds. */
export const LAG_MAX = 2000;
/** A machine with two cores that does other things too. */
export const SOON = { timeout: 15_000, interval: 10 };

/** Something between a verifier and the app that can be cut: then nothing goes through, and nobody is told. */
export async function startWire(target: string) {
  const { hostname, port } = new URL(target);
  const pairs = new Set<readonly [Socket, Socket]>();
  let cut = false;
  let passed = '';
  let destination = { host: hostname, port: Number(port) };
  const server = createServer((near) => {
    const far = connect(destination);
    const pair = [near, far] as const;
    pairs.add(pair);
    for (const [from, to] of [pair, [far, near] as const]) {
      from.on('data', (bytes) => {
        passed += bytes.toString('latin1');
        to.write(bytes);
      });
      from.on('error', () => undefined);
      from.on('close', () => {
        pairs.delete(pair);
        to.destroy();
      });
      if (cut) from.pause();
    }
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const address = server.address();
  onTestFinished(() => {
    server.close();
    for (const sockets of pairs) for (const socket of sockets) socket.destroy();
  });
  return {
    url: `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`,
    /** What has gone through it, both ways, since it was last healed. */
    passed: () => passed,
    /** How many connections go through it. */
    connections: () => pairs.size,
    cut(): void {
      cut = true;
      for (const sockets of pairs) for (const socket of sockets) socket.pause();
    },
    /** @param elsewhere the app may have come back at another port. */
    heal(elsewhere?: string): void {
      cut = false;
      passed = '';
      if (elsewhere) destination = { host: '127.0.0.1', port: Number(new URL(elsewhere).port) };
      for (const sockets of pairs) for (const socket of sockets) socket.resume();
    },
  };
}

export interface OutsideOptions {
  lagMax?: number;
  /** Hears of revocations from this Redis, instead of by the feed. */
  redis?: string;
}

/** Verifies as another service would: its keys and, unless said otherwise, its revocations from the app at `url`. */
export async function outsideVerifier(api: TestApp, url: string, { lagMax = LAG_MAX, redis }: OutsideOptions = {}) {
  const client = await addClient(api.databaseUrl, 'revocations:read');
  const errors: string[] = [];
  const onError = (error: Error) => errors.push(error.message);
  const feed =
    redis === undefined
      ? revocationFeed({ url: `${url}/v1/revocations`, auth: { client }, lagMax, onError })
      : revocationsInRedis({ redis, lagMax, onError });
  const verifier = createVerifier({
    issuer: PUBLIC_URL,
    audience: PUBLIC_URL,
    jwks: `${url}/.well-known/jwks.json`,
    revocations: feed,
  });
  onTestFinished(() => verifier.close());
  await vi.waitFor(() => {
    if (!verifier.fresh()) throw new Error(`not fresh: ${errors.join()}`);
  }, SOON);
  /** @returns `good`, or the code of the refusal. */
  const answer = (token: string): Promise<string> =>
    verifier.verify(token).then(
      () => 'good',
      ({ code }: { code: string }) => code,
    );
  return { verifier, feed, errors, answer, client };
}

/** Signs as the app does, for any session: what is revoked need not have logged in. */
export async function tokenMaker({ databaseUrl }: Pick<TestApp, 'databaseUrl'>) {
  const db = connectDatabase(databaseUrl, () => undefined);
  const keys = createSigningKeys({
    store: createSigningKeyStore(db, keyLives(600)),
    keyring: createKeyring(MASTER_KEY),
    alg: 'ES256',
    denyKey: async () => undefined,
    copy: { deniesKey: () => false, epoch: () => undefined },
    logger: createLogger('auth-api', 'error'),
  });
  // The first connection to PostgreSQL: on a machine that is busy it may take longer than a request may wait.
  await vi.waitFor(() => keys.ensure(), 15_000);
  await db.$disconnect();
  return async (issuedAt = Date.now() * 1000, life = 600) => {
    const [sub, sid] = [randomUUID(), Buffer.from(randomUUID().replaceAll('-', ''), 'hex').toString('base64url')];
    const iat = Math.floor(issuedAt / 1_000_000);
    const jti = createJti({ userId: sub, sessionId: sid, issuedAt });
    const lives = { iss: PUBLIC_URL, aud: PUBLIC_URL, iat, exp: iat + life, orig_iat: iat };
    const token = await keys.sign({ ...lives, sub, sid, jti, client_id: 'latchkey', scope: 'account' });
    return { sub, sid, jti, token };
  };
}

/** Writes the log as the app does. */
export function logWriter({ redisUrl }: Pick<TestApp, 'redisUrl'>, namespace?: string) {
  const keys = redisKeys(namespace);
  const redis = connectRedis(redisUrl, 'queueWorker', () => undefined);
  onTestFinished(() => redis.disconnect());
  return {
    redis,
    keys,
    revoke: (revocation: NewRevocation, until = Math.ceil(Date.now() / 1000) + 660) => {
      const [name, text] = writeEntry(revocation);
      return redis.xadd(keys.revocations, '*', name, `${until} ${text}`);
    },
  };
}

/** A signing key in wrong hands: refused everywhere at once, whatever fails on the way; people notice nothing. */
import { createPrivateKey, randomUUID } from 'node:crypto';
import { connectDatabase } from '@latchkey/shared/database';
import { createLogger } from '@latchkey/shared/logger';
import { connectRedis, type RedisConnection } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { revocationsInRedis } from '@latchkey/verifier/redis';
import { createVerifier } from '@latchkey/verifier/verifier';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { createJwtSigner } from '../../src/domain/jwt-signer.ts';
import { createKeyring } from '../../src/domain/keyring.ts';
import { createSigningKeys, keyLives } from '../../src/domain/signing-keys.ts';
import { createJti } from '../../src/domain/token-identity.ts';
import type { AuditEvent } from '../../src/store/audit.ts';
import { createSigningKeyStore } from '../../src/store/signing-keys.ts';
import { expectProblem } from '../expect-problem.ts';
import { LAG_MAX, outsideVerifier } from '../feed/feed-suite.ts';
import { MASTER_KEY, PUBLIC_URL, type TestApp } from '../test-app.ts';
import { type Keys, kidOf, SOON, startKeys } from './keys-suite.ts';

let keys: Keys;
/** One that learns of a change by the revocation log alone. */
let slow: TestApp;
let redis: RedisConnection;
beforeAll(async () => {
  keys = await startKeys();
  slow = await keys.start({ signingKeys: { readEvery: 3_600_000 } });
  redis = connectRedis(keys.redis.url, 'queueWorker', () => undefined);
});
afterAll(async () => {
  redis.disconnect();
  await slow.close();
  await keys.stop();
});

const everywhere = () => [...keys.both, slow];

/** What a thief of a key makes: good in every way, of any instant. */
async function thief(kid: string): Promise<() => Promise<string>> {
  const [row] = await keys.database.rows<{ sealed: Buffer }>(
    'SELECT sealed_private_key AS sealed FROM signing_keys WHERE kid = $1',
    [kid],
  );
  const pkcs8 = createKeyring(MASTER_KEY).unseal(row?.sealed ?? Buffer.alloc(0), kid);
  const key = createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' });
  const sign = createJwtSigner({ kid, alg: 'ES256', key });
  return () => {
    const [sub, sid, issuedAt] = [randomUUID(), 'A'.repeat(22), Date.now() * 1000];
    const iat = Math.floor(issuedAt / 1_000_000);
    const jti = createJti({ userId: sub, sessionId: sid, issuedAt });
    const claims = { iss: PUBLIC_URL, aud: PUBLIC_URL, iat, exp: iat + 600, orig_iat: iat };
    return sign({ ...claims, sub, sid, jti, client_id: 'latchkey', scope: 'account' });
  };
}

/** Of each instance: the tokens it has seen, others by the same key, and the key itself. */
async function expectRefusedEverywhere(kid: string, seen: string, forge: () => Promise<string>): Promise<void> {
  for (const instance of everywhere())
    await vi.waitFor(async () => {
      expect(await keys.verify(seen, instance)).toBe(401);
      expect(await keys.verify(await forge(), instance)).toBe(401);
      expect(await keys.introspect(seen, instance)).toBe(false);
      expect(await keys.published(instance)).not.toContain(kid);
    }, SOON);
}

/** How many lines of the log name a key. */
async function linesOf(kid: string): Promise<number> {
  const entries = await redis.xrange(redisKeys().revocations, '-', '+');
  return entries.filter(([, fields]) => fields[0] === 'kid' && fields[1]?.endsWith(` ${kid}`)).length;
}

test('what it has signed is refused everywhere, seen or not, and sessions go on by their refresh tokens', async () => {
  const session = await keys.session();
  const [kid, next] = [kidOf(session.access_token), await keys.kidIn('next')];
  const forge = await thief(kid);
  // Another service, which may keep the keys it was told for some more minutes.
  const told: { kid: string }[] = (await keys.api.get('/.well-known/jwks.json')).json().keys;
  const outside = createVerifier({
    issuer: PUBLIC_URL,
    audience: PUBLIC_URL,
    jwks: (wanted) => told.find((key) => key.kid === wanted),
    revocations: revocationsInRedis({ redis: keys.redis.url }),
  });
  onTestFinished(() => outside.close());
  for (const instance of everywhere()) expect(await keys.verify(session.access_token, instance)).toBe(200);
  await vi.waitFor(async () => expect(await outside.verify(await forge())).toBeDefined(), SOON);

  expect((await keys.revoke(kid)).statusCode).toBe(204);
  // Whoever answered knows it.
  expect(await keys.verify(session.access_token, keys.api)).toBe(401);
  expect(await keys.introspect(session.access_token, keys.api)).toBe(false);
  await expectRefusedEverywhere(kid, session.access_token, forge);
  await vi.waitFor(
    async () => expect(outside.verify(await forge())).rejects.toMatchObject({ code: 'token_revoked' }),
    SOON,
  );
  for (const instance of everywhere()) {
    const renewed = await keys.refresh(session, instance);
    expect(kidOf(renewed.access_token)).toBe(next);
    for (const other of everywhere()) expect(await keys.verify(renewed.access_token, other)).toBe(200);
  }
  const stored = await keys.stored();
  expect(stored.map(({ state }) => state).sort()).toEqual(['current', 'next', 'revoked']);
  expect(stored.find((key) => key.kid === kid)).toMatchObject({ state: 'revoked', sealed: 0 });
  const events = await keys.database.rows(
    `SELECT actor_type, details FROM audit_events WHERE type = 'signing_key.revoked'`,
  );
  expect(events).toEqual([{ actor_type: 'client', details: { kid } }]);
});

test('verifiers outside follow the keys: through rotations, and of a revoked one each knows within the lag bound', async () => {
  const url = await keys.other.app.listen({ host: '127.0.0.1', port: 0 });
  const verifiers = [
    await outsideVerifier(keys.api, url),
    await outsideVerifier(keys.api, url, { redis: keys.redis.url }),
  ];
  const before = await keys.session();
  const everyAnswer = (token: string) => Promise.all(verifiers.map(({ answer }) => answer(token)));
  expect(await everyAnswer(before.access_token)).toEqual(['good', 'good']);
  for (let rotation = 0; rotation < 2; rotation += 1) {
    await keys.ripen();
    expect((await keys.rotate()).statusCode).toBe(200);
    const { access_token: token } = await keys.session();
    // A key that is made and used within moments is asked for at most once per window.
    await vi.waitFor(async () => expect(await everyAnswer(token)).toEqual(['good', 'good']), SOON);
    expect(await everyAnswer(before.access_token)).toEqual(['good', 'good']);
  }
  const { access_token: seen } = await keys.session();
  const kid = kidOf(seen);
  const forge = await thief(kid);
  expect(await everyAnswer(seen)).toEqual(['good', 'good']);
  expect(await everyAnswer(await forge())).toEqual(['good', 'good']);
  expect((await keys.revoke(kid)).statusCode).toBe(204);
  const answered = performance.now();
  const refused = ['token_revoked', 'token_revoked'];
  await vi.waitFor(async () => {
    for (const token of [seen, await forge()]) expect(await everyAnswer(token)).toEqual(refused);
    for (const instance of everywhere()) expect(await keys.verify(await forge(), instance)).toBe(401);
  }, SOON);
  expect(performance.now() - answered).toBeLessThan(LAG_MAX);
});

test('a revocation that ended between PostgreSQL and Redis is completed by whoever reads; so is one that is repeated', async () => {
  const session = await keys.session();
  const kid = kidOf(session.access_token);
  const forge = await thief(kid);
  for (const instance of everywhere()) expect(await keys.verify(session.access_token, instance)).toBe(200);
  const db = connectDatabase(keys.options.databaseUrl, () => undefined);
  onTestFinished(() => db.$disconnect());
  const dying = createSigningKeys({
    store: createSigningKeyStore(db, keyLives(600)),
    keyring: createKeyring(MASTER_KEY),
    alg: 'ES256',
    denyKey: () => Promise.reject(new Error('the process has ended')),
    copy: { deniesKey: () => false, epoch: () => undefined },
    logger: createLogger('auth-api', 'fatal'),
  });
  const event: AuditEvent = {
    type: 'signing_key.revoked',
    actor: { type: 'operator', id: 'somebody' },
    userId: null,
    context: null,
  };
  await expect(dying.revoke(kid, event)).rejects.toThrow('the process has ended');
  await expectRefusedEverywhere(kid, session.access_token, forge);
  expect(await linesOf(kid)).toBeGreaterThan(0);
  expect((await keys.revoke(kid)).statusCode).toBe(204);
  expect((await keys.stored()).filter(({ state }) => state === 'current')).toHaveLength(1);
});

test('a Redis that has lost it is told again; what the thief makes stays refused', async () => {
  const session = await keys.session();
  const kid = kidOf(session.access_token);
  const forge = await thief(kid);
  for (const instance of everywhere()) expect(await keys.verify(await forge(), instance)).toBe(200);
  expect((await keys.revoke(kid)).statusCode).toBe(204);
  await expectRefusedEverywhere(kid, session.access_token, forge);
  await redis.flushall();
  await vi.waitFor(async () => {
    for (const instance of everywhere()) expect((await instance.get('/readyz')).statusCode).toBe(200);
    expect(await linesOf(kid)).toBeGreaterThan(0);
  }, SOON);
  // One that has never heard of it but from PostgreSQL and this Redis.
  const fresh = await keys.start();
  onTestFinished(() => fresh.close());
  for (const instance of [...everywhere(), fresh])
    await vi.waitFor(async () => {
      expect(await keys.verify(await forge(), instance)).toBe(401);
      expect(await keys.published(instance)).not.toContain(kid);
    }, SOON);
  expect(await keys.verify((await keys.session()).access_token, slow)).toBe(200);
});

test('any key may be revoked, the next and a retiring one too, and only the current one is replaced at once', async () => {
  await keys.ripen();
  const before = await keys.session();
  expect((await keys.rotate()).statusCode).toBe(200);
  const [retiring, current, next] = [kidOf(before.access_token), await keys.kidIn('current'), await keys.kidIn('next')];
  const after = await keys.session();
  for (const kid of [next, retiring]) expect((await keys.revoke(kid, keys.other)).statusCode).toBe(204);
  expect(await keys.kidIn('current')).toBe(current);
  expect(await keys.kidIn('next')).not.toBe(next);
  for (const instance of everywhere()) {
    await vi.waitFor(async () => expect(await keys.verify(before.access_token, instance)).toBe(401), SOON);
    expect(await keys.verify(after.access_token, instance)).toBe(200);
  }
});

test('many commands at once leave one current and one next key', async () => {
  await keys.ripen();
  const [current, next] = [await keys.kidIn('current'), await keys.kidIn('next')];
  const answers = await Promise.all([
    keys.revoke(current, keys.api),
    keys.revoke(current, keys.other),
    keys.rotate(keys.other),
    keys.revoke(next, keys.api),
    keys.rotate(keys.api),
  ]);
  // An operator's own token may be refused by then.
  for (const { statusCode } of answers) expect([200, 204, 401, 409]).toContain(statusCode);
  const states = (await keys.stored()).map(({ state }) => state);
  expect(states.filter((state) => state === 'current')).toHaveLength(1);
  expect(states.filter((state) => state === 'next')).toHaveLength(1);
  expect(await keys.verify((await keys.session(keys.other)).access_token, keys.api)).toBe(200);
});

test('a key nobody has is not known', async () => {
  for (const kid of ['A'.repeat(43), 'no-key', '%00', "';--"])
    expectProblem(await keys.revoke(encodeURIComponent(kid)), { status: 404, code: 'signing_key_unknown' });
});

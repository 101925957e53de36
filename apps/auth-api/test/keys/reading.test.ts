/** How an instance knows the keys: seldom asked for, believed for a while, and not for longer. */
import { randomBytes } from 'node:crypto';
import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import type {} from '@latchkey/dev-stack/test-stack';
import { connectDatabase } from '@latchkey/shared/database';
import { createLogger } from '@latchkey/shared/logger';
import { expect, inject, onTestFinished, test, vi } from 'vitest';
import { createKeyring } from '../../src/domain/keyring.ts';
import { BELIEVED_FOR, createSigningKeys, JWKS_MAX_AGE, keyLives } from '../../src/domain/signing-keys.ts';
import { createSigningKeyStore } from '../../src/store/signing-keys.ts';
import { MASTER_KEY } from '../test-app.ts';

/** Keys on a database of their own, on a clock that is set, whose reads are counted. */
async function countedKeys() {
  const database = await createTestDatabase(inject('databaseUrl'));
  const db = connectDatabase(database.url, () => undefined);
  onTestFinished(async () => {
    await db.$disconnect();
    await database.drop();
  });
  const store = createSigningKeyStore(db, keyLives(600));
  const state = { now: 0, reads: 0, away: false };
  const keys = createSigningKeys({
    store: {
      ...store,
      async read() {
        state.reads += 1;
        if (state.away) throw new Error('PostgreSQL is away');
        return store.read();
      },
    },
    keyring: createKeyring(MASTER_KEY),
    alg: 'ES256',
    denyKey: async () => undefined,
    copy: { deniesKey: () => false, epoch: () => undefined },
    logger: createLogger('auth-api', 'fatal'),
    clock: () => state.now,
  });
  // The first connection to PostgreSQL: on a machine that is busy it may take longer than a request may wait.
  await vi.waitFor(() => keys.ensure(), 15_000);
  const { keys: published } = await keys.jwks();
  state.reads = 0;
  return { keys, state, db, store, published };
}

const unknownKid = () => randomBytes(32).toString('base64url');

test('a flood of unknown kids costs one read per window, and known keys none', async () => {
  const { keys, state, published } = await countedKeys();
  for (let window = 1; window <= 3; window += 1) {
    const found = await Promise.all(Array.from({ length: 1000 }, () => keys.publicJwk(unknownKid())));
    expect(found.every((key) => key === undefined)).toBe(true);
    for (const { kid = '' } of published) expect(await keys.publicJwk(kid)).toMatchObject({ kid });
    expect(state.reads).toBe(window);
    state.now += 1000;
  }
});

test('what can not be a kid of this issuer is not looked for', async () => {
  const { keys, state } = await countedKeys();
  for (const kid of ['', 'unknown', `${unknownKid()}=`, `${unknownKid()}\n`, '__proto__', 'x'.repeat(5000)])
    expect(await keys.publicJwk(kid)).toBeUndefined();
  expect(state.reads).toBe(0);
});

test('a key that another instance has made is found when a token names it', async () => {
  const { keys, db, published } = await countedKeys();
  const [one] = published;
  await db.$executeRaw`
    INSERT INTO signing_keys (kid, alg, public_jwk, sealed_private_key, state, expires_at)
    VALUES (${'B'.repeat(43)}, 'ES256', ${JSON.stringify({ ...one, kid: undefined })}::jsonb, '', 'retiring', now() + interval '1 hour')`;
  expect(await keys.publicJwk('B'.repeat(43))).toMatchObject({ kid: 'B'.repeat(43) });
});

test('while PostgreSQL is away what is known stays good, what is not known is no refusal, and nothing is believed for ever', async () => {
  const { keys, state, published } = await countedKeys();
  const claims = { iss: 'i', sub: 's', aud: 'a', exp: 2, iat: 1, jti: 'j', client_id: 'c', scope: 's' };
  state.away = true;
  state.now = BELIEVED_FOR * 1000 - 1;
  expect(await keys.sign(claims)).toMatch(/^ey/);
  expect((await keys.jwks()).keys).toEqual(published);
  await expect(keys.publicJwk(unknownKid())).rejects.toThrow('PostgreSQL is away');
  state.now += 1;
  await expect(keys.sign(claims)).rejects.toThrow('PostgreSQL is away');
  await expect(keys.jwks()).rejects.toThrow('PostgreSQL is away');
  const { kid = '' } = published[0] ?? {};
  expect(await keys.publicJwk(kid)).toBeDefined();
  // From then on the log may have forgotten that the key was revoked meanwhile.
  state.now = (BELIEVED_FOR + JWKS_MAX_AGE) * 1000;
  await expect(keys.publicJwk(kid)).rejects.toThrow('PostgreSQL is away');
  state.away = false;
  expect(await keys.publicJwk(kid)).toBeDefined();
  expect(await keys.sign(claims)).toMatch(/^ey/);
});

test('the log names a revoked key until no verifier can hold it, however short tokens live', () => {
  // What an instance publishes may be BELIEVED_FOR old, and a verifier goes on with it for ten minutes (packages/verifier/src/key-set.ts).
  for (const accessTokenTtl of [1, 60, 600, 3600])
    expect(keyLives(accessTokenTtl).deniedFor).toBeGreaterThan(
      BELIEVED_FOR + Math.max(600, JWKS_MAX_AGE + accessTokenTtl),
    );
});

/** Rotation: everybody knows a key before it signs and until the last it signed has expired. */
import { setTimeout } from 'node:timers/promises';
import { revocationsInRedis } from '@latchkey/verifier/redis';
import { createVerifier } from '@latchkey/verifier/verifier';
import { createRemoteJWKSet, customFetch, jwtVerify } from 'jose';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { decoded } from '../accounts.ts';
import { expectProblem } from '../expect-problem.ts';
import { LAG_MAX } from '../feed/feed-suite.ts';
import { PATIENCE, PUBLIC_URL } from '../test-app.ts';
import { type Keys, kidOf, SOON, startKeys } from './keys-suite.ts';
import { startLoad } from './load.ts';

/** One as fast as they are allowed; more of them by the environment. */
const ROTATIONS = Number(process.env.ROTATIONS ?? 30);
/** Milliseconds between two rotations at least. */
const ROTATE_EVERY = Number(process.env.ROTATE_EVERY ?? 0);

let keys: Keys;
/** Where one of them listens. */
let url: string;
beforeAll(async () => {
  keys = await startKeys();
  url = await keys.other.app.listen({ host: '127.0.0.1', port: 0 });
});
afterAll(() => keys.stop());

test('of the very first two keys the next one may sign at once: nobody has ever seen a set without it', async () => {
  expect((await keys.stored()).map(({ state }) => state).sort()).toEqual(['current', 'next']);
  const next = await keys.kidIn('next');
  const session = await keys.session();
  const rotated = await keys.rotate();
  expect(rotated.statusCode).toBe(200);
  expect(rotated.json()).toEqual({ kid: next, retiring: kidOf(session.access_token) });
  expect(kidOf((await keys.refresh(session, keys.api)).access_token)).toBe(next);
});

test('a key that not everybody knows yet is not signed with', async () => {
  const current = await keys.kidIn('current');
  const refused = await keys.rotate();
  expectProblem(refused, { status: 409, code: 'signing_key_too_young' });
  expect(refused.json().detail).toMatch(/may sign from 20\d\d-/);
  expect(await keys.kidIn('current')).toBe(current);
});

test('two commands at once make one rotation, and one record of it', async () => {
  await keys.ripen();
  const [before, recorded] = [await keys.kidIn('next'), await rotationsRecorded()];
  const answers = await Promise.all([0, 1, 2, 3, 4, 5].map((n) => keys.rotate(n % 2 === 0 ? keys.api : keys.other)));
  expect(answers.map(({ statusCode }) => statusCode).sort()).toEqual([200, 409, 409, 409, 409, 409]);
  expect(await keys.kidIn('current')).toBe(before);
  expect(await rotationsRecorded()).toBe(recorded + 1);
});

const rotationsRecorded = async (): Promise<number> => {
  const [row] = await keys.database.rows<{ count: number }>(
    `SELECT count(*)::int FROM audit_events WHERE type = 'signing_key.rotated'`,
  );
  return row?.count ?? 0;
};

/**
 * Another service, which verifies by itself: its keys from one of the instances.
 * @param jwksWindow milliseconds for which it does not ask again for a key it does not know.
 * @returns what answers `good`, or the code of the refusal.
 */
async function outsideVerifier(jwksWindow: number): Promise<(token: string) => Promise<string>> {
  const verifier = createVerifier({
    issuer: PUBLIC_URL,
    audience: PUBLIC_URL,
    jwks: `${url}/.well-known/jwks.json`,
    jwksWindow,
    revocations: revocationsInRedis({ redis: keys.redis.url, lagMax: LAG_MAX * PATIENCE }),
  });
  onTestFinished(() => verifier.close());
  await vi.waitFor(() => expect(verifier.fresh()).toBe(true), SOON);
  return (token) =>
    verifier.verify(token).then(
      () => 'good',
      ({ code }: { code: string }) => code,
    );
}

test(`${ROTATIONS} rotations under load over two instances: no token is refused, by a service that verifies by itself neither`, {
  timeout: 120_000 + ROTATIONS * ROTATE_EVERY,
}, async () => {
  // `ripen` skips the time in which it would have learnt of the next key, so here it may ask for each as soon as it meets it.
  const load = startLoad(keys, await outsideVerifier(0));
  let went: Awaited<ReturnType<typeof load.stop>>;
  try {
    for (let rotation = 0; rotation < ROTATIONS; rotation += 1) {
      const began = performance.now();
      await keys.ripen();
      expect((await keys.rotate(keys.both[rotation % 2 === 0 ? 0 : 1])).statusCode).toBe(200);
      await setTimeout(Math.max(0, ROTATE_EVERY - (performance.now() - began)));
    }
  } finally {
    went = await load.stop();
  }
  expect(went.refused).toEqual([]);
  // It was a load, and the keys did change under it.
  expect(went.verified).toBeGreaterThan(ROTATIONS);
  expect(went.signedBy.size).toBeGreaterThan(ROTATIONS / 3);
});

test('a client that keeps the keys as it was told verifies through a rotation without asking again', async () => {
  await keys.ripen();
  let fetches = 0;
  const jwks = createRemoteJWKSet(new URL(`${PUBLIC_URL}/.well-known/jwks.json`), {
    [customFetch]: async () => {
      fetches += 1;
      const { body, headers } = await keys.other.get('/.well-known/jwks.json');
      return new Response(body, { headers: { 'content-type': String(headers['content-type']) } });
    },
  });
  const check = (token: string) => jwtVerify(token, jwks, { issuer: PUBLIC_URL, audience: PUBLIC_URL, typ: 'at+jwt' });
  // It would ask again for a key it does not know, but not in this test.
  const outside = await outsideVerifier(60_000);
  const session = await keys.session();
  await check(session.access_token);
  expect(await outside(session.access_token)).toBe('good');
  expect((await keys.rotate()).statusCode).toBe(200);
  const renewed = await keys.refresh(session, keys.api);
  expect(kidOf(renewed.access_token)).not.toBe(kidOf(session.access_token));
  for (const { access_token: token } of [renewed, session]) {
    await check(token);
    expect(await outside(token)).toBe('good');
  }
  expect(fetches).toBe(1);
  // One that asks now finds the key that retires beside the two others.
  await vi.waitFor(async () => expect(await keys.published(keys.other)).toContain(await keys.kidIn('next')), SOON);
  await jwks.reload();
  await check(session.access_token);
  await check(renewed.access_token);
});

describe('what is published', () => {
  test('may be kept for 300 s and asked for by its tag', async () => {
    const { headers } = await keys.api.get('/.well-known/jwks.json');
    expect(headers['cache-control']).toBe('public, max-age=300');
    const ask = (tag: string) => keys.api.call('GET', '/.well-known/jwks.json', undefined, { 'if-none-match': tag });
    const tag = String(headers.etag);
    for (const names of [tag, `W/${tag}`, `"other", ${tag}`, '*']) {
      const unchanged = await ask(names);
      expect([unchanged.statusCode, unchanged.body, unchanged.headers.etag]).toEqual([304, '', tag]);
    }
    expect((await ask('"other"')).statusCode).toBe(200);
    await keys.ripen();
    await keys.rotate();
    expect((await ask(tag)).statusCode).toBe(200);
  });

  test('no longer has a key once the last it signed has expired; its private part has gone before', async () => {
    const retiring = await keys.kidIn('retiring');
    expect((await keys.stored()).filter(({ state }) => state === 'retiring').map(({ sealed }) => sealed)).toContain(0);
    const [left] = await keys.database.rows<{ seconds: number }>(
      'SELECT extract(epoch FROM expires_at - now())::float AS seconds FROM signing_keys WHERE kid = $1',
      [retiring],
    );
    // An hour in which an instance may go on without PostgreSQL, the 600 s of a token, and 60 s for clocks that differ.
    expect(left?.seconds).toBeGreaterThan(3600 + 600);
    expect(left?.seconds).toBeLessThan(3600 + 600 + 61);
    await keys.database.rows('UPDATE signing_keys SET expires_at = now() WHERE kid = $1', [retiring]);
    await vi.waitFor(async () => {
      for (const instance of keys.both) expect(await keys.published(instance)).not.toContain(retiring);
      expect((await keys.stored()).map(({ kid }) => kid)).not.toContain(retiring);
    }, SOON);
  });
});

test('a key that is old is replaced, by one of the instances, and that is recorded', async () => {
  await keys.ripen();
  const [current, next] = [await keys.kidIn('current'), await keys.kidIn('next')];
  const recorded = await rotationsRecorded();
  await keys.database.rows(`UPDATE signing_keys SET signs_from = now() - interval '31 days' WHERE kid = $1`, [current]);
  await vi.waitFor(async () => expect(await keys.kidIn('current')).toBe(next), SOON);
  expect(await rotationsRecorded()).toBe(recorded + 1);
  const [event] = await keys.database.rows<{ details: object }>(
    `SELECT actor_type, request_id, details FROM audit_events ORDER BY id DESC LIMIT 1`,
  );
  expect(event).toEqual({ actor_type: 'system', request_id: null, details: { kid: next, retiring: current } });
});

test('a database of the release before, with a current key alone, gets a next one that waits', async () => {
  const next = await keys.kidIn('next');
  await keys.database.rows(`UPDATE signing_keys SET signs_from = NULL WHERE state = 'current'`);
  await keys.database.rows(`DELETE FROM signing_keys WHERE state = 'next'`);
  await vi.waitFor(async () => expect(await keys.kidIn('next')).not.toBe(next), SOON);
  expectProblem(await keys.rotate(), { status: 409, code: 'signing_key_too_young' });
});

test('another SIGNING_ALG is that of the next rotation; tokens by the former algorithm stay good', async () => {
  const [current, replaced] = [await keys.kidIn('current'), await keys.kidIn('next')];
  const session = await keys.session();
  const changed = await keys.start({ env: { SIGNING_ALG: 'EdDSA' } });
  onTestFinished(() => changed.close());
  await vi.waitFor(async () => expect(await keys.kidIn('next')).not.toBe(replaced), SOON);
  expect(await keys.kidIn('current')).toBe(current);
  await vi.waitFor(async () => expect(await keys.published(changed)).not.toContain(replaced), SOON);
  expectProblem(await keys.rotate(changed), { status: 409, code: 'signing_key_too_young' });
  await keys.ripen();
  expect((await keys.rotate(changed)).statusCode).toBe(200);
  const renewed = await keys.refresh(session, changed);
  expect(decoded(renewed.access_token).header.alg).toBe('EdDSA');
  for (const instance of [...keys.both, changed])
    for (const { access_token } of [session, renewed]) expect(await keys.verify(access_token, instance)).toBe(200);
});

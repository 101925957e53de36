import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import { keysOf } from '@latchkey/dev-stack/test-redis';
import { connectRedis, type RedisConnection } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { afterAll, beforeAll, expect, inject, onTestFinished, test, vi } from 'vitest';
import { type Holdings, newHoldings, type Plan } from './known.ts';
import { observe } from './observe.ts';
import { newNamespace } from './property.ts';
import { type Lane, LIMITS, SETTINGS, type System, startSystem } from './system.ts';

/** Issue 3: at the same time, of one user. */
const AT_ONCE = 1000;
/** Before it: so that there are tokens to refresh and sessions to end. */
const BEFORE = 60;

const namespace = newNamespace();
const keys = redisKeys(namespace);
let database: Awaited<ReturnType<typeof createTestDatabase>>;
/** Two services, each with connections of its own. */
let systems: [System, System];
let lanes: [Lane, Lane];
let watcher: RedisConnection;

beforeAll(async () => {
  database = await createTestDatabase(inject('databaseUrl'));
  const place = { redisUrl: inject('redisUrl'), databaseUrl: database.url, namespace };
  systems = [await startSystem(place), await startSystem(place)];
  lanes = [systems[0].lane(), systems[1].lane()];
  watcher = connectRedis(inject('redisUrl'), 'queueWorker', () => undefined);
});
afterAll(async () => {
  watcher.disconnect();
  for (const system of systems) await system.stop();
  await database.drop();
});

/** Of every ten: five logins, three refreshes, a logout; a logout of the others every twenty, a revoke-all every hundred. */
function planOf(nth: number, holder: Holdings): Plan {
  const base = { holder, instance: nth % SETTINGS.length };
  const tokens = [...holder.refreshTokens];
  const session = holder.sessionIds[(nth * 7) % Math.max(1, holder.sessionIds.length)] ?? '';
  const token = tokens.at(-1 - (nth % 40)) ?? tokens.at(-1);
  if (nth % 100 === 99) return { ...base, kind: 'endAll' };
  if (nth % 20 === 19) return { ...base, kind: 'endOthers', sessionId: session };
  if (nth % 10 === 8) return { ...base, kind: 'endOne', sessionId: session };
  if (nth % 10 >= 5 && token) return { ...base, kind: 'refresh', token: token[0], content: token[1] };
  const sessionId = Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString('base64url');
  holder.sessionIds.push(sessionId);
  return { ...base, kind: 'login', sessionId, format: nth % 3 === 0 ? 'opaque' : 'jwt', prepared: undefined };
}

/**
 * As a client does: a login is begun anew while everything is being revoked, and what PostgreSQL had no connection for in time (a 503) is
 * asked for again.
 */
async function carriedThrough(lane: Lane, plan: Plan): Promise<void> {
  for (;;) {
    try {
      const events = await observe(lane, plan);
      if (!events.some((event) => event.kind === 'create' && event.outcome.status === 'changed')) return;
    } catch (error) {
      if (!(error instanceof Error && error.message.includes('timeout'))) throw error;
    }
  }
}

/** Counts the user's sessions again and again until stopped. @returns the most there ever were. */
function watchLimit(userId: string): () => Promise<number> {
  let most = 0;
  let stopped = false;
  const watching = (async () => {
    while (!stopped) most = Math.max(most, await watcher.zcard(keys.sessions(userId)));
  })();
  return async () => {
    stopped = true;
    await watching;
    return most;
  };
}

test('1000 logins, logouts, revoke-alls and refreshes of one user at once leave no orphan and no zombie, and never exceed the limit', {
  timeout: 120_000,
}, async () => {
  const holder = newHoldings();
  const [one, other] = lanes;
  await one.addUsers([holder.id]);
  const stopWatching = watchLimit(holder.id);
  onTestFinished(() => stopWatching().then(() => undefined));
  for (let nth = 0; nth < BEFORE; nth += 1) await carriedThrough(nth % 2 === 0 ? one : other, planOf(nth, holder));
  await Promise.all(
    Array.from({ length: AT_ONCE }, (_, nth) => carriedThrough(nth % 2 === 0 ? one : other, planOf(nth, holder))),
  );
  await expectAgreement(holder);
  expect(await stopWatching()).toBe(LIMITS.sessions);
});

/** Index, hashes and every token ever given tell the same. */
async function expectAgreement(holder: Holdings): Promise<void> {
  const [one, other] = lanes;
  const seen = await one.clock.look(holder.id, holder.sessionIds);
  expect([...seen.hashes.keys()].sort()).toEqual([...seen.index.keys()].sort());
  const stored = await keysOf(watcher, `${keys.sessionPrefix(holder.id).replaceAll(/[{}]/g, '?')}*`);
  expect(stored.length).toBe(seen.hashes.size);
  expect(seen.index.size).toBeLessThanOrEqual(LIMITS.sessions);
  const end = await one.endOfLog();
  // Each login names every session that ended lately: the log of this user is long.
  const copies = systems.flatMap((system) => Object.values(system.copies));
  await vi.waitFor(() => {
    for (const copy of copies) expect(copy.position(), `lag ${copy.lag()}, ${copy.knowsRedis()}`).toBe(end);
  }, 60_000);
  for (const copy of copies)
    for (const token of holder.accessTokens) {
      const good = seen.index.has(token.sessionId) && token.issuedAt > seen.gate.cutoff;
      expect(copy.denies({ userId: holder.id, ...token }), `access token of ${token.sessionId}`).toBe(!good);
    }
  for (const sessionId of holder.opaque)
    expect((await other.instances[0]?.store.useOpaqueToken(holder.id, sessionId, other.born())) !== undefined).toBe(
      seen.index.has(sessionId),
    );
  for (const [token, content] of [...holder.refreshTokens]) {
    const [event] = await observe(other, { holder, instance: 0, kind: 'refresh', token, content });
    const lives = seen.index.has(content.sessionId) && content.issuedAt > seen.gate.cutoff;
    expect(event, `refresh token ${content.counter} of ${content.sessionId}`).toMatchObject(
      lives ? { outcome: { status: 'ok' } } : { answer: 'session_revoked' },
    );
  }
}

/** A verifier outside, cut off from its feed: it accepts until the bound, refuses after, and has missed nothing once it hears again. */

import { temporaryFolder } from '@latchkey/dev-stack/processes';
import { type RunningRedis, startRedis } from '@latchkey/dev-stack/redis';
import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import { revocationFeed } from '@latchkey/verifier/feed';
import { createVerifier } from '@latchkey/verifier/verifier';
import { afterAll, beforeAll, expect, inject, onTestFinished, test, vi } from 'vitest';
import { activeUser, logIn } from '../accounts.ts';
import { addClient } from '../clients.ts';
import { PUBLIC_URL, startTestApp, type TestApp } from '../test-app.ts';
import { LAG_MAX, logWriter, outsideVerifier, SOON, startWire, tokenMaker } from './feed-suite.ts';

const env = { REVOCATION_LAG_MAX_MS: String(LAG_MAX), RATE_LIMITS: 'off' };
let redis: RunningRedis;
let database: Awaited<ReturnType<typeof createTestDatabase>>;
let api: TestApp;
let url: string;

async function start(): Promise<void> {
  api = await startTestApp({ databaseUrl: database.url, redisUrl: redis.url, env });
  url = await api.app.listen({ host: '127.0.0.1', port: 0 });
}
async function restart(): Promise<void> {
  await api.close();
  await start();
}

beforeAll(async () => {
  redis = await startRedis({ dir: `${temporaryFolder('feed')}/redis`, args: ['--appendfsync', 'always'] });
  database = await createTestDatabase(inject('databaseUrl'));
  await start();
});
afterAll(async () => {
  await api.close();
  await redis.stop();
  await database.drop();
});

type Log = ReturnType<typeof logWriter>;

const TRIMMED = 'the log was trimmed past its position';

/** What may happen while nobody hears; `missed` is the entry of what was revoked before. */
const MEANWHILE: Record<string, (log: Log, missed: string) => Promise<void>> = {
  'nothing else': async () => undefined,
  'auth-api restarted': restart,
  'Redis restarted': async () => {
    await redis.stop();
    await redis.start();
  },
  [TRIMMED]: async (log, missed) => {
    // Not further: what still matters is never trimmed.
    await log.redis.xtrim(log.keys.revocations, 'MINID', missed);
    // Several reads, several events: until the last of them nothing may be believed.
    const many = log.redis.pipeline();
    for (let one = 0; one < 12_000; one += 1)
      many.xadd(log.keys.revocations, '*', 'sid', `${Math.ceil(Date.now() / 1000) + 660} 0 many-${one}`);
    await many.exec();
    // Or the app would still know from before.
    await restart();
  },
};

/**
 * How a verifier hears of revocations, where the wire is, what goes through it when all is said anew, and after how many milliseconds of
 * quiet a sign of life does: BEATS of domain/revocation-feed.ts to the bound, LONGEST_BLOCK of the verifier's revocation-copy.ts.
 */
const WAYS = {
  'by the feed': { target: () => url, redis: () => undefined, anew: /"resumed":false/, beat: LAG_MAX / 5 },
  'from Redis': {
    target: () => redis.url,
    redis: (wire: string) => wire.replace('http:', 'redis:'),
    anew: /\b0-0\b/,
    beat: 250,
  },
} as const;

/** Milliseconds: clocks that count whole ones, and Redis, which may wait a little less than it is told to. */
const SLACK = 20;

const CASES = (Object.keys(WAYS) as (keyof typeof WAYS)[]).flatMap((way) =>
  Object.keys(MEANWHILE).map((what) => ({ way, what })),
);

test.each(CASES)('hearing $way, cut while $what', async ({ way, what }) => {
  const { target, redis: redisAt, anew, beat } = WAYS[way];
  const log = logWriter(api);
  const wire = await startWire(target());
  const redisUrl = redisAt(wire.url);
  const { verifier, answer, feed } = await (redisUrl === undefined
    ? outsideVerifier(api, wire.url)
    : outsideVerifier(api, url, { redis: redisUrl }));
  const token = await tokenMaker(api);
  const [kept, missed, revoked, cutOff] = [await token(), await token(), await token(), await token()];
  // One that stands before the place it goes on from.
  const known = feed.size();
  // Trimmed is what has stopped to matter: a log that lacks anything else is an older copy and is not believed (ADR 9).
  const soon = Math.ceil(Date.now() / 1000) + 1;
  const before = `before-${what.replaceAll(' ', '-')}`;
  await log.revoke({ sessionId: before, from: 0 }, what === TRIMMED ? soon : undefined);
  await vi.waitFor(() => expect(feed.size()).toBeGreaterThan(known), SOON);
  for (const { token: one } of [kept, missed, revoked, cutOff]) expect(await answer(one)).toBe('good');

  const [heardAt, cutAt] = await vi.waitFor(() => {
    const [at, lag] = [performance.now(), verifier.lag()];
    // One is the feed's, and another for the age of the app's own copy and for a connection that was slow to be made.
    expect(lag).toBeLessThan(3 * beat);
    wire.cut();
    return [at - lag, at];
  }, SOON);
  const entry = await log.revoke({ sessionId: missed.sid, from: 0 });
  // It can't know yet, and says so only when the bound is over. (Judged by when it was asked and answered: timers may be late.)
  const told: { asked: number; answered: number; said: string }[] = [];
  await vi.waitFor(
    async () => {
      const asked = performance.now();
      for (const { token: one } of [kept, missed])
        told.push({ asked, said: await answer(one), answered: performance.now() });
      // News that was under way when the wire was cut tells, once it arrives, of an instant before: not within the bound any more.
      expect(asked).toBeGreaterThan(cutAt + LAG_MAX + 500);
    },
    { ...SOON, interval: 5 },
  );
  const early = told.filter(({ answered }) => answered < heardAt + LAG_MAX - SLACK);
  expect(early.filter(({ said }) => said !== 'good')).toEqual([]);
  const late = told.filter(({ asked }) => asked > cutAt + LAG_MAX + SLACK);
  expect(late.filter(({ said }) => said !== 'revocations_unknown')).toEqual([]);

  await MEANWHILE[what]?.(log, entry ?? '');
  await log.revoke({ sessionId: revoked.sid, from: 0 });
  await log.revoke({ userId: cutOff.sub, cutoff: Date.now() * 1000 });
  // The app knows, so from here on every answer of the verifier is either "not known" or right.
  for (const { token: one } of [missed, revoked, cutOff])
    await vi.waitFor(async () => expect((await api.get('/v1/verify', one)).json().code).toBe('session_revoked'), SOON);
  const wrong: string[] = [];
  const watching = setInterval(async () => {
    for (const { token: one } of [missed, revoked, cutOff]) if ((await answer(one)) === 'good') wrong.push(one);
  }, 1);
  // (The app may have come back at another port.)
  wire.heal(target());
  await vi.waitFor(() => expect(verifier.fresh()).toBe(true), SOON);
  for (const { token: one } of [missed, revoked, cutOff]) expect(await answer(one)).toBe('token_revoked');
  if (what === TRIMMED) expect(wire.passed()).toMatch(anew);
  expect(await answer(kept.token)).toBe('good');
  clearInterval(watching);
  expect(wrong).toEqual([]);
  await log.revoke({ sessionId: kept.sid, from: 0 });
  await vi.waitFor(async () => expect(await answer(kept.token)).toBe('token_revoked'), SOON);
});

test('Redis flushed under load: no revoked token is accepted, before or after', async () => {
  const log = logWriter(api);
  const outside = [await outsideVerifier(api, url), await outsideVerifier(api, url, { redis: redis.url })];
  const answers = (one: string) => Promise.all(outside.map(({ answer }) => answer(one)));
  const epochs = () => outside.map(({ feed }) => feed.epoch()?.id);
  const token = await tokenMaker(api);
  const revoked = await Promise.all(Array.from({ length: 50 }, () => token()));
  const alive = await token();
  for (const { sid } of revoked) await log.revoke({ sessionId: sid, from: 0 });
  const inside = async (one: string) => (await api.get('/v1/verify', one)).statusCode;
  await vi.waitFor(async () => {
    for (const { token: one } of revoked)
      expect([...(await answers(one)), await inside(one)]).toEqual(['token_revoked', 'token_revoked', 401]);
  }, SOON);
  let [rounds, accepted] = [0, 0];
  let ended = false;
  const load = (async () => {
    while (!ended) {
      for (const { token: one } of revoked) {
        if ((await answers(one)).includes('good') || (await inside(one)) === 200) accepted += 1;
      }
      rounds += 1;
      await new Promise(setImmediate);
    }
  })();
  /** Three whole ones from now: the one that is under way does not count. */
  const moreRounds = () => {
    const enough = rounds + 4;
    return vi.waitFor(() => expect(rounds).toBeGreaterThanOrEqual(enough), SOON);
  };
  await moreRounds();
  const flushed = epochs();
  // Nobody may write, so no epoch begins, until there was load on what is empty.
  await log.redis.pipeline().flushall().client('PAUSE', SOON.timeout, 'WRITE').exec();
  await moreRounds();
  expect(epochs()).toEqual(flushed);
  await log.redis.client('UNPAUSE');
  // What was issued before is refused for good, by the birth of the new epoch; what is issued now is good.
  await vi.waitFor(async () => expect(await answers(alive.token)).toEqual(['token_revoked', 'token_revoked']), SOON);
  await vi.waitFor(async () => {
    const issued = await token(Date.now() * 1000 + 2_000_000);
    expect([...(await answers(issued.token)), await inside(issued.token)]).toEqual(['good', 'good', 200]);
  }, SOON);
  ended = true;
  await load;
  expect(accepted).toBe(0);
});

test('cut off, who opted in asks introspection, which knows what was missed; who did not is refused', async () => {
  const wire = await startWire(url);
  const client = await addClient(api.databaseUrl, 'introspect', 'revocations:read');
  const verifier = createVerifier({
    issuer: PUBLIC_URL,
    audience: PUBLIC_URL,
    jwks: `${url}/.well-known/jwks.json`,
    revocations: revocationFeed({ url: `${wire.url}/v1/revocations`, auth: { client }, lagMax: LAG_MAX }),
    introspection: { url: `${url}/oauth/introspect`, client },
  });
  onTestFinished(() => verifier.close());
  await vi.waitFor(() => expect(verifier.fresh()).toBe(true), SOON);
  const email = await activeUser(api);
  const [live, ended] = [await logIn(api, email), await logIn(api, email)];
  wire.cut();
  await vi.waitFor(() => expect(verifier.fresh()).toBe(false), SOON);
  expect((await api.delete('/v1/sessions/current', ended.access_token)).statusCode).toBe(204);

  const ask = ({ access_token: token }: { access_token: string }) => verifier.verify(token, { stale: 'introspect' });
  await expect(ask(live)).resolves.toMatchObject({ sid: live.session.id });
  await expect(ask(ended)).rejects.toMatchObject({ code: 'token_revoked' });
  await expect(verifier.verify(live.access_token)).rejects.toMatchObject({ code: 'revocations_unknown' });
});

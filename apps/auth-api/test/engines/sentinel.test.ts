import { type RunningSentinel, startRedisSentinel } from '@latchkey/dev-stack/redis-sentinel';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { logIn } from '../accounts.ts';
import {
  expectOnly,
  HEALS_WITHIN,
  newUser,
  opaque,
  refreshed,
  settles,
  startOn,
  underLoad,
  verified,
  wholeFlow,
} from './flow.ts';

let sentinel: RunningSentinel;
let system: Awaited<ReturnType<typeof startOn>>;

beforeAll(async () => {
  sentinel = await startRedisSentinel();
  system = await startOn(sentinel);
});
afterAll(() => system.stop());

/** So many replicas have what the master has. */
async function inStep(replicas: number): Promise<void> {
  const { url } = await sentinel.master();
  const redis = new Redis(url);
  try {
    await redis.set('latchkey:test:in-step', '1');
    await vi.waitFor(async () => expect(await redis.wait(replicas, 1000)).toBe(replicas), HEALS_WITHIN);
  } finally {
    redis.disconnect();
  }
}

// The frozen one last: Sentinel leaves it ten seconds of believing itself the master before it is a replica.
test.each([
  ['killed', 2],
  ['frozen', 1],
] as const)(
  'the master %s under load: 503 while it lasts, no revoked token good, all healed without a restart',
  { timeout: 90_000 },
  async (how, replicas) => {
    const [one, other] = system.apis;
    await wholeFlow(one, system.side);
    const user = await newUser(one, system.probe.rows);
    const [good, bad] = [await logIn(one, user.email), await logIn(one, user.email)];
    const [goodTool, badTool] = [await opaque(one, user.email), await opaque(one, user.email)];
    for (const { session } of [bad, badTool])
      expect((await one.delete(`/v1/sessions/${session.id}`, good.access_token)).statusCode).toBe(204);
    await inStep(replicas);
    const load = underLoad({
      good: () => verified(one, good.access_token),
      bad: () => verified(other, bad.access_token),
      badTool: () => verified(one, badTool.access_token),
      badRefresh: async () => (await refreshed(other, bad)).statusCode,
    });
    const master = await sentinel.master();
    if (how === 'frozen') master.freeze();
    else await master.kill();
    await vi.waitFor(async () => expect(await sentinel.master()).not.toBe(master), HEALS_WITHIN);
    for (const api of system.apis) {
      await settles(() => verified(api, good.access_token), 200);
      await settles(() => verified(api, goodTool.access_token), 200);
      await settles(async () => (await api.login(user.email)).statusCode, 200);
    }
    const seen = await load.stop();
    expectOnly(seen.good, 200);
    for (const name of ['bad', 'badTool', 'badRefresh']) expectOnly(seen[name], 401);
    if (how === 'frozen') master.thaw();
    await wholeFlow(one, system.side);
  },
);

/** What each engine has to carry: the whole way of an account, and a load that never stops asking while a server goes away. */
import { setTimeout as wait } from 'node:timers/promises';
import type { TestRedis } from '@latchkey/dev-stack/test-redis';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { expect, vi } from 'vitest';
import { logIn, registeredUser, type TokenResponse } from '../accounts.ts';
import { databaseProbe } from '../mail-probe.ts';
import { PASSWORD, startMailSide, startTestApp, type TestApp } from '../test-app.ts';

/** Milliseconds until a failover is over and everything has healed, on a machine that is busy. */
export const HEALS_WITHIN = { timeout: 30_000, interval: 100 };

/** Two apps, a worker and what they stand on. `stop` ends that Redis too. */
export async function startOn(redis: TestRedis) {
  const side = await startMailSide({}, redis);
  const probe = databaseProbe(side.databaseUrl);
  const start = () => startTestApp({ ...side, env: { RATE_LIMITS: 'off', MAX_SESSIONS_PER_USER: '100000' } });
  const [one, other, worker] = await Promise.all([start(), start(), side.startWorker()]);
  return {
    side,
    probe,
    apis: [one, other] as const,
    async stop(): Promise<void> {
      await probe.close();
      await Promise.all([one.close(), other.close(), worker.stop()]);
      await side.stop();
    },
  };
}

export const verified = async (api: TestApp, token: string) => (await api.get('/v1/verify', token)).statusCode;

export const opaque = async (api: TestApp, email: string): Promise<TokenResponse> =>
  (await api.post('/v1/tokens', { email, password: PASSWORD, token_format: 'opaque' })).json();

export const refreshed = (api: TestApp, { refresh_token }: TokenResponse) =>
  api.post('/v1/tokens/refresh', { refresh_token });

/** register → mail → activate → log in on two devices → verify → refresh → revoke one → revoke all, each answer checked. */
export async function wholeFlow(api: TestApp, side: Awaited<ReturnType<typeof startMailSide>>): Promise<void> {
  const email = await registeredUser(api, side);
  const [phone, laptop, tool] = [await logIn(api, email, 'phone'), await logIn(api, email), await opaque(api, email)];
  for (const { access_token } of [phone, laptop, tool]) expect(await verified(api, access_token)).toBe(200);
  const next = await refreshed(api, phone);
  expect(next.statusCode, next.body).toBe(200);
  const sessions = await api.get('/v1/sessions', laptop.access_token);
  expect(sessions.json().sessions).toHaveLength(3);
  const one = await api.delete(`/v1/sessions/${phone.session.id}`, laptop.access_token);
  expect(one.statusCode, one.body).toBe(204);
  expect(await verified(api, phone.access_token)).toBe(401);
  expect((await refreshed(api, next.json())).statusCode).toBe(401);
  const all = await api.delete('/v1/sessions', laptop.access_token);
  expect(all.statusCode, all.body).toBe(204);
  for (const { access_token } of [laptop, tool]) expect(await verified(api, access_token)).toBe(401);
}

/** Asks each question again and again, side by side. @returns a stop that tells how often each was answered how. */
export function underLoad(questions: Record<string, () => Promise<number>>) {
  let stopped = false;
  const seen: Record<string, Record<number, number>> = {};
  const asking = Object.entries(questions).map(async ([name, ask]) => {
    const answers: Record<number, number> = {};
    seen[name] = answers;
    while (!stopped) {
      const status = await ask();
      answers[status] = (answers[status] ?? 0) + 1;
      await wait(10);
    }
  });
  return {
    async stop(): Promise<Record<string, string[]>> {
      stopped = true;
      await Promise.all(asking);
      return Object.fromEntries(Object.entries(seen).map(([name, answers]) => [name, Object.keys(answers)]));
    },
  };
}

/** Answers that a question may have got: the right one, and 503 while it lasted. */
export function expectOnly(answers: string[] | undefined, right: number): void {
  expect(answers?.filter((status) => status !== '503')).toEqual([String(right)]);
}

/** Resolves once this answers with the status asked for, several times in a row. */
export async function settles(ask: () => Promise<number>, status: number): Promise<void> {
  await vi.waitFor(async () => {
    for (let time = 0; time < 3; time += 1) expect(await ask()).toBe(status);
  }, HEALS_WITHIN);
}

/** A user of a suite without mail, and its keys. */
export async function newUser(api: TestApp, rows: (sql: string, values: unknown[]) => Promise<{ id: string }[]>) {
  const email = `engine-${crypto.randomUUID()}@example.test`;
  await api.register(email);
  const [user] = await rows(`UPDATE users SET status = 'active' WHERE email = $1 RETURNING id`, [email]);
  return { email, id: user?.id ?? '' };
}

/** Whether a session stands in Redis, whatever an app says of it. */
export async function stands(redisUrl: string, userId: string, { session }: TokenResponse): Promise<boolean> {
  const redis = connectRedis(redisUrl, 'queueWorker', () => undefined);
  try {
    return (await redis.exists(redisKeys().session(userId, session.id))) === 1;
  } finally {
    redis.disconnect();
  }
}

/** Of somebody who is gone nothing is mailed: what is owed goes with the account, and while its job can't be taken back nothing goes. */
import { randomBytes } from 'node:crypto';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { expect, onTestFinished, test, vi } from 'vitest';
import { decoded, logIn } from './accounts.ts';
import { addClient, clientToken } from './clients.ts';
import { expectProblem } from './expect-problem.ts';
import { databaseProbe } from './mail-probe.ts';
import { newAddress, PASSWORD, testApp } from './test-app.ts';

/** The app without a worker: what it owes stays in the outbox and in the queue. */
async function appWithoutWorker() {
  const namespace = `latchkey:test-${randomBytes(6).toString('hex')}`;
  const api = await testApp({ namespace });
  const database = databaseProbe(api.databaseUrl);
  const redis = connectRedis(api.redisUrl, 'queueWorker', () => {});
  onTestFinished(async () => {
    redis.disconnect();
    await database.close();
  });
  const jobKey = (id: string) => `${redisKeys(namespace).mailQueuePrefix}:mail:${id}`;

  /** Registers. @returns the address and the key of the job of its mail, once it is in the queue. */
  async function registered() {
    const email = newAddress();
    await api.register(email);
    const job = await vi.waitFor(
      async () => {
        const [mail] = await database.rows<{ id: string }>(
          `SELECT id::text FROM mail_outbox WHERE payload ->> 'to' = $1 AND published_at IS NOT NULL`,
          [email],
        );
        if (!mail) throw new Error('not in the queue yet');
        return jobKey(mail.id);
      },
      { timeout: 10_000 },
    );
    expect(await redis.type(job)).toBe('hash');
    return { email, job };
  }

  /** An account whose mail is in the queue still. */
  async function account() {
    const { email, job } = await registered();
    await database.rows(`UPDATE users SET status = 'active' WHERE email = $1`, [email]);
    const { access_token: token } = await logIn(api, email);
    return { email, job, token, id: String(decoded(token).claims.sub) };
  }

  /** Whether the account and what it is owed are there. */
  const left = async (email: string) => [
    (await database.users(email)).length,
    (await database.owed()).filter(({ payload }) => payload.to === email).length,
  ];
  return { api, namespace, database, redis, registered, account, left };
}

/** An account whose mail a worker has taken. */
async function held() {
  const { api, namespace, database, redis, account } = await appWithoutWorker();
  const { email, job: key, token } = await account();
  const id = key.split(':').at(-1) ?? '';
  // As BullMQ marks a job that is being worked on.
  const lock = `${key}:lock`;
  await redis.set(lock, 'a worker');
  return { api, database, redis, email, token, job: { key, lock, ledger: redisKeys(namespace).mailLedger(id) } };
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

test('a deletion whose mails can not be taken back is 503 and has not happened; repeated it takes them along', async () => {
  const { api, redis, account, left } = await appWithoutWorker();
  const operator = await clientToken(api, await addClient(api.databaseUrl, 'admin'));
  const ways = {
    byOwner: ({ token }: { token: string }) =>
      api.call('DELETE', '/v1/me', { current_password: PASSWORD }, bearer(token)),
    byOperator: ({ id }: { id: string }) => api.call('DELETE', `/v1/admin/users/${id}`, undefined, bearer(operator)),
  };
  for (const erase of Object.values(ways)) {
    const user = await account();
    const content = await redis.hgetall(user.job);
    // What BullMQ can't read, it can't remove.
    await redis.set(user.job, 'no job');
    expectProblem(await erase(user), { status: 503, code: 'dependency_unavailable' });
    expect(await left(user.email)).toEqual([1, 1]);
    await redis.del(user.job);
    await redis.hset(user.job, content);
    const { access_token: token } = await logIn(api, user.email);
    expect((await erase({ ...user, token })).statusCode).toBe(204);
    expect(await left(user.email)).toEqual([0, 0]);
    expect(await redis.exists(user.job)).toBe(0);
  }
});

test('a registration that is forgotten takes its mails along, out of the outbox and out of the queue', async () => {
  const { api, namespace, database, redis, registered, left } = await appWithoutWorker();
  const [old, young] = [await registered(), await registered()];
  await database.rows(`UPDATE users SET created_at = now() - interval '90 days' WHERE email = $1`, [old.email]);
  const content = await redis.hgetall(old.job);
  await redis.set(old.job, 'no job');
  // An instance that starts does the housekeeping, and goes on trying.
  const waits = await testApp({ databaseUrl: api.databaseUrl, redisUrl: api.redisUrl, namespace });
  await vi.waitFor(() => expect(waits.logs.join('\n')).toContain('housekeeping has to wait'), { timeout: 10_000 });
  expect(await left(old.email)).toEqual([1, 1]);
  await redis.del(old.job);
  await redis.hset(old.job, content);
  await vi.waitFor(async () => expect(await left(old.email)).toEqual([0, 0]), { timeout: 10_000 });
  expect(await redis.exists(old.job)).toBe(0);
  expect(await left(young.email)).toEqual([1, 1]);
  expect(await redis.exists(young.job)).toBe(1);
});

test('of a mail that was withdrawn while a worker held it, its job goes once the worker lets go', async () => {
  const { api, database, redis, job, email, token } = await held();
  expect((await api.call('DELETE', '/v1/me', { current_password: PASSWORD }, bearer(token))).statusCode).toBe(204);
  const withdrawals = () => database.rows('SELECT FROM mail_withdrawals');
  await vi.waitFor(async () => expect(await redis.get(job.ledger)).toBe('withdrawn'));
  expect(JSON.stringify(await redis.hgetall(job.key))).toContain(email);
  expect(await withdrawals()).toHaveLength(1);
  await redis.del(job.lock);
  await vi.waitFor(async () => expect(await withdrawals()).toEqual([]));
  expect(await redis.exists(job.key)).toBe(0);
});

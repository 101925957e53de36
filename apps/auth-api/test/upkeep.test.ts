import { once } from 'node:events';
import { createServer } from 'node:net';
import { builtApp } from '@latchkey/dev-stack/built-apps';
import { startProcess } from '@latchkey/dev-stack/processes';
import { connectDatabase } from '@latchkey/shared/database';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { expect, onTestFinished, test, vi } from 'vitest';
import { createUserStore } from '../src/store/users.ts';
import { newAddress, testApp, testEnvironment } from './test-app.ts';

/** The app without a worker: what it owes stays in the outbox. */
async function appAndDatabase(namespace: string) {
  const api = await testApp({ namespace });
  const db = connectDatabase(api.databaseUrl, () => {});
  onTestFinished(() => db.$disconnect());
  return { api, db };
}

test('asking again while no mail has gone out owes one mail, the one whose link will be good', async () => {
  const { api, db } = await appAndDatabase('latchkey:test-superseded');
  const email = newAddress();
  await api.register(email);
  for (let again = 0; again < 3; again += 1)
    expect((await api.post('/v1/activations', { email })).statusCode).toBe(202);
  const owed = await db.mailOutbox.findMany({ select: { payload: true } });
  expect(owed).toMatchObject([{ payload: { to: email, attempt: 4 } }]);
});

test('a report about what is no mail of ours stops nobody: the others are acknowledged', async () => {
  const { api, db } = await appAndDatabase('latchkey:test-reports');
  const keys = redisKeys('latchkey:test-reports');
  const redis = connectRedis(api.redisUrl, 'queueWorker', () => {});
  onTestFinished(() => redis.disconnect());
  await api.register(newAddress());
  const [mail] = await db.mailOutbox.findMany();
  await redis.sadd(keys.mailAccepted, 'welcome-1', mail?.id ?? '');
  await vi.waitFor(async () => expect(await db.mailOutbox.count()).toBe(0), { timeout: 10_000 });
  await vi.waitFor(async () => expect(await redis.scard(keys.mailAccepted)).toBe(0), { timeout: 10_000 });
});

test('registrations nobody confirmed are forgotten after their time, and no others', async () => {
  const { api, db } = await appAndDatabase('latchkey:test-forgotten');
  const [old, young, active] = [newAddress(), newAddress(), newAddress()];
  for (const email of [old, young, active]) await api.register(email);
  await db.user.updateMany({ where: { email: active }, data: { status: 'active' } });
  await db.user.updateMany({
    where: { email: { in: [old, active] } },
    data: { createdAt: new Date(Date.now() - 3_600_000) },
  });
  const users = createUserStore(db);
  expect(await users.forgetUnconfirmed(await users.unconfirmed(1800), async () => {})).toBe(1);
  const left = await db.user.findMany({ select: { email: true } });
  expect(left.map(({ email }) => email).sort()).toEqual([young, active].sort());
});

test('a port that is taken ends the process with exit code 1', async () => {
  const api = await testApp();
  const holder = createServer().listen(0, '127.0.0.1');
  onTestFinished(() => void holder.close());
  await once(holder, 'listening');
  const address = holder.address();
  const port = typeof address === 'object' && address !== null ? String(address.port) : '';
  const { ended } = startProcess({
    command: process.execPath,
    args: [builtApp('auth-api')],
    env: { PATH: process.env.PATH, ...testEnvironment(api), PORT: port },
    endSignal: 'SIGTERM',
    output: () => {},
  });
  expect((await ended).code).toBe(1);
});

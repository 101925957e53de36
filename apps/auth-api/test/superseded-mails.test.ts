/** A link that is dead before its mail is sent is not sent: whatever killed it, wherever the mail is by then. */
import { hash } from 'node:crypto';
import { type MailCatcher, startMailCatcher } from '@latchkey/dev-stack/mail-catcher';
import { tellAll } from '@latchkey/dev-stack/test-redis';
import { connectRedis, type RedisConnection } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { activeUser, logIn } from './accounts.ts';
import { type DatabaseProbe, databaseProbe, keysMailed } from './mail-probe.ts';
import { newAddress, PASSWORD, startMailSide, startTestApp, type TestApp } from './test-app.ts';

/** Milliseconds the mail server thinks about each recipient. */
let thinks = 0;
let side: Awaited<ReturnType<typeof startMailSide>>;
let mail: MailCatcher;
let api: TestApp;
let worker: Awaited<ReturnType<typeof side.startWorker>>;
let database: DatabaseProbe;
let redis: RedisConnection;
/** Told when the mail server is asked for the next recipient. */
const asked: (() => void)[] = [];

beforeAll(async () => {
  mail = await startMailCatcher({
    delay(phase) {
      if (phase !== 'rcpt') return 0;
      for (const tell of asked.splice(0)) tell();
      return thinks;
    },
  });
  side = await startMailSide({ SMTP_URL: mail.smtpUrl });
  [api, worker] = await Promise.all([
    startTestApp({ databaseUrl: side.databaseUrl, redisUrl: side.redisUrl, env: { RATE_LIMITS: 'off' } }),
    side.startWorker(),
  ]);
  database = databaseProbe(side.databaseUrl);
  redis = connectRedis(side.redisUrl, 'queueWorker', () => undefined);
});
afterAll(async () => {
  redis.disconnect();
  await Promise.all([database.close(), worker.stop(), api.close()]);
  await Promise.all([mail.stop(), side.stop()]);
});
afterEach(() => {
  thinks = 0;
  startWorker();
});

/** Frozen, the worker takes no mail until it is let go: what one does that starts only then. */
const holdWorker = (): void => worker.process.signal('SIGSTOP');
const startWorker = (): void => worker.process.signal('SIGCONT');

/** Resolves when the mail server is asked for the next recipient. */
const offered = () => new Promise<void>((resolve) => asked.push(resolve));

/** Resolves once the queue knows all: every mail that is owed is in it, and it was told of each that is owed no more. */
async function queueKnows(): Promise<void> {
  await vi.waitFor(
    async () => {
      expect((await database.owed()).map(({ published_at }) => published_at)).not.toContain(null);
      expect(await database.rows('SELECT FROM mail_withdrawals')).toEqual([]);
    },
    { timeout: 10_000 },
  );
}

/** Resolves when nothing is owed, nothing withdrawn and nothing in the queue. */
async function allSent(): Promise<void> {
  await vi.waitFor(
    async () => {
      expect(await database.owed()).toEqual([]);
      expect(await database.rows('SELECT FROM mail_withdrawals')).toEqual([]);
      const prefix = `${redisKeys().mailQueuePrefix}:mail`;
      expect(await redis.llen(`${prefix}:wait`)).toBe(0);
      expect(await redis.llen(`${prefix}:active`)).toBe(0);
    },
    { timeout: 20_000 },
  );
}

/** An account, and what its owner is called by. */
async function account() {
  const email = await activeUser(api);
  const { access_token } = await logIn(api, email);
  return { email, headers: { authorization: `Bearer ${access_token}` } };
}

test('of ten links asked for at once the last arrives, however their statements waited for each other', async () => {
  holdWorker();
  const email = newAddress();
  await api.register(email);
  await queueKnows();
  await Promise.all(Array.from({ length: 10 }, () => api.post('/v1/activations', { email })));
  await vi.waitFor(async () => expect(await database.owed()).toHaveLength(1), { timeout: 20_000 });
  await queueKnows();
  startWorker();
  await allSent();
  const [key, ...others] = keysMailed(mail, email);
  expect(others).toEqual([]);
  expect((await api.post(`/v1/activations/${key}`)).statusCode).toBe(200);
});

test('a link whose address became another account’s by a change of address is not sent, nor that of a registration that is gone', async () => {
  const active = await activeUser(api);
  holdWorker();
  const [email, gone] = [newAddress(), newAddress()];
  for (const address of [email, gone]) await api.register(address);
  await queueKnows();
  const [registration] = await database.users(gone);
  await database.rows(`UPDATE users SET email = '${email}', email_key = '${email}' WHERE id = (
    SELECT id FROM users WHERE email = '${active}')`);
  await database.rows(`DELETE FROM users WHERE id = '${registration?.id}'`);
  await vi.waitFor(async () => expect(await database.owed()).toEqual([]), { timeout: 20_000 });
  await queueKnows();
  startWorker();
  await allSent();
  expect([mail.mails(email), mail.mails(gone)]).toEqual([[], []]);
});

test('a newer link asked for while the older mail stands before its data: only the newer arrives', async () => {
  thinks = 1500;
  const email = newAddress();
  const first = offered();
  await api.register(email);
  await first;
  await api.post('/v1/activations', { email });
  await mail.waitFor(email);
  await allSent();
  expect(mail.mails(email)).toHaveLength(1);
  expect((await api.post(`/v1/activations/${keysMailed(mail, email)[0]}`)).statusCode).toBe(200);
});

test('a mail whose registration is activated meanwhile is not sent, nor that of another registration of the address', async () => {
  holdWorker();
  const email = newAddress();
  await api.register(email);
  await api.register(email, `another ${PASSWORD}`);
  await queueKnows();
  // A worker has sent the mail, and died before it could say so.
  const [user] = await database.users(email);
  const key = 'k'.repeat(32);
  const meaning = JSON.stringify({ user_id: user?.id, attempt: 1, renewal_ms: 1000 });
  await redis.set(redisKeys().activationKey(hash('sha256', key, 'base64url')), meaning, 'PX', 60_000);
  expect((await api.post(`/v1/activations/${key}`)).statusCode).toBe(200);
  await queueKnows();
  startWorker();
  await allSent();
  expect(mail.mails(email)).toEqual([]);
});

test('of several links to a new password only the last arrives, and none once the password is another one', async () => {
  holdWorker();
  const asks = await account();
  const changes = await account();
  for (const { email } of [asks, asks, changes]) await api.post('/v1/password-resets', { email });
  await queueKnows();
  const wanted = { current_password: PASSWORD, new_password: `another ${PASSWORD}` };
  expect((await api.call('PUT', '/v1/me/password', wanted, changes.headers)).statusCode).toBe(204);
  await queueKnows();
  startWorker();
  await allSent();
  expect(mail.mails(asks.email).filter(({ text }) => text.includes('/reset-password/'))).toHaveLength(1);
  expect(mail.mails(changes.email).filter(({ text }) => text.includes('/reset-password/'))).toEqual([]);
  expect(mail.mails(changes.email)).toHaveLength(1);
});

test('of several links to another address only the last arrives; every notice does', async () => {
  holdWorker();
  const { email, headers } = await account();
  const [former, wanted] = [newAddress(), newAddress()];
  for (const address of [former, wanted]) {
    await api.call('PUT', '/v1/me/email', { current_password: PASSWORD, new_email: address }, headers);
  }
  await queueKnows();
  startWorker();
  await allSent();
  expect(mail.mails(former)).toEqual([]);
  expect(mail.mails(wanted)).toHaveLength(1);
  expect(mail.mails(email)).toHaveLength(2);
});

test('a link that died while Redis was away is not sent when it is back', async () => {
  holdWorker();
  const email = newAddress();
  await api.register(email);
  await queueKnows();
  // What Redis answers every write with while its disk is full.
  await tellAll(redis, (server) => server.config('SET', 'maxmemory', '1'));
  await api.post('/v1/activations', { email });
  expect(await database.rows('SELECT FROM mail_withdrawals')).toHaveLength(1);
  await tellAll(redis, (server) => server.config('SET', 'maxmemory', '0'));
  await vi.waitFor(async () => expect(await database.rows('SELECT FROM mail_withdrawals')).toEqual([]), 10_000);
  startWorker();
  await allSent();
  expect(mail.mails(email)).toHaveLength(1);
  expect((await api.post(`/v1/activations/${keysMailed(mail, email)[0]}`)).statusCode).toBe(200);
});

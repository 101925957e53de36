/** A link that is dead before its mail is sent is not sent: whatever killed it, wherever the mail is by then. */
import { hash } from 'node:crypto';
import { startMailCatcher } from '@latchkey/dev-stack/mail-catcher';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { expect, onTestFinished, test, vi } from 'vitest';
import { logIn } from './accounts.ts';
import { databaseProbe, keysMailed } from './mail-probe.ts';
import { newAddress, PASSWORD, startMailSide, testApp } from './test-app.ts';

/** One app; its worker starts when it is told to. The mail server thinks about each recipient for as long as `thinks` says, milliseconds. */
async function stage({ thinks = 0 } = {}) {
  const offered: (() => void)[] = [];
  const mail = await startMailCatcher({
    delay(phase) {
      if (phase !== 'rcpt') return 0;
      for (const tell of offered.splice(0)) tell();
      return thinks;
    },
  });
  const side = await startMailSide({ SMTP_URL: mail.smtpUrl });
  const api = await testApp({ databaseUrl: side.databaseUrl, redisUrl: side.redisUrl, env: { RATE_LIMITS: 'off' } });
  const database = databaseProbe(side.databaseUrl);
  const redis = connectRedis(side.redisUrl, 'queueWorker', () => undefined);
  const workers: { stop(): Promise<unknown> }[] = [];
  onTestFinished(async () => {
    redis.disconnect();
    await Promise.all([database.close(), ...workers.map((worker) => worker.stop())]);
    await Promise.all([mail.stop(), side.stop()]);
  });

  return {
    api,
    mail,
    database,
    redis,
    stop: side.redis.stop,
    async startWorker() {
      workers.push(await side.startWorker());
    },
    /** Resolves when the mail server is asked for the next recipient. */
    offered: () => new Promise<void>((resolve) => offered.push(resolve)),
    /** Resolves once every mail that is owed is in the queue. */
    async published() {
      await vi.waitFor(
        async () => expect((await database.owed()).map(({ published_at }) => published_at)).not.toContain(null),
        { timeout: 10_000 },
      );
    },
    /** Resolves when nothing is owed, nothing withdrawn and nothing in the queue. */
    async allSent() {
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
    },
    /** An account, and what its owner is called by. */
    async account() {
      const email = newAddress();
      await api.register(email);
      await database.rows(`UPDATE users SET status = 'active' WHERE email = $1`, [email]);
      // Its activation mail is owed no more, as after a real activation.
      await database.rows(
        `WITH gone AS (DELETE FROM mail_outbox WHERE payload ->> 'to' = $1 RETURNING id)
         INSERT INTO mail_withdrawals (id) SELECT id FROM gone`,
        [email],
      );
      const { access_token } = await logIn(api, email);
      return { email, headers: { authorization: `Bearer ${access_token}` } };
    },
  };
}

test('a newer link asked for while the older mail stands before its data: only the newer arrives', async () => {
  const { api, mail, startWorker, offered, allSent } = await stage({ thinks: 1500 });
  await startWorker();
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
  const { api, mail, database, redis, startWorker, published, allSent } = await stage();
  const email = newAddress();
  await api.register(email);
  await api.register(email, `another ${PASSWORD}`);
  await published();
  // A worker has sent the mail, and died before it could say so.
  const [user] = await database.users(email);
  const key = 'k'.repeat(32);
  const meaning = JSON.stringify({ user_id: user?.id, attempt: 1, renewal_ms: 1000 });
  await redis.set(redisKeys().activationKey(hash('sha256', key, 'base64url')), meaning, 'PX', 60_000);
  expect((await api.post(`/v1/activations/${key}`)).statusCode).toBe(200);
  await startWorker();
  await allSent();
  expect(mail.mails(email)).toEqual([]);
});

test('of several links to a new password only the last arrives, and none once the password is another one', async () => {
  const { api, mail, account, startWorker, published, allSent } = await stage();
  const asks = await account();
  const changes = await account();
  for (const { email } of [asks, asks, changes]) await api.post('/v1/password-resets', { email });
  await published();
  const wanted = { current_password: PASSWORD, new_password: `another ${PASSWORD}` };
  expect((await api.call('PUT', '/v1/me/password', wanted, changes.headers)).statusCode).toBe(204);
  await startWorker();
  await allSent();
  expect(mail.mails(asks.email).filter(({ text }) => text.includes('/reset-password/'))).toHaveLength(1);
  expect(mail.mails(changes.email).filter(({ text }) => text.includes('/reset-password/'))).toEqual([]);
  expect(mail.mails(changes.email)).toHaveLength(1);
});

test('of several links to another address only the last arrives; every notice does', async () => {
  const { api, mail, account, startWorker, published, allSent } = await stage();
  const { email, headers } = await account();
  const [former, wanted] = [newAddress(), newAddress()];
  for (const address of [former, wanted]) {
    await api.call('PUT', '/v1/me/email', { current_password: PASSWORD, new_email: address }, headers);
  }
  await published();
  await startWorker();
  await allSent();
  expect(mail.mails(former)).toEqual([]);
  expect(mail.mails(wanted)).toHaveLength(1);
  expect(mail.mails(email)).toHaveLength(2);
});

test('a link that died while Redis was away is not sent when it is back', async () => {
  const { api, mail, database, redis, startWorker, published, allSent } = await stage();
  const email = newAddress();
  await api.register(email);
  await published();
  // What Redis answers every write with while its disk is full.
  await redis.config('SET', 'maxmemory', '1');
  await api.post('/v1/activations', { email });
  expect(await database.rows('SELECT FROM mail_withdrawals')).toHaveLength(1);
  await redis.config('SET', 'maxmemory', '0');
  await vi.waitFor(async () => expect(await database.rows('SELECT FROM mail_withdrawals')).toEqual([]), 10_000);
  await startWorker();
  await allSent();
  expect(mail.mails(email)).toHaveLength(1);
  expect((await api.post(`/v1/activations/${keysMailed(mail, email)[0]}`)).statusCode).toBe(200);
});

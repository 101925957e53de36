/** However much was recorded of somebody, and however many never confirmed: all of it is forgotten, in parts each of which is short. */
import { randomUUID } from 'node:crypto';
import { connectDatabase } from '@latchkey/shared/database';
import { createLogger } from '@latchkey/shared/logger';
import pg from 'pg';
import { expect, onTestFinished, test, vi } from 'vitest';
import { createHousekeeping } from '../src/domain/housekeeping.ts';
import { createAccountChanges } from '../src/store/account-changes.ts';
import { createUserStore, type UserStore } from '../src/store/users.ts';
import { addUser, logIn } from './accounts.ts';
import { addClient, clientToken } from './clients.ts';
import { expectProblem } from './expect-problem.ts';
import { databaseProbe } from './mail-probe.ts';
import { PASSWORD, testApp } from './test-app.ts';

const MANY = 2000;
const DAY = 24 * 60 * 60;

/**
 * The app on a database that refuses a statement for doing more at once than would be done, on a slow machine, before the client gives up;
 * and one that erases what is erased.
 */
async function appWithShortStatements() {
  const api = await testApp();
  const probe = databaseProbe(api.databaseUrl);
  const db = connectDatabase(api.databaseUrl, () => {});
  onTestFinished(async () => {
    await db.$disconnect();
    await probe.close();
  });
  await probe.rows(`
    CREATE FUNCTION short() RETURNS TRIGGER LANGUAGE plpgsql AS $$
    BEGIN
      IF (SELECT count(*) FROM former) > TG_ARGV[0]::int THEN RAISE EXCEPTION 'too much for one statement'; END IF;
      IF TG_OP = 'UPDATE' AND EXISTS (SELECT FROM former WHERE to_jsonb(former) ->> 'ip' IS NULL) THEN RAISE EXCEPTION 'erased already'; END IF;
      RETURN NULL;
    END $$;
    CREATE TRIGGER short AFTER UPDATE ON audit_events REFERENCING OLD TABLE AS former FOR EACH STATEMENT EXECUTE FUNCTION short(1000);
    CREATE TRIGGER short AFTER DELETE ON users REFERENCING OLD TABLE AS former FOR EACH STATEMENT EXECUTE FUNCTION short(250)`);

  /** As if it had happened to them. */
  const record = (userId: string, events = MANY) =>
    probe.rows(
      `INSERT INTO audit_events (type, actor_type, user_id, ip, user_agent)
       SELECT 'login.failed', 'user', $1, '192.0.2.7', 'a browser' FROM generate_series(1, $2::int)`,
      [userId, events],
    );
  /** How many events of theirs hold something personal. */
  async function personal(userId: string): Promise<number> {
    const [found] = await probe.rows<{ events: number }>(
      'SELECT count(*)::int AS events FROM audit_events WHERE user_id = $1 AND ip IS NOT NULL',
      [userId],
    );
    return found?.events ?? -1;
  }
  /** Registrations nobody confirmed, each a second younger than the one before. @returns their ids, the oldest first. */
  const unconfirmed = async (count: number) =>
    (
      await probe.rows<{ id: string }>(
        `INSERT INTO users (id, email, email_key, password_hash, locale, created_at)
         SELECT gen_random_uuid(), n || '@example.test', n || '@example.test', '!', 'en', now() - make_interval(days => 90, secs => -n)
         FROM generate_series(1, $1::int) AS n RETURNING id`,
        [count],
      )
    ).map(({ id }) => id);
  const left = async () =>
    (await probe.rows<{ id: string }>('SELECT id FROM users ORDER BY created_at')).map(({ id }) => id);
  return { api, probe, db, record, personal, unconfirmed, left };
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const context = { requestId: 'r-1', traceparent: undefined, ip: '192.0.2.7', userAgent: 'a browser' };

test('an account is deleted with any number of events; nothing of them is erased before the password was right', async () => {
  const { api, db, record, personal, left } = await appWithShortStatements();
  const { id, email } = await addUser(api);
  const { access_token: token } = await logIn(api, email);
  await record(id);
  const remove = (current_password: string) => api.call('DELETE', '/v1/me', { current_password }, bearer(token));
  expectProblem(await remove('wrong password'), { status: 401, code: 'invalid_credentials' });
  // Nor when it is another one by then.
  const inRedis = { endSessions: async () => {}, withdrawMails: async () => {} };
  expect(await createAccountChanges(db).delete(id, 'the hash of an older one', context, inRedis)).toBe(false);
  expect(await personal(id)).toBeGreaterThanOrEqual(MANY);
  expect((await remove(PASSWORD)).statusCode).toBe(204);
  await vi.waitFor(async () => expect(await personal(id)).toBe(0));
  expect(await left()).toEqual([]);
});

test('an operator deletes such an account: what an attempt that ended half way has left, and beside another one', async () => {
  const { api, probe, record, personal, left } = await appWithShortStatements();
  const operator = await clientToken(api, await addClient(api.databaseUrl, 'admin'));
  const { id } = await addUser(api);
  await record(id);
  // A process that ended between two parts.
  await probe.rows('SELECT audit_forget($1, 500)', [id]);
  expect(await personal(id)).toBe(MANY - 500);
  const remove = () => api.call('DELETE', `/v1/admin/users/${id}`, undefined, bearer(operator));
  const statuses = (await Promise.all([remove(), remove()])).map(({ statusCode }) => statusCode);
  expect(statuses.sort()).toEqual([204, 404]);
  // The acts of the operator stay as they are.
  expect(await probe.rows(`SELECT FROM audit_events WHERE ip IS NOT NULL AND actor_type = 'user'`)).toEqual([]);
  expect(await left()).toEqual([]);
});

test('with an account go any number of registrations that lost to it, however much was recorded of one', async () => {
  const { api, probe, record, personal, unconfirmed, left } = await appWithShortStatements();
  const { id, email } = await addUser(api);
  const { access_token: token } = await logIn(api, email);
  const [rival = ''] = await unconfirmed(600);
  await probe.rows(`UPDATE users SET email = $1, email_key = $1 WHERE status = 'pending'`, [email.toLowerCase()]);
  const [bystander] = await unconfirmed(1);
  await record(rival);
  const remove = (current_password: string) => api.call('DELETE', '/v1/me', { current_password }, bearer(token));
  expectProblem(await remove('wrong password'), { status: 401, code: 'invalid_credentials' });
  expect([await left(), await personal(rival)]).toEqual([expect.arrayContaining([id, rival]), MANY]);
  expect((await remove(PASSWORD)).statusCode).toBe(204);
  expect([await left(), await personal(rival)]).toEqual([[bystander], 0]);
});

test('an event that is erased already is not looked at again, whatever the planner believes of the table', async () => {
  const { api, probe, record } = await appWithShortStatements();
  const { id } = await addUser(api);
  await record(id);
  await probe.rows('ANALYZE audit_events');
  const part = async (most: number | null) => {
    const [row] = await probe.rows<{ events: number }>('SELECT audit_forget($1, $2) AS events', [id, most]);
    return row?.events;
  };
  for (let done = 0; done < MANY; done += 500) expect(await part(500)).toBe(500);
  await record(id, 1);
  const deletion = await probe.begin();
  const read = async () => {
    const found = await deletion.query(
      'SELECT (seq_tup_read + idx_tup_fetch)::int AS events FROM pg_stat_xact_user_tables WHERE relname = $1',
      ['audit_events'],
    );
    return Number(found.rows[0].events);
  };
  const before = await read();
  const { rows } = await deletion.query('SELECT audit_forget($1, NULL) AS events', [id]);
  const looked = (await read()) - before;
  await deletion.end('COMMIT');
  expect(rows).toEqual([{ events: 1 }]);
  expect(looked).toBeLessThan(10);
});

test('any number of registrations nobody confirmed is forgotten, one with any number of events among them', async () => {
  const { api, record, personal, unconfirmed, left } = await appWithShortStatements();
  const young = await addUser(api, 'pending');
  const old = await unconfirmed(450);
  await record(old[0] ?? '');
  // An instance that starts does the housekeeping.
  const { logs } = await testApp({ databaseUrl: api.databaseUrl, redisUrl: api.redisUrl });
  await vi.waitFor(async () => expect((await left()).length).toBe(1), { timeout: 10_000 });
  expect(await left()).toEqual([young.id]);
  expect(await personal(old[0] ?? '')).toBe(0);
  await vi.waitFor(() => expect(logs.join('')).toContain('"registrations":450,'));
  expect(logs.join('')).not.toContain('housekeeping has to wait');
});

/** @param stores what is done otherwise than by the store. */
function housekeeping(users: UserStore, stores: (stop: () => void) => Partial<UserStore>) {
  let stopped: Promise<void> | undefined;
  const keeper = createHousekeeping({
    users: {
      ...users,
      ...stores(() => {
        stopped = keeper.stop();
      }),
    },
    allowed: async () => {},
    logger: createLogger('auth-api', 'silent'),
    withdrawMails: async () => {},
    unconfirmedAfter: DAY,
  });
  return {
    /** Resolves once it was stopped, and has. */
    async ran(): Promise<void> {
      keeper.start();
      await vi.waitFor(() => expect(stopped).toBeDefined(), { timeout: 10_000, interval: 10 });
      await stopped;
    },
  };
}

test('the oldest registrations are forgotten first, and none any more once the service closes', async () => {
  const { db, record, personal, unconfirmed, left } = await appWithShortStatements();
  const users = createUserStore(db);
  const old = await unconfirmed(210);
  await housekeeping(users, (stop) => ({
    async forgetUnconfirmed(ids, withdrawMails) {
      const forgotten = await users.forgetUnconfirmed(ids, withdrawMails);
      stop();
      return forgotten;
    },
  })).ran();
  expect(await left()).toEqual(old.slice(200));

  const [next = ''] = old.slice(200);
  await record(next);
  await housekeeping(users, (stop) => ({
    async forgetEvents(id) {
      const more = await users.forgetEvents(id);
      stop();
      return more;
    },
  })).ran();
  expect(await personal(next)).toBe(MANY - 500);
  expect(await left()).toEqual(old.slice(200));
});

test('a registration that was confirmed after all keeps its events and stays', async () => {
  const { api, db, record, personal, left } = await appWithShortStatements();
  const users = createUserStore(db);
  const { id } = await addUser(api);
  await record(id, 1);
  expect(await users.forgetEvents(id)).toBe(false);
  expect(await users.forgetUnconfirmed([id, randomUUID()], async () => {})).toBe(0);
  expect([await personal(id), await left()]).toEqual([1, [id]]);
});

test('the mails of who is deleted are found by an index, those with a key and the notices', async () => {
  const { databaseUrl } = await testApp();
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  onTestFinished(() => client.end());
  // A table this small would be read as a whole.
  await client.query('SET enable_seqscan = off');
  const { rows } = await client.query(`EXPLAIN DELETE FROM mail_outbox WHERE payload ->> 'user_id' = $1`, ['x']);
  expect(JSON.stringify(rows)).toMatch(/Index (Only )?Scan|Bitmap Index Scan/);
});

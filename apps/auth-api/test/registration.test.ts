import { randomBytes } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import type { LightMyRequestResponse } from 'fastify';
import type { Redis } from 'ioredis';
import { Piscina } from 'piscina';
import { afterAll, beforeAll, beforeEach, describe, expect, inject, onTestFinished, test, vi } from 'vitest';
import { expectProblem } from './expect-problem.ts';
import { type DatabaseProbe, databaseProbe, keyIn, keysMailed } from './mail-probe.ts';
import { newAddress, PASSWORD, startMailSide, startTestApp, type TestApp, testApp } from './test-app.ts';

const ATTACKER = 'purple monkey dishwasher seventeen';
const VICTIM = 'granite teapot lullaby forty-two';
const THIRD = 'velvet anchor tomorrow nineteen';

let side: Awaited<ReturnType<typeof startMailSide>>;
let limited: TestApp;
let unlimited: TestApp;
let worker: Awaited<ReturnType<typeof side.startWorker>>;
let database: DatabaseProbe;
let redis: Redis;

beforeAll(async () => {
  side = await startMailSide();
  [limited, unlimited, worker] = await Promise.all([
    startTestApp(side),
    startTestApp({ ...side, env: { RATE_LIMITS: 'off' } }),
    side.startWorker(),
  ]);
  database = databaseProbe(side.databaseUrl);
  redis = connectRedis(side.redisUrl, 'queueWorker', () => undefined);
});
afterAll(async () => {
  redis.disconnect();
  await database.close();
  await Promise.all([limited.close(), unlimited.close(), worker.stop()]);
  await side.stop();
});

// Every request of this file comes from one address, more of them than it may send in one window.
beforeEach(async () => {
  const counted = await redis.keys(`${redisKeys().rateLimit('*')}`);
  if (counted.length > 0) await redis.del(...counted);
});

const activate = (key: string) => unlimited.post(`/v1/activations/${key}`);

/** Uses all keys, 20 at a time: more than the app has connections to PostgreSQL, and never so many that they wait for one too long. */
async function activateAll(keys: string[]): Promise<LightMyRequestResponse[]> {
  const outcomes: LightMyRequestResponse[] = [];
  for (let at = 0; at < keys.length; at += 20)
    outcomes.push(...(await Promise.all(keys.slice(at, at + 20).map(activate))));
  return outcomes;
}

const statuses = (responses: LightMyRequestResponse[]) =>
  Object.fromEntries(
    [...Map.groupBy(responses, ({ statusCode }) => statusCode)].map(([status, all]) => [status, all.length]),
  );

/** Registers and waits for the key, so that it is known whose it is. */
async function registered(email: string, password: string): Promise<string> {
  const before = keysMailed(side.mail, email).length;
  expect((await unlimited.register(email, password)).statusCode).toBe(202);
  return side.activationKey(email, before + 1);
}

/** One account, and of all passwords only one logs in. */
async function expectOnlyLogin(email: string, winner: string, losers: string[]): Promise<void> {
  expect((await database.users(email)).filter(({ status }) => status !== 'pending')).toHaveLength(1);
  expect((await unlimited.login(email, winner)).statusCode).toBe(200);
  for (const loser of losers)
    expectProblem(await unlimited.login(email, loser), { status: 401, code: 'invalid_credentials' });
}

describe('many registrations of one address at once', () => {
  test('200 give as many mails as were answered 202, refuse the rest with Retry-After, and end as one account', async () => {
    const email = newAddress();
    const responses = await Promise.all(Array.from({ length: 200 }, () => limited.register(email)));
    // mailPerRecipient in src/rate-limits.ts
    expect(statuses(responses)).toEqual({ 202: 10, 429: 190 });
    for (const refused of responses.filter(({ statusCode }) => statusCode === 429))
      expectProblem(refused, { status: 429, code: 'rate_limited' });
    await database.settled();
    const keys = keysMailed(side.mail, email);
    expect(side.mail.mails(email)).toHaveLength(10);
    expect(new Set(keys).size).toBe(10);
    expect(statuses(await activateAll(keys))[200]).toBe(1);
    expect((await database.users(email)).map(({ status }) => status)).toEqual(['active']);
    expect((await unlimited.login(email)).statusCode).toBe(200);
  });

  test('200 without limits are all answered 202, each with its mail, and end as one account', async () => {
    const email = newAddress();
    // As many as the password pool holds (QUEUE_PER_THREAD in src/domain/passwords.ts); on two cores and more it holds 200.
    const count = Math.min(200, availableParallelism() * 128);
    const responses = await Promise.all(Array.from({ length: count }, () => unlimited.register(email)));
    expect(statuses(responses)).toEqual({ 202: count });
    await database.settled();
    const keys = keysMailed(side.mail, email);
    expect(new Set(keys).size).toBe(count);
    const outcomes = statuses(await activateAll(keys));
    expect(outcomes[200]).toBe(1);
    expect(Object.keys(outcomes).filter((status) => Number(status) >= 500)).toEqual([]);
    expect((await database.users(email)).map(({ status }) => status)).toEqual(['active']);
  });
});

describe('an attacker and a victim register one address', () => {
  const orders = [
    [ATTACKER, VICTIM],
    [VICTIM, ATTACKER],
  ] as const;

  test.each(orders.flatMap(([first, second]) => [0, 1].map((used) => ({ first, second, used }))))(
    'in the order "$first", "$second": key $used turns on the password it was registered with and no other',
    async ({ first, second, used }) => {
      const email = newAddress();
      const registrations = [
        { password: first, key: await registered(email, first) },
        { password: second, key: await registered(email.toUpperCase(), second) },
      ];
      const [winner] = registrations.splice(used, 1);
      const [loser] = registrations;
      expect((await unlimited.login(email, second)).json().code).toBe('account_not_activated');
      expect((await activate(winner?.key ?? '')).statusCode).toBe(200);
      expect([404, 410]).toContain((await activate(loser?.key ?? '')).statusCode);
      await expectOnlyLogin(email, winner?.password ?? '', [loser?.password ?? '']);
    },
  );

  test.each(orders)(
    'in the order "%s", "%s": a link asked for again belongs to the later one',
    async (first, second) => {
      const email = newAddress();
      const firstKey = await registered(email, first);
      const secondKey = await registered(email, second);
      expect((await unlimited.post('/v1/activations', { email })).statusCode).toBe(202);
      const resentKey = await side.activationKey(email, 3);
      expectProblem(await activate(secondKey), { status: 404, code: 'activation_key_unknown' });
      expect((await activate(resentKey)).statusCode).toBe(200);
      expect([404, 410]).toContain((await activate(firstKey)).statusCode);
      await expectOnlyLogin(email, second, [first]);
    },
  );

  test('a link asked for between the two belongs to the first, and stays good', async () => {
    const email = newAddress();
    const oldKey = await registered(email, VICTIM);
    expect((await unlimited.post('/v1/activations', { email })).statusCode).toBe(202);
    const victimKey = await side.activationKey(email, 2);
    await registered(email, ATTACKER);
    expectProblem(await activate(oldKey), { status: 404, code: 'activation_key_unknown' });
    expect((await activate(victimKey)).statusCode).toBe(200);
    await expectOnlyLogin(email, VICTIM, [ATTACKER]);
  });

  test('both keys used at the same moment, in many rounds, make one account, the one of the key that won', async () => {
    const emails = Array.from({ length: 30 }, () => newAddress('race'));
    const attackers = await Promise.all(emails.map((email) => registered(email, ATTACKER)));
    const victims = await Promise.all(emails.map((email) => registered(email, VICTIM)));
    const useBoth = async (email: string, round: number) => {
      const [attacker = '', victim = ''] = [attackers[round], victims[round]];
      const outcomes = await Promise.all([
        activate(attacker),
        activate(victim),
        // What else may happen to the same rows meanwhile.
        ...(round % 2 === 0 ? [activate(attacker), activate(victim)] : []),
        ...(round % 3 === 0 ? [unlimited.post('/v1/activations', { email })] : []),
        ...(round % 3 === 1 ? [unlimited.post(`/v1/activations/${victim}/renewal`)] : []),
      ]);
      for (const { statusCode } of outcomes) expect([200, 202, 404, 410]).toContain(statusCode);
    };
    for (const [round, email] of emails.entries()) await useBoth(email, round);
    await database.settled();
    for (const [round, email] of emails.entries()) {
      // A resend or a renewal may have replaced a key before it was used: then its successor decides.
      for (const { statusCode } of await activateAll(keysMailed(side.mail, email)))
        expect(statusCode).toBeLessThan(500);
      const users = await database.users(email);
      expect(
        users.map(({ status }) => status),
        `round ${round}`,
      ).toEqual(['active']);
      const attackerWon = (await unlimited.login(email, ATTACKER)).statusCode === 200;
      await expectOnlyLogin(email, attackerWon ? ATTACKER : VICTIM, [attackerWon ? VICTIM : ATTACKER]);
    }
    expect(unlimited.logs.filter((line) => line.includes('request failed'))).toEqual([]);
  });

  test('the same moment without bystanders: one 200, and its password is the one that logs in', async () => {
    for (let round = 0; round < 20; round += 1) {
      const email = newAddress('duel');
      const keys = [await registered(email, ATTACKER), await registered(email, VICTIM)];
      const outcomes = await Promise.all(keys.map(activate));
      expect(outcomes.map(({ statusCode }) => statusCode === 200).sort()).toEqual([false, true]);
      const attackerWon = outcomes[0]?.statusCode === 200;
      await expectOnlyLogin(email, attackerWon ? ATTACKER : VICTIM, [attackerWon ? VICTIM : ATTACKER]);
    }
  });

  test('a registration that commits while a rival is being activated never becomes a second account', async () => {
    const email = newAddress();
    await registered(email, VICTIM);
    const [victim] = await database.users(email);
    // The activation of the victim, stopped between its UPDATE and its commit.
    const activation = await database.begin();
    await activation.query(`UPDATE users SET status = 'active', activated_at = now() WHERE id = $1`, [victim?.id]);
    const rivalKey = await registered(email, THIRD);
    // Both wait for it, and lose.
    const late = [activate(rivalKey), activate(rivalKey)];
    await vi.waitFor(async () => {
      const waiting = await database.rows(
        `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
      );
      expect(waiting).toHaveLength(2);
    });
    await activation.end('COMMIT');
    for (const response of await Promise.all(late))
      expectProblem(response, { status: 410, code: 'activation_key_used' });
    expectProblem(await activate(rivalKey), { status: 410, code: 'activation_key_used' });
    await expectOnlyLogin(email, VICTIM, [THIRD]);
  });

  test('a registration of an address at the very moment it is activated makes no second account', async () => {
    const emails = Array.from({ length: 20 }, () => newAddress('meanwhile'));
    const keys = await Promise.all(emails.map((email) => registered(email, VICTIM)));
    await Promise.all(
      emails.flatMap((email, round) => [unlimited.register(email, THIRD), activate(keys[round] ?? '')]),
    );
    await database.settled();
    for (const email of emails) {
      expect(side.mail.mails(email)).toHaveLength(2);
      for (const key of keysMailed(side.mail, email)) expect([404, 410]).toContain((await activate(key)).statusCode);
      await expectOnlyLogin(email, VICTIM, [THIRD]);
    }
  });
});

describe('unknown, pending and taken addresses', () => {
  /** All that a caller sees, but what differs between any two answers. */
  function seen(response: LightMyRequestResponse) {
    const { date: _date, 'x-request-id': requestId, ...headers } = response.headers;
    const body = response.body.replaceAll(String(requestId), '<request id>');
    return { status: response.statusCode, headers, body };
  }

  async function threeAddresses() {
    const [pending, taken] = [newAddress('pending'), newAddress('taken')];
    await registered(pending, PASSWORD);
    expect((await activate(await registered(taken, PASSWORD))).statusCode).toBe(200);
    // As long as the others: the length of an answer must not depend on more than the caller's own input.
    return { unknown: newAddress('unknown'), pending, taken };
  }

  /** The tasks the password threads are given while it runs. */
  async function passwordWork(run: () => Promise<unknown>) {
    const spy = vi.spyOn(Piscina.prototype, 'run');
    try {
      await run();
      return spy.mock.calls.map(([task]) => task as { type: 'hash' | 'verify'; hash?: string });
    } finally {
      spy.mockRestore();
    }
  }

  test('are answered alike by registration', async () => {
    const { unknown, pending, taken } = await threeAddresses();
    const answer = seen(await limited.register(unknown));
    expect(answer).toMatchObject({ status: 202, body: '{"status":"activation_required"}' });
    expect(seen(await limited.register(pending))).toEqual(answer);
    expect(seen(await limited.register(taken))).toEqual(answer);
  });

  test('are answered alike by resend', async () => {
    const { unknown, pending, taken } = await threeAddresses();
    const answer = seen(await limited.post('/v1/activations', { email: unknown }));
    expect(answer).toMatchObject({ status: 202, body: '{"status":"activation_required"}' });
    expect(seen(await limited.post('/v1/activations', { email: pending }))).toEqual(answer);
    expect(seen(await limited.post('/v1/activations', { email: taken }))).toEqual(answer);
  });

  test('are answered alike by a login with a wrong password', async () => {
    const { unknown, pending, taken } = await threeAddresses();
    const response = await limited.login(unknown, VICTIM);
    expectProblem(response, { status: 401, code: 'invalid_credentials' });
    expect(seen(await limited.login(pending, VICTIM))).toEqual(seen(response));
    expect(seen(await limited.login(taken, VICTIM))).toEqual(seen(response));
    // Who knows the password may know the rest.
    expectProblem(await limited.login(pending), { status: 403, code: 'account_not_activated' });
  });

  test('cost one hash each to register, a password that is refused too', async () => {
    const { unknown, pending, taken } = await threeAddresses();
    for (const email of [unknown, pending, taken]) {
      expect(await passwordWork(() => limited.register(email))).toMatchObject([{ type: 'hash' }]);
      expect(await passwordWork(() => limited.register(email, 'password1'))).toMatchObject([{ type: 'hash' }]);
    }
  });

  test('cost one comparison of the same price each to log in', async () => {
    const { unknown, pending, taken } = await threeAddresses();
    const price = ({ hash = '' }: { hash?: string }) =>
      hash.split('$').map((part, at) => (at < 4 ? part : part.length));
    const [known] = await passwordWork(() => limited.login(taken, VICTIM));
    expect(price(known ?? {})).toEqual(['', 'argon2id', 'v=19', 'm=19456,t=2,p=1', 22, 43]);
    for (const email of [unknown, pending, taken]) {
      const tasks = await passwordWork(() => limited.login(email, VICTIM));
      expect(tasks.map((task) => [task.type, price(task)])).toEqual([['verify', price(known ?? {})]]);
    }
  });

  test('take a resend as long, at least the floor, though for two of them nothing is written', async () => {
    const { unknown, pending, taken } = await threeAddresses();
    for (const email of [unknown, pending, taken]) {
      const asked = performance.now();
      await limited.post('/v1/activations', { email });
      // RESEND_FLOOR in src/domain/registration.ts; a timer may be a millisecond early by this clock.
      expect(performance.now() - asked).toBeGreaterThanOrEqual(29);
    }
  });
});

test('a taken address gets a mail that says so, and no new row', async () => {
  const email = newAddress();
  await activate(await registered(email, VICTIM));
  expect((await limited.register(email.toUpperCase(), ATTACKER)).statusCode).toBe(202);
  const mail = await side.mail.waitFor(email, { count: 2 });
  expect(keyIn(mail)).toBeUndefined();
  expect(mail.subject).toBe('You already have an account at auth.example.test');
  // To the address of the account, not the spelling somebody typed.
  expect(mail.to).toEqual([email]);
  expect(await database.users(email)).toHaveLength(1);
  await expectOnlyLogin(email, VICTIM, [ATTACKER]);
});

test('a resend mails nothing to an address that is unknown or has an account', async () => {
  const [unknown, taken] = [newAddress(), newAddress()];
  await activate(await registered(taken, VICTIM));
  await limited.post('/v1/activations', { email: unknown });
  await limited.post('/v1/activations', { email: taken });
  // Whatever they had owed would be sent before this one.
  await registered(newAddress(), VICTIM);
  await database.settled();
  expect(side.mail.mails(unknown)).toEqual([]);
  expect(side.mail.mails(taken)).toHaveLength(1);
});

test.each([
  ['common', 'password123'],
  ['a keyboard walk', 'qwertyuiop'],
  ['one character many times', 'a'.repeat(20)],
])('a password that is %s is refused and named, and nobody is registered', async (_what, password) => {
  const email = newAddress();
  expectProblem(await limited.register(email, password), {
    status: 400,
    code: 'password_too_weak',
    pointer: '/password',
  });
  expect(await database.users(email)).toEqual([]);
});

test('a password made of what everybody knows of its owner is refused', async () => {
  const email = newAddress('marguerite.kowalczyk');
  const register = (password: string, display_name = 'Ottoline Vandersloot') =>
    limited.call('POST', '/v1/users', { email, password, display_name });
  for (const password of [email, email.split('@')[0] ?? '', 'Ottoline Vandersloot', 'OTTOLINE VANDERSLOOT'])
    expectProblem(await register(password), { status: 400, code: 'password_too_weak', pointer: '/password' });
  expect((await register(VICTIM)).statusCode).toBe(202);
});

describe('the first mail comes in', () => {
  const GERMAN = 'Aktivieren Sie Ihr Konto bei auth.example.test';
  const ENGLISH = 'Activate your account at auth.example.test';

  test.each([
    ['the language asked for', { locale: 'de-AT' }, 'en', GERMAN],
    ['the language of the browser when none is asked for', {}, 'de-DE,de;q=0.9,en;q=0.8', GERMAN],
    ['English when the browser wants a language we do not have', {}, 'fr-FR', ENGLISH],
    ['English when the browser says nothing of sense', {}, '*;q=0.5', ENGLISH],
    ['English when nobody says anything', {}, undefined, ENGLISH],
  ])('%s', async (_what, body, language, subject) => {
    const email = newAddress();
    const headers = language === undefined ? {} : { 'accept-language': language };
    await limited.call('POST', '/v1/users', { email, password: PASSWORD, ...body }, headers);
    expect((await side.mail.waitFor(email)).subject).toBe(subject);
    // And so does the next.
    await limited.post('/v1/activations', { email });
    expect((await side.mail.waitFor(email, { count: 2 })).subject).toBe(subject);
  });
});

describe('X-Request-Id', () => {
  const register = (api: TestApp, requestId: string, more: Record<string, string> = {}) => {
    const email = newAddress();
    const headers = { 'x-request-id': requestId, ...more };
    return api.call('POST', '/v1/users', { email, password: PASSWORD }, headers);
  };

  test('is taken from the caller if it is sane, else made', async () => {
    const sane = `gateway-7:${randomBytes(8).toString('hex')}`;
    expect((await register(limited, sane)).headers['x-request-id']).toBe(sane);
    for (const insane of ['', 'a b', 'a\u00e4', '"quoted"', '{"level":60}', '<script>', 'x'.repeat(129)]) {
      const { headers } = await register(limited, insane);
      expect(headers['x-request-id']).toMatch(/^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/);
    }
  });

  test('follows into the queue, with the trace of the caller', async () => {
    const namespace = `latchkey:test-${randomBytes(6).toString('hex')}`;
    const api = await testApp({ namespace });
    const shared = connectRedis(inject('redisUrl'), 'queueWorker', () => undefined);
    const rows = databaseProbe(api.databaseUrl);
    onTestFinished(async () => {
      shared.disconnect();
      await rows.close();
    });
    const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
    await register(api, 'order-66', { traceparent });
    await vi.waitFor(async () => expect((await rows.owed())[0]?.published_at).not.toBeNull());
    const [owed] = await rows.owed();
    const job = await shared.hgetall(`${redisKeys(namespace).mailQueuePrefix}:mail:${owed?.id}`);
    expect(JSON.parse(job.data ?? '')).toMatchObject({ v: 1, request_id: 'order-66', traceparent });
    expect(JSON.parse(job.data ?? '')).toEqual(owed?.payload);
  });

  test("follows into the logs of both apps, where the worker's line says which mail it became", async () => {
    const requestId = `trace-${randomBytes(8).toString('hex')}`;
    const { statusCode } = await register(limited, requestId);
    expect(statusCode).toBe(202);
    const about = (lines: readonly string[]) =>
      lines.filter((line) => line.includes(requestId)).map((line) => JSON.parse(line));
    await vi.waitFor(() => expect(about(worker.output)).toHaveLength(1), { timeout: 10_000 });
    expect(about(worker.output)).toMatchObject([
      { service: 'mailer-worker', request_id: requestId, job: 'activation', outcome: 'accepted', msg: 'mail accepted' },
    ]);
    expect(about(limited.logs)).toMatchObject([
      { service: 'auth-api', request_id: requestId, route: '/v1/users', status: 202 },
    ]);
  });
});

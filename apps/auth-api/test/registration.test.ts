import { randomBytes } from 'node:crypto';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import type { LightMyRequestResponse } from 'fastify';
import { Piscina } from 'piscina';
import { afterAll, beforeAll, beforeEach, describe, expect, inject, onTestFinished, test, vi } from 'vitest';
import { expectProblem } from './expect-problem.ts';
import { databaseProbe, keyIn } from './mail-probe.ts';
import { type MailedApps, startMailedApps } from './mailed-apps.ts';
import { newAddress, PASSWORD, type TestApp, testApp } from './test-app.ts';

const ATTACKER = 'purple monkey dishwasher seventeen';
const VICTIM = 'granite teapot lullaby forty-two';

let apps: MailedApps;
let side: MailedApps['side'];
let limited: MailedApps['limited'];
let worker: MailedApps['worker'];
let database: MailedApps['database'];
let activate: MailedApps['activate'];
let registered: MailedApps['registered'];
let expectOnlyLogin: MailedApps['expectOnlyLogin'];

beforeAll(async () => {
  apps = await startMailedApps();
  ({ side, limited, worker, database, activate, registered, expectOnlyLogin } = apps);
});
afterAll(() => apps.stop());
beforeEach(() => apps.forgetLimits());

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

  test('cost one look at the password and one hash each to register, a password that is refused too', async () => {
    const work = [{ knownToOthers: expect.any(Array) }, { type: 'hash' }];
    const { unknown, pending, taken } = await threeAddresses();
    for (const email of [unknown, pending, taken]) {
      expect(await passwordWork(() => limited.register(email))).toMatchObject(work);
      expect(await passwordWork(() => limited.register(email, 'password1'))).toMatchObject(work);
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

  test('take a resend as long, at least the floor', async () => {
    const { unknown, pending, taken } = await threeAddresses();
    for (const email of [unknown, pending, taken]) {
      const asked = performance.now();
      await limited.post('/v1/activations', { email });
      // FLOOR in src/domain/equal-time.ts; a timer may be a millisecond early by this clock.
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
  ['short', 'kx7q#Zv'],
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
    ['the language the browser wants most, wherever it stands', {}, 'en;q=0.1, de', GERMAN],
    ['no language the browser refuses', {}, 'de;q=0, en', ENGLISH],
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

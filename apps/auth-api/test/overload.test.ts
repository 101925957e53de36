/** More logins than the password threads can take, and logins that wait when the app stops. */
import { availableParallelism } from 'node:os';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { createPasswords, paceAfter } from '../src/domain/passwords.ts';
import { expectProblem } from './expect-problem.ts';
import { newAddress, PASSWORD, startTestApp, testApp } from './test-app.ts';

/** Far more than may wait (`QUEUE_PER_THREAD` in src/domain/passwords.ts). */
const TOO_MANY = availableParallelism() * 200;

/** Looked up in PostgreSQL at once, on the way to the threads: as many as it has answered in time wherever it runs. */
const LOOKED_UP = 20;

const errorsIn = (logs: readonly string[]) => logs.filter((line) => JSON.parse(line).level >= 50);

describe('more logins at once than may wait', { timeout: 120_000 }, () => {
  test('are refused with 503 and Retry-After while the first still wait, and nothing of it is an error', async () => {
    const { app, login, logs } = await testApp({ env: { RATE_LIMITS: 'off' } });
    const answered: number[] = [];
    const logIn = async () => {
      const answer = await login(newAddress());
      answered.push(answer.statusCode);
      return answer;
    };
    const waiting = async (): Promise<number> => {
      const { body } = await app.inject('/metrics');
      return Number(body.match(/^latchkey_password_queue_length (\d+)/m)?.[1]);
    };
    const underWay: ReturnType<typeof logIn>[] = [];
    while (underWay.length < TOO_MANY) {
      underWay.push(...Array.from({ length: LOOKED_UP }, logIn));
      while (underWay.length - answered.length - (await waiting()) > LOOKED_UP) await nextTurn();
    }
    const answers = await Promise.all(underWay);
    const refused = answers.filter(({ statusCode }) => statusCode !== 401);
    expect(refused.length).toBeGreaterThan(0);
    for (const answer of refused) {
      expectProblem(answer, { status: 503, code: 'overloaded' });
    }
    // Who is refused does not wait for those who are not: all that wait are answered later.
    const later = answered.slice(answered.indexOf(503)).filter((status) => status === 401);
    expect(later.length).toBeGreaterThan(availableParallelism() * 100);
    expect(errorsIn(logs)).toEqual([]);
  });
});

/** As Django 4.1 wrote it: some 100 ms. */
const OF_DJANGO = 'pbkdf2_sha256$390000$seasalt$8xBlGd3jVgvJ+92hWPxi5ww0uuAuAnKgC45eudxro7c=';

test('when as much waits as may, everybody is refused alike, and until then nobody: not for a hash of another system', async () => {
  const passwords = createPasswords();
  const most = passwords.queueLimit + availableParallelism();
  const checks = Array.from({ length: most - 1 }, () => passwords.verify(PASSWORD, undefined));
  checks.push(passwords.verify('wrong', OF_DJANGO));
  for (const hash of [undefined, OF_DJANGO])
    await expect(passwords.verify('wrong', hash)).rejects.toMatchObject({ code: 'overloaded' });
  expect((await Promise.all(checks)).filter(({ matches }) => matches)).toEqual([]);
});

test('a few hashes of another system, which take long, do not close the door: it goes by time', async () => {
  const passwords = createPasswords();
  const atOnce = 2 * availableParallelism() + 1;
  let left = 10 * atOnce;
  // So many callers, each asks again as soon as it is answered.
  const asking = Array.from({ length: atOnce }, async () => {
    while (left > 0) {
      left -= 1;
      await passwords.verify('wrong', OF_DJANGO);
      expect([left, passwords.full()]).toEqual([left, false]);
    }
  });
  await Promise.all(asking);
});

test('a login that has waited half a minute for a thread is refused; the others are served', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout'] });
  onTestFinished(() => void vi.useRealTimers());
  const passwords = createPasswords();
  const begun = 2 * availableParallelism();
  const checks = Array.from({ length: begun + 3 }, () => passwords.verify(PASSWORD, undefined));
  const ends = Promise.allSettled(checks);
  expect(passwords.queued()).toBeGreaterThanOrEqual(3);
  // Nobody has had a turn meanwhile: the threads' answers come with a turn of the event loop.
  vi.advanceTimersByTime(30_000);
  const refused = (await ends).flatMap((end, index) => (end.status === 'rejected' ? [[index, end.reason.code]] : []));
  expect(refused).toEqual([0, 1, 2].map((n) => [begun + n, 'overloaded']));
  expect(passwords.queued()).toBe(0);
});

/** Looking at it takes many times as long as at another one of its length. */
const LABORIOUS = '1q2w3e4r5t6y7u8i9o0p'.repeat(2);

test('new passwords that take long to look at hold up no login', async () => {
  const passwords = createPasswords();
  let changed = 0;
  const changes = Array.from({ length: 8 * availableParallelism() }, async () => {
    await passwords.hash(LABORIOUS, []);
    changed += 1;
  });
  await passwords.verify(PASSWORD, undefined);
  expect(changed).toBeLessThan(changes.length / 2);
  await Promise.all(changes);
});

test('of more new passwords than may wait the rest is refused before anything is done for it', async () => {
  const passwords = createPasswords();
  const most = availableParallelism() * 129;
  const changes = Array.from({ length: 2 * most }, () => passwords.hash('password', []).catch(({ code }) => code));
  expect(passwords.queued()).toBeLessThanOrEqual(most);
  const codes = await Promise.all(changes);
  expect(codes.slice(0, most)).toEqual(Array.from({ length: most }, () => 'password_too_weak'));
  expect(codes.slice(most)).toEqual(Array.from({ length: most }, () => 'overloaded'));
});

test('a new password that nobody has looked at for half a minute is refused', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => void vi.useRealTimers());
  const change = createPasswords().hash(PASSWORD, []);
  vi.advanceTimersByTime(30_000);
  await expect(change).rejects.toMatchObject({ code: 'overloaded' });
});

test('no more are let in while those that wait have work for two seconds, as fast as the threads are', async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  onTestFinished(() => void vi.useRealTimers());
  const passwords = createPasswords();
  const checks = Array.from({ length: 10 * availableParallelism() }, () => passwords.verify(PASSWORD, undefined));
  expect(passwords.full()).toBe(false);
  vi.advanceTimersByTime(10_000);
  await Promise.race(checks);
  expect(passwords.full()).toBe(true);
  await Promise.all(checks);
  expect(passwords.full()).toBe(false);
});

test('that the threads are slow is seen after some ten tasks, that they were quick for ten does not make them quick', () => {
  const after = (pace: number, took: number, tasks: number) =>
    Array.from({ length: tasks }).reduce((seen: number) => paceAfter(seen, took), pace);
  expect(after(14, 200, 10)).toBeGreaterThan(120);
  expect(after(200, 14, 10)).toBeGreaterThan(120);
  expect(after(200, 14, 100)).toBeLessThan(25);
});

describe('logins whose passwords are being checked when the app closes', () => {
  test('are answered before the stores they need are left, and nothing of it is an error', async () => {
    const { app, close, logs } = await startTestApp({ env: { RATE_LIMITS: 'off' } });
    const url = await app.listen({ host: '127.0.0.1', port: 0 });
    const logIn = () =>
      fetch(`${url}/v1/tokens`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ email: newAddress(), password: PASSWORD }),
      });
    const count = availableParallelism() * 10;
    const arrived = Promise.withResolvers<void>();
    let requests = 0;
    app.server.on('request', () => {
      requests += 1;
      if (requests === count) arrived.resolve();
    });
    const underWay = Array.from({ length: count }, logIn);
    await arrived.promise;
    await close();
    for (const answer of await Promise.all(underWay)) expect(answer.status).toBe(401);
    expect(errorsIn(logs)).toEqual([]);
  });

  test('are refused with 503 and Retry-After where nothing waits for their answer', async () => {
    const { close, login } = await startTestApp({ env: { RATE_LIMITS: 'off' } });
    const underWay = Array.from({ length: availableParallelism() * 30 }, () => login(newAddress()));
    // From here on the threads hash: those that come after the first wait.
    await Promise.race(underWay);
    await close();
    const refused = (await Promise.all(underWay)).filter(({ statusCode }) => statusCode !== 401);
    expect(refused.length).toBeGreaterThan(0);
    // What has been hashed by then finds the stores closed.
    for (const answer of refused)
      expectProblem(answer, {
        status: 503,
        code: answer.json().code === 'overloaded' ? 'overloaded' : 'dependency_unavailable',
      });
  });
});

/** The worker as a process, from its sources and from its bundle. */

import { fileURLToPath } from 'node:url';
import { builtApp } from '@latchkey/dev-stack/built-apps';
import { type SupervisedProcess, startProcess } from '@latchkey/dev-stack/processes';
import { type RunningRedis, startRedis } from '@latchkey/dev-stack/redis';
import { tellAll } from '@latchkey/dev-stack/test-redis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { createHarness, type Harness } from './harness.ts';

const BUILT = builtApp('mailer-worker');

// A process has the production namespace, so these tests need a Redis of their own.
let redis: RunningRedis;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());

let harness: Harness;
const children: SupervisedProcess[] = [];
beforeEach(async () => {
  harness = await createHarness({ redisUrl: redis.url, namespace: 'latchkey' });
});
afterEach(async () => {
  await Promise.all(children.splice(0).map((child) => child.stop()));
  await harness.close();
});

function spawnWorker(program = BUILT, change: Record<string, string> = {}) {
  const output: string[] = [];
  const child = startProcess({
    command: process.execPath,
    args: [program],
    env: { ...harness.variables, ...change },
    endSignal: 'SIGTERM',
    output: (line) => void output.push(line),
  });
  children.push(child);
  return { child, output, ended: child.ended };
}

/** Resolves once a conversation with the mail server is in this phase; the server then takes its time to answer, the first time. */
function reaches(where: 'rcpt' | 'data', thenWaits: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  let waited = false;
  harness.hooks.delay = (phase) => {
    if (phase !== where || waited) return 0;
    waited = true;
    resolve();
    return thenWaits;
  };
  return promise;
}

describe('a worker killed with kill -9 before the mail server has the mail', () => {
  it('loses nothing: another worker delivers it, once', { timeout: 60_000 }, async () => {
    const atRcpt = reaches('rcpt', 2_000);
    const { child, ended } = spawnWorker();
    const { id, to } = await harness.add('activation');
    await atRcpt;
    // Not a byte of the data was sent: the retry owes nothing to what was before.
    expect(await harness.redis.get(harness.keys.mailLedger(id))).toBeNull();
    child.signal('SIGKILL');
    expect(await ended).toMatchObject({ signal: 'SIGKILL' });
    expect(harness.catcher.mails(to)).toHaveLength(0);

    await harness.start();
    await harness.catcher.waitFor(to, { timeoutMs: 30_000 });
    await harness.settled(id);
    expect(harness.catcher.mails(to)).toHaveLength(1);
    expect(harness.logLines.join('\n')).toContain('taking up the mail of a worker that went away');
  });
});

describe.each([
  ['the sources', fileURLToPath(new URL('../src/main.ts', import.meta.url))],
  ['the bundle', BUILT],
])('a worker from %s', (_name, program) => {
  it('told to stop, finishes the mail in flight, takes no other, and exits 0', async () => {
    const atData = reaches('data', 1_000);
    const { child, ended, output } = spawnWorker(program, { WORKER_CONCURRENCY: '1' });
    const flying = await harness.add('activation');
    const waiting = await harness.add('activation');
    await atData;
    child.signal('SIGTERM');

    expect(await ended).toEqual({ code: 0, signal: null });
    const [first, second] =
      (await harness.redis.sismember(harness.keys.mailAccepted, flying.id)) === 1
        ? [flying, waiting]
        : [waiting, flying];
    expect(harness.catcher.mails(first.to)).toHaveLength(1);
    expect(await harness.redis.sismember(harness.keys.mailAccepted, first.id)).toBe(1);
    expect(await harness.queue.getJobState(first.id)).toBe('unknown');
    expect(harness.catcher.mails(second.to)).toHaveLength(0);
    expect(await harness.queue.getJobState(second.id)).toBe('waiting');
    expect(output.map((line) => JSON.parse(line).msg)).toEqual(
      expect.arrayContaining(['stopping', 'mail accepted', 'stopped']),
    );
  });
});

describe('a worker told to stop with a mail server that does not answer', () => {
  it('lets go in time and leaves the mail to the next worker', async () => {
    const atRcpt = reaches('rcpt', 25_000);
    const { child, ended } = spawnWorker();
    const { id, to } = await harness.add('activation');
    await atRcpt;
    const toldAt = performance.now();
    child.signal('SIGTERM');
    expect(await ended).toEqual({ code: 0, signal: null });
    // `docker stop` kills after 10 s.
    expect(performance.now() - toldAt).toBeLessThan(10_000);
    expect(await harness.queue.getJobState(id)).toBe('delayed');

    const job = await harness.queue.getJob(id);
    await job?.promote();
    await harness.start();
    await harness.settled(id);
    expect(harness.catcher.mails(to)).toHaveLength(1);
  });
});

describe('a wrong environment', () => {
  it('stops the worker with every problem by name and no value', async () => {
    const { ended, output } = spawnWorker(BUILT, {
      REDIS_URL: 'http://redis-secret@localhost',
      SMTP_URL: '',
      MAIL_FROM: 'nobody-value',
      PUBLIC_URL: 'ftp-value',
      PORT: '99999',
      ACTIVATION_KEY_TTL: '15 value',
      WORKER_CONCURRENCY: '0',
    });
    expect(await ended).toEqual({ code: 1, signal: null });
    const text = output.join('\n');
    for (const name of [
      'REDIS_URL',
      'SMTP_URL',
      'MAIL_FROM',
      'PUBLIC_URL',
      'PORT',
      'ACTIVATION_KEY_TTL',
      'WORKER_CONCURRENCY',
    ]) {
      expect(text).toContain(`  ${name} `);
    }
    expect(text).not.toMatch(/secret|value|99999/);
    expect(text).not.toContain(' at ');
  });
});

describe('an error nobody expected', () => {
  it('is logged as fatal and ends the worker with exit code 1', async () => {
    // Its port is taken: the one start-up failure that is not in the environment.
    const worker = await harness.start();
    const port = new URL(worker.app.listeningOrigin).port;
    const { ended, output } = spawnWorker(BUILT, { PORT: port });
    expect(await ended).toEqual({ code: 1, signal: null });
    const fatal = output.map((line) => JSON.parse(line)).find(({ msg }) => msg === 'unexpected error, stopping');
    expect(fatal).toMatchObject({ level: 60, err: { code: 'EADDRINUSE' } });
  });
});

describe('Redis, restarted', () => {
  it('(with a mail in flight) costs no mail and doubles none; the worker goes on by itself', {
    timeout: 60_000,
  }, async () => {
    const own = await startRedis({ args: ['--appendonly', 'yes'] });
    const other = await createHarness({ redisUrl: own.url });
    try {
      const { promise: atData, resolve } = Promise.withResolvers<void>();
      let waits = 1;
      other.hooks.delay = (phase) => {
        if (phase !== 'data' || waits-- <= 0) return 0;
        resolve();
        return 500;
      };
      const worker = await other.start();
      const flying = await other.add('activation');
      await atData;
      await own.kill();
      // The mail server takes the mail while there is no Redis to note it in.
      await other.catcher.waitFor(flying.to);
      expect((await worker.app.inject('/readyz')).statusCode).toBe(503);
      await own.start();

      await other.settled(flying.id);
      expect(other.catcher.mails(flying.to)).toHaveLength(1);
      const after = await other.add('activation');
      await other.settled(after.id);
      await vi.waitFor(async () => expect((await worker.app.inject('/readyz')).statusCode).toBe(200), 5_000);
    } finally {
      await other.close();
      await own.stop();
    }
  });

  it('(out of memory when the mail was just accepted) is asked again, so that the mail goes out once', {
    timeout: 60_000,
  }, async () => {
    const own = await startRedis();
    const other = await createHarness({ redisUrl: own.url });
    try {
      let full: Promise<unknown> | undefined;
      other.hooks.reject = (phase) => {
        if (phase === 'data') full = tellAll(other.redis, (server) => server.config('SET', 'maxmemory', '1'));
        return undefined;
      };
      other.hooks.delay = (phase) => (phase === 'data' ? 100 : 0);
      await other.start();
      const { id, to } = await other.add('activation');
      await other.catcher.waitFor(to);
      await full;
      // Refused at least once more before there is room again.
      const before = await refusals(other);
      await vi.waitFor(async () => expect(await refusals(other)).toBeGreaterThan(before + 1), 5_000);
      await tellAll(other.redis, (server) => server.config('SET', 'maxmemory', '0'));
      await other.settled(id);
      expect(other.catcher.mails(to)).toHaveLength(1);
    } finally {
      await other.close();
      await own.stop();
    }
  });
});

/** How many writes this Redis has refused. */
async function refusals({ redis }: Harness): Promise<number> {
  const [, count = '0'] = /errorstat_OOM:count=(\d+)/.exec(await redis.info('errorstats')) ?? [];
  return Number(count);
}

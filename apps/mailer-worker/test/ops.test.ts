import { startMailCatcher } from '@latchkey/dev-stack/mail-catcher';
import { startRedis } from '@latchkey/dev-stack/redis';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createMailTransport } from '../src/smtp.ts';
import { createHarness, type Harness } from './harness.ts';

/** Inside the 2 s within which a health check must be answered. */
const IN_TIME = 2_000;

let harness: Harness;
let worker: Awaited<ReturnType<Harness['start']>>;
beforeAll(async () => {
  harness = await createHarness();
  worker = await harness.start();
});
afterAll(() => harness.close());

async function ask(app: typeof worker.app, path: string) {
  const askedAt = performance.now();
  const response = await app.inject(path);
  expect(performance.now() - askedAt).toBeLessThan(IN_TIME);
  return response;
}

/** Runs with another worker, whose variables are changed. */
async function withWorker(env: Record<string, string>, run: (app: typeof worker.app, other: Harness) => Promise<void>) {
  const other = await createHarness({ env });
  try {
    await run((await other.start()).app, other);
  } finally {
    await other.close();
  }
}

it('waits for no client that is slow to send, or to take its answer', () => {
  const { headersTimeout, requestTimeout, timeout } = worker.app.server;
  expect([headersTimeout, requestTimeout, timeout]).toEqual([5000, 10_000, 30_000]);
});

describe('/readyz', () => {
  it('names each dependency', async () => {
    await vi.waitFor(async () => {
      const response = await ask(worker.app, '/readyz');
      expect(response.statusCode).toBe(200);
      expect(response.json()).toEqual({ status: 'ready', checks: { redis: 'up', smtp: 'up' }, warnings: [] });
    });
  });

  it('says degraded, and stays 200, without a mail server: mails wait, nothing is lost', async () => {
    await withWorker({ SMTP_URL: 'smtp://127.0.0.1:1' }, async (app) => {
      await vi.waitFor(async () => {
        const response = await ask(app, '/readyz');
        expect(response.statusCode).toBe(200);
        expect(response.json()).toMatchObject({ status: 'degraded', checks: { redis: 'up', smtp: 'down' } });
      });
    });
  });

  it('notices within seconds that the mail server is back', async () => {
    const { smtpPort, smtpUrl, stop } = await startMailCatcher();
    await stop();
    await withWorker({ SMTP_URL: smtpUrl }, async (app) => {
      expect((await ask(app, '/readyz')).json()).toMatchObject({ checks: { smtp: 'down' } });
      const back = await startMailCatcher({ smtpPort });
      try {
        await vi.waitFor(
          async () => expect((await ask(app, '/readyz')).json()).toMatchObject({ checks: { smtp: 'up' } }),
          10_000,
        );
      } finally {
        await back.stop();
      }
    });
  });

  it('does not wait for a mail server that accepts and says nothing', async () => {
    const silent = await createHarness();
    silent.hooks.delay = (phase) => (phase === 'connect' ? 5_000 : 0);
    try {
      const { app } = await silent.start();
      expect((await ask(app, '/readyz')).json()).toMatchObject({ checks: { smtp: 'down' } });
    } finally {
      await silent.close();
    }
  });

  it('does not ask the mail server at each check', async () => {
    let connections = 0;
    harness.hooks.delay = (phase) => {
      if (phase === 'connect') connections += 1;
      return 0;
    };
    const ours = createMailTransport(harness.catcher.smtpUrl);
    for (let i = 0; i < 4; i++) {
      await ask(worker.app, '/readyz');
      // By the time this one is done, so is any that the health check has opened.
      await ours.verify();
    }
    expect(connections).toBeLessThanOrEqual(4 + 1);
    harness.hooks.delay = undefined;
  });

  it('is 503 with Retry-After without Redis, while /livez and /metrics still answer', async () => {
    await withWorker({ REDIS_URL: 'redis://127.0.0.1:1' }, async (app) => {
      const response = await ask(app, '/readyz');
      expect(response.statusCode).toBe(503);
      expect(response.headers['retry-after']).toBe('2');
      expect(response.json()).toMatchObject({ status: 'unavailable', checks: { redis: 'down', smtp: 'up' } });
      expect((await ask(app, '/livez')).statusCode).toBe(200);
      expect((await ask(app, '/metrics')).statusCode).toBe(200);
    });
  });

  it('is 503 in time when Redis hangs', async () => {
    const redis = await startRedis();
    try {
      await withWorker({ REDIS_URL: redis.url }, async (app) => {
        await vi.waitFor(async () => expect((await ask(app, '/readyz')).statusCode).toBe(200));
        redis.freeze();
        expect((await ask(app, '/readyz')).statusCode).toBe(503);
        expect((await ask(app, '/livez')).statusCode).toBe(200);
        expect((await ask(app, '/metrics')).body).toContain('process_cpu_seconds_total');
        redis.thaw();
        await vi.waitFor(async () => expect((await ask(app, '/readyz')).statusCode).toBe(200), 5_000);
      });
    } finally {
      await redis.stop();
    }
  });

  it('warns, as the log does, of a Redis that may throw mails away', async () => {
    const redis = await startRedis({ args: ['--maxmemory-policy', 'allkeys-lru'] });
    try {
      await withWorker({ REDIS_URL: redis.url }, async (app, other) => {
        await vi.waitFor(async () => {
          const state = (await ask(app, '/readyz')).json();
          expect(state.status).toBe('degraded');
          expect(state.warnings).toEqual([expect.stringContaining('maxmemory-policy is allkeys-lru')]);
        });
        await vi.waitFor(() => expect(other.logLines.join('')).toContain('maxmemory-policy is allkeys-lru'));
      });
    } finally {
      await redis.stop();
    }
  });
});

describe('/livez', () => {
  it('is 200', async () => {
    const response = await ask(worker.app, '/livez');
    expect(response.statusCode).toBe(200);
    expect(response.json()).toEqual({ status: 'ok' });
  });
});

describe('/metrics', () => {
  it('counts every try by name and outcome, and shows the queue', async () => {
    harness.hooks.reject = (phase, session) =>
      phase === 'mail' && session.envelope.rcptTo.length === 0 && refuse ? { code: 550, message: 'no' } : undefined;
    let refuse = false;
    const accepted = await harness.add('activation');
    await harness.settled(accepted.id);
    refuse = true;
    await harness.failed((await harness.add('account_exists')).id);
    await harness.failed((await harness.add('password_changed', { user_id: '42' })).id);
    await harness.failed((await harness.add('a-name-nobody-knows')).id);

    const response = await ask(worker.app, '/metrics');
    expect(response.headers['content-type']).toContain('text/plain');
    for (const line of [
      'latchkey_mail_jobs_total{name="activation",outcome="accepted"} 1',
      'latchkey_mail_jobs_total{name="account_exists",outcome="rejected"} 1',
      'latchkey_mail_jobs_total{name="password_changed",outcome="invalid"} 1',
      'latchkey_mail_jobs_total{name="unknown",outcome="given_up"} 1',
      'latchkey_mail_delivery_seconds_count 1',
      'latchkey_mail_queue_depth{state="failed"} 3',
      'latchkey_mail_queue_depth{state="waiting"} 0',
    ]) {
      expect(response.body.split('\n')).toContain(line);
    }
    expect(response.body).toContain('process_cpu_seconds_total');
    expect(response.body).not.toContain('a-name-nobody-knows');
  });
});

describe('any other path', () => {
  it('is a 404 as problem details', async () => {
    const response = await ask(worker.app, '/admin');
    expect(response.statusCode).toBe(404);
    expect(response.headers['content-type']).toContain('application/problem+json');
    expect(response.json()).toMatchObject({
      status: 404,
      code: 'not_found',
      title: expect.any(String),
      request_id: expect.any(String),
    });
  });
});

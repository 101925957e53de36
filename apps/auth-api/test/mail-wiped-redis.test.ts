/**
 * Many workers, and Redis wiped while they send: every mail arrives; twice only what Redis was alone to know of, that a mail server has
 * taken it. MAIL_WORKERS_MAILS=10000 has ten workers send so many.
 */
import { startMailCatcher } from '@latchkey/dev-stack/mail-catcher';
import { tellAll } from '@latchkey/dev-stack/test-redis';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { expect, onTestFinished, test, vi } from 'vitest';
import { databaseProbe } from './mail-probe.ts';
import { startMailSide, testApp } from './test-app.ts';

const LARGE = process.env.MAIL_WORKERS_MAILS;
const MAILS = Number(LARGE ?? 100);
const WORKERS = LARGE === undefined ? 2 : 10;
const CONCURRENCY = 5;

/** What so many registrations leave behind, in one transaction. */
const OWE = `
  WITH registration AS (
    INSERT INTO users (id, email, email_key, password_hash, locale)
    SELECT id, address, address, 'none', 'en'
    FROM (SELECT gen_random_uuid() AS id, 'n' || n || '@d' || n % 100 || '.example.test' AS address
      FROM generate_series(1, $1::int) AS n) AS new
    RETURNING id, email, locale, activation_attempt
  )
  INSERT INTO mail_outbox (id, name, payload)
  SELECT gen_random_uuid(), 'activation', jsonb_build_object(
    'v', 1, 'request_id', 'r', 'user_id', id, 'to', email, 'locale', locale, 'attempt', activation_attempt)
  FROM registration`;

test(`${WORKERS} workers send ${MAILS} mails with Redis wiped in the middle: each once, or within the counted window`, {
  timeout: 60_000 + MAILS * 30,
}, async () => {
  const arrivals: { to: string; wiped: boolean }[] = [];
  let wiped = false;
  const mail = await startMailCatcher({
    // Each may come twice.
    keep: 2 * MAILS,
    reject(phase, { envelope }) {
      if (phase === 'data') arrivals.push({ to: String(envelope.rcptTo[0]?.address), wiped });
      return undefined;
    },
  });
  const side = await startMailSide({ SMTP_URL: mail.smtpUrl, WORKER_CONCURRENCY: String(CONCURRENCY) });
  const database = databaseProbe(side.databaseUrl);
  const redis = connectRedis(side.redisUrl, 'queueWorker', () => undefined);
  onTestFinished(async () => {
    redis.disconnect();
    await Promise.all([database.close(), mail.stop()]);
    await side.stop();
  });
  const workers = await Promise.all(Array.from({ length: WORKERS }, () => side.startWorker()));
  onTestFinished(async () => void (await Promise.all(workers.map((worker) => worker.stop()))));
  await testApp({
    databaseUrl: side.databaseUrl,
    redisUrl: side.redisUrl,
    relay: { lostAfter: 2, searchEvery: 1 },
  });

  await database.rows(OWE, [MAILS]);
  await vi.waitFor(() => expect(arrivals.length).toBeGreaterThan(MAILS / 2), { timeout: MAILS * 30, interval: 5 });
  await tellAll(redis, (server) => server.flushall());
  wiped = true;
  const owed = new Set((await database.owed()).map(({ payload }) => payload.to));
  await database.settled(40_000 + MAILS * 15);

  const times = Map.groupBy(arrivals, ({ to }) => to);
  const doubled = [...times.values()].filter(({ length }) => length > 1);
  process.stdout.write(`Redis wiped under ${WORKERS} workers: ${MAILS} mails, ${doubled.length} of them twice\n`);
  expect(times.size).toBe(MAILS);
  for (const [first, second, third] of doubled) {
    // Its report was lost with Redis, so its row still stood; it is sent again after that, and only once.
    expect(owed).toContain(first?.to);
    expect([second?.wiped, third]).toEqual([true, undefined]);
    const ids = mail.mails(first?.to).map(({ headers }) => headers.get('message-id'));
    expect(new Set(ids).size).toBe(1);
  }
  // Sent after it was wiped and sent again can only be what was on its way at that moment.
  expect(doubled.filter(([first]) => first?.wiped).length).toBeLessThanOrEqual(WORKERS * CONCURRENCY);
});

import { randomUUID } from 'node:crypto';
import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import type {} from '@latchkey/dev-stack/test-stack';
import { connectDatabase } from '@latchkey/shared/database';
import { createLogger } from '@latchkey/shared/logger';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { expect, inject, onTestFinished, test } from 'vitest';
import { createMailRelay } from '../src/domain/mail-relay.ts';
import { createMailQueue } from '../src/store/mail-queue.ts';
import { createOutbox } from '../src/store/outbox.ts';

/** A database and a queue of the test's own. */
async function ownStores() {
  const database = await createTestDatabase(inject('databaseUrl'));
  const db = connectDatabase(database.url, () => undefined);
  const redis = connectRedis(inject('redisUrl'), 'queueProducer', () => undefined);
  const queue = createMailQueue(redis, redisKeys(randomUUID()), () => undefined);
  onTestFinished(async () => {
    await queue.close();
    redis.disconnect();
    await db.$disconnect();
    await database.drop();
  });
  await expect.poll(() => redis.status).toBe('ready');
  return { db, queue };
}

test('told to close, the relay ends with the batch it is at, however long the backlog: the rest is owed still', async () => {
  const { db, queue } = await ownStores();
  await db.$executeRaw`INSERT INTO mail_outbox (id, name, payload) SELECT gen_random_uuid(), 'activation', '{}' FROM generate_series(1, 1000)`;

  let closed: Promise<void> | undefined;
  const relay = createMailRelay({
    outbox: createOutbox(db),
    allowed: async () => undefined,
    queue: {
      ...queue,
      async add(mails) {
        await queue.add(mails);
        closed ??= relay.close();
      },
    },
    logger: createLogger('auth-api', 'fatal'),
  });
  relay.start();
  await expect.poll(() => closed !== undefined, { timeout: 20_000 }).toBe(true);
  await closed;
  const [{ published } = { published: 0 }] = await db.$queryRaw<{ published: number }[]>`
    SELECT count(published_at)::int AS published FROM mail_outbox`;
  expect(published).toBeGreaterThan(0);
  expect(published).toBeLessThan(1000);
});

test('after Redis was lost all mails are published again without a pause, and new ones do not wait for the last of them', async () => {
  const { db, queue } = await ownStores();
  await db.$executeRaw`INSERT INTO mail_outbox (id, name, payload, published_at)
    SELECT gen_random_uuid(), 'activation', '{}', now() - interval '1 minute' FROM generate_series(1, 1050)`;
  const outbox = createOutbox(db);
  const done: string[] = [];
  const lines: Record<string, unknown>[] = [];
  const relay = createMailRelay({
    outbox: {
      ...outbox,
      publishedBefore(seconds) {
        done.push('search');
        return outbox.publishedBefore(seconds);
      },
    },
    allowed: async () => undefined,
    queue: {
      ...queue,
      async add(mails) {
        done.push('publish');
        await queue.add(mails);
      },
    },
    logger: createLogger('auth-api', 'info', { write: (line) => void lines.push(JSON.parse(line)) }),
    searchEvery: 1,
  });
  // Once: there is no clock that has it look again.
  relay.kick();
  const rows = await db.$queryRaw<{ id: string }[]>`SELECT id FROM mail_outbox`;
  const ids = rows.map(({ id }) => id);
  await expect.poll(() => queue.missing(ids), { timeout: 20_000 }).toEqual([]);
  await relay.close();
  expect(done.slice(0, 4)).toEqual(['search', 'publish', 'search', 'publish']);
  const lost = lines.filter(({ msg }) => String(msg).startsWith('jobs were lost with Redis'));
  expect(lost).toMatchObject([{ mails: 1050 }]);
});

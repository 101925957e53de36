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

test('told to close, the relay ends with the batch it is at, however long the backlog: the rest is owed still', async () => {
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

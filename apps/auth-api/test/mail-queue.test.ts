import { randomUUID } from 'node:crypto';
import { startRedis } from '@latchkey/dev-stack/redis';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { expect, onTestFinished, test, vi } from 'vitest';
import { createMailQueue } from '../src/store/mail-queue.ts';

test('a queue whose first contact with Redis failed works as soon as Redis does', async () => {
  const server = await startRedis();
  const redis = connectRedis(server.url, 'queueProducer', () => {});
  await vi.waitFor(() => expect(redis.status).toBe('ready'));
  const queue = createMailQueue(redis, redisKeys(), () => {});
  onTestFinished(async () => {
    redis.disconnect();
    await queue.close().catch(() => {});
    await server.stop();
  });
  const mail = { id: randomUUID(), name: 'activation', payload: {}, createdAt: new Date() };
  server.freeze();
  await expect(queue.add([mail])).rejects.toThrow();
  server.thaw();
  await vi.waitFor(() => queue.add([mail]));
  expect(await queue.missing([mail.id])).toEqual([]);
});

import { randomUUID } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import type {} from '@latchkey/dev-stack/test-stack';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { expect, inject, onTestFinished, test } from 'vitest';
import { createRateLimits, limits } from '../src/rate-limits.ts';

test.each([
  ['before it has asked', async () => {}],
  ['while it is answered', () => setImmediate()],
])(
  'an instance that is busy itself, %s, goes on counting in Redis: its points are not doubled',
  async (_when, asked) => {
    const redis = connectRedis(inject('redisUrl'), 'store', () => {});
    onTestFinished(() => redis.disconnect());
    await expect.poll(() => redis.ping().catch(() => undefined), { timeout: 10_000 }).toBe('PONG');
    const { consume } = createRateLimits(redis, redisKeys(`latchkey:test-${randomUUID()}`), 'on', (subject) => subject);
    const count = () => consume('registrationPerIp', '192.0.2.7');
    await count();
    // Redis has work of its own, some tens of milliseconds of it.
    const work = redis.eval('for i = 1, 1e7 do end', 1, 'work');
    const others = Array.from({ length: limits.registrationPerIp.points - 1 }, count);
    await asked();
    // Longer than Redis has to count, shorter than a command has to be answered.
    const until = performance.now() + 300;
    while (performance.now() < until);
    await Promise.all([work, ...others]);
    await expect(count()).rejects.toMatchObject({ code: 'rate_limited' });
  },
);

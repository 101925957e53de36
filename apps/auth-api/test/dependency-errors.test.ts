import { randomUUID } from 'node:crypto';
import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import type {} from '@latchkey/dev-stack/test-stack';
import { connectDatabase } from '@latchkey/shared/database';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { afterAll, beforeAll, expect, inject, onTestFinished, test } from 'vitest';
import { unavailableDependency } from '../src/dependency-errors.ts';
import { defineScript } from '../src/store/lua.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let db: ReturnType<typeof connectDatabase>;

beforeAll(async () => {
  database = await createTestDatabase(inject('databaseUrl'));
  db = connectDatabase(database.url, () => {});
});
afterAll(async () => {
  await db.$disconnect();
  await database.drop();
});

/** What Prisma makes of it when PostgreSQL refuses with a SQLSTATE: in a statement of ours, in a transaction, and in one of its own. */
async function errorsOf(sqlstate: string): Promise<unknown[]> {
  const refuse = `RAISE EXCEPTION 'not now' USING ERRCODE = '${sqlstate}'`;
  await db.$executeRawUnsafe(
    `CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ${refuse}; END $$`,
  );
  await db.$executeRawUnsafe(
    'CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION refuse()',
  );
  const user = {
    id: randomUUID(),
    email: 'a@example.test',
    emailKey: 'a@example.test',
    passwordHash: '!',
    locale: 'en',
  };
  const tries = [
    () => db.$executeRawUnsafe(`DO $$ BEGIN ${refuse}; END $$`),
    () => db.$transaction((tx) => tx.$executeRawUnsafe(`DO $$ BEGIN ${refuse}; END $$`)),
    () => db.user.create({ data: user }),
  ];
  const errors: unknown[] = [];
  for (const attempt of tries) await attempt().catch((error: unknown) => errors.push(error));
  expect(errors).toHaveLength(tries.length);
  return errors;
}

test.each([
  ['a deadlock', '40P01'],
  ['a serialization failure', '40001'],
  ['a lock not had in time', '55P03'],
  ['a statement that was cancelled', '57014'],
  ['a server that shuts down', '57P01'],
  ['a full disk', '53100'],
])('%s (%s) is a database that is not available now', async (_name, sqlstate) => {
  for (const error of await errorsOf(sqlstate)) expect(unavailableDependency(error), String(error)).toBe('postgresql');
});

test.each([
  ['a bad value', '22P02'],
  ['a table that is not there', '42P01'],
  ['a statement that is wrong', '42601'],
])('%s (%s) is an error of ours', async (_name, sqlstate) => {
  for (const error of await errorsOf(sqlstate)) expect(unavailableDependency(error), String(error)).toBeUndefined();
});

test.each([
  ['one server', 'redis://127.0.0.1:1'],
  ['Redis Cluster', 'redis://127.0.0.1:1,redis://127.0.0.1:2'],
  ['Sentinel', 'redis+sentinel://127.0.0.1:1/mymaster'],
])('%s that is away is Redis that is not available now, and says so at once', async (_name, url) => {
  const redis = connectRedis(url, 'store', () => undefined);
  onTestFinished(() => redis.disconnect());
  const beginEpoch = defineScript(redis, 'begin-epoch-2.lua');
  const asked = performance.now();
  for (let time = 0; time < 3; time += 1) {
    for (const ask of [
      () => redis.exists('a'),
      () => redis.time(),
      () => beginEpoch(['{a}', '{a}b'], ['', 'b', 0, '0-0', 0]),
    ])
      await expect(ask().catch(unavailableDependency)).resolves.toBe('redis');
  }
  expect(performance.now() - asked).toBeLessThan(2000);
});

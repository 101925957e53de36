import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { neverParts, newNamespace } from './property.ts';
import { type System, startSystem } from './system.ts';

/** Issue 3: so many steps without a difference. */
const STEPS = 100_000;

let system: System;
let database: Awaited<ReturnType<typeof createTestDatabase>>;

beforeAll(async () => {
  database = await createTestDatabase(inject('databaseUrl'));
  system = await startSystem({ redisUrl: inject('redisUrl'), databaseUrl: database.url, namespace: newNamespace() });
});
afterAll(async () => {
  await system.stop();
  await database.drop();
});

test('model and system never part in 100 000 steps, in random order and at the same time', {
  timeout: 600_000,
}, async () => {
  expect(await neverParts(system, STEPS)).toBeGreaterThanOrEqual(STEPS);
});

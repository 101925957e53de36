import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { neverParts, newNamespace } from './property.ts';
import { play } from './run.ts';
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

/** Histories in which they once parted. */
const who = { user: 0, instance: 0, pick: 0 };
test('a clock that steps back shortens no gate', async () => {
  await play(
    system.lane(),
    [
      { kind: 'burst', commands: [{ ...who, kind: 'login', format: 'opaque', prepared: false }] },
      { kind: 'advance', seconds: 5000 },
      { kind: 'burst', commands: [{ ...who, kind: 'endOthers' }] },
      { kind: 'advance', seconds: -1000 },
      { kind: 'burst', commands: [{ ...who, kind: 'useOpaque' }] },
      { kind: 'advance', seconds: -2000 },
      { kind: 'burst', commands: [{ ...who, kind: 'endOne', foreign: false }] },
    ],
    () => undefined,
  );
});

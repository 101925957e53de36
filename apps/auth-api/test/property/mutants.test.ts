import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import { afterAll, beforeAll, expect, inject, onTestFinished, test } from 'vitest';
import { MUTANTS, mutated } from './mutants.ts';
import { newNamespace, partsWithin } from './property.ts';
import { startSystem } from './system.ts';

/** Fewer than the property test makes without a difference. Most faults are found in the first thousand. */
const STEPS = 60_000;

let database: Awaited<ReturnType<typeof createTestDatabase>>;

beforeAll(async () => {
  database = await createTestDatabase(inject('databaseUrl'));
});
afterAll(() => database.drop());

test.each(MUTANTS)('the property finds out when $fault', { timeout: 300_000 }, async (mutant) => {
  const { sources, remove } = mutated(mutant);
  onTestFinished(remove);
  const place = { redisUrl: inject('redisUrl'), databaseUrl: database.url, namespace: newNamespace() };
  const system = await startSystem(place, sources);
  onTestFinished(() => system.stop());
  expect(await partsWithin(system, STEPS)).toMatch(/\S/);
});

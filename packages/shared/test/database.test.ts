import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import type {} from '@latchkey/dev-stack/test-stack';
import pg from 'pg';
import { expect, inject, test } from 'vitest';
import { connectDatabase } from '../src/database.ts';

test('a transaction that was given up is rolled back, and nobody is given its connection', async () => {
  const database = await createTestDatabase(inject('databaseUrl'));
  const other = new pg.Client({ connectionString: database.url });
  await other.connect();
  // One connection: whoever comes next would have the one that was given up.
  const db = connectDatabase(database.url, () => undefined, { connections: 1 });
  try {
    await other.query(
      'CREATE TABLE things (id INT PRIMARY KEY, n INT NOT NULL); INSERT INTO things VALUES (1, 0), (2, 0)',
    );
    await other.query('BEGIN');
    await other.query('UPDATE things SET n = 1 WHERE id = 2');
    const given = db.$transaction(async (tx) => {
      await tx.$executeRaw`UPDATE things SET n = 10 WHERE id = 1`;
      // Waits for the row, for longer than anybody may.
      await tx.$executeRaw`UPDATE things SET n = 10 WHERE id = 2`;
    });
    await expect(given).rejects.toThrow();
    await other.query('COMMIT');

    await expect.poll(() => db.$executeRaw`INSERT INTO things VALUES (3, 0)`.catch(() => 0)).toBe(1);
    await db.$transaction(async (tx) => tx.$executeRaw`INSERT INTO things VALUES (4, 0)`);
    const { rows } = await other.query('SELECT id, n FROM things ORDER BY id');
    expect(rows).toEqual([
      { id: 1, n: 0 },
      { id: 2, n: 1 },
      { id: 3, n: 0 },
      { id: 4, n: 0 },
    ]);
  } finally {
    await Promise.all([db.$disconnect(), other.end()]);
    await database.drop();
  }
});

test('an instant is the same whatever the time zone of the server is', async () => {
  const database = await createTestDatabase(inject('databaseUrl'));
  const other = new pg.Client({ connectionString: database.url });
  await other.connect();
  const db = connectDatabase(database.url, () => undefined);
  const at = new Date('2026-07-01T12:00:00.123Z');
  try {
    const { rows: zone } = await other.query('SHOW TimeZone');
    expect(zone).toEqual([{ TimeZone: 'Asia/Kathmandu' }]);
    await db.client.create({ data: { id: 'model', secretHash: Buffer.alloc(32), createdAt: at } });
    await db.$executeRaw`INSERT INTO clients (id, secret_hash, scopes, created_at) VALUES ('raw', '', '{}', ${at})`;

    const { rows } = await other.query('SELECT created_at FROM clients');
    expect(rows).toEqual([{ created_at: at }, { created_at: at }]);
    expect(await db.client.findMany({ select: { createdAt: true } })).toEqual([{ createdAt: at }, { createdAt: at }]);
    expect(await db.$queryRaw`SELECT created_at FROM clients`).toEqual(rows);
  } finally {
    await Promise.all([db.$disconnect(), other.end()]);
    await database.drop();
  }
});

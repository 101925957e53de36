/** Accounts for suites that are about something else. */
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { expect, vi } from 'vitest';
import { createPasswords } from '../src/domain/passwords.ts';
import type { DatabaseProbe } from './mail-probe.ts';
import type { startMailSide, TestApp } from './test-app.ts';
import { newAddress, PASSWORD } from './test-app.ts';

export interface TokenResponse {
  access_token: string;
  refresh_token: string;
  expires_in: number;
  refresh_expires_in: number;
  session: { id: string; device_name: string | null; created_at: string };
  first_session: boolean;
}

let hashed: Promise<string> | undefined;

/** The hash of `PASSWORD` as the app makes it: another would be made anew at the first login. Once per process, for all its users. */
function passwordHash(): Promise<string> {
  hashed ??= createPasswords().hash(PASSWORD, []);
  return hashed;
}

/** A user as registering, and activating, leaves one in the database; no mail, and no event in the audit log. The password is `PASSWORD`. */
export async function addUser(
  { databaseUrl }: Pick<TestApp, 'databaseUrl'>,
  status: 'active' | 'pending' = 'active',
): Promise<{ id: string; email: string }> {
  const user = { id: randomUUID(), email: newAddress() };
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    await client.query(
      `INSERT INTO users (id, email, email_key, status, password_hash, locale, activated_at)
       VALUES ($1, $2, lower($2), $3::user_status, $4, 'en', CASE $3 WHEN 'active' THEN now() END)`,
      [user.id, user.email, status, await passwordHash()],
    );
  } finally {
    await client.end();
  }
  return user;
}

/** {@link addUser}, active. @returns the address. */
export const activeUser = async (api: Pick<TestApp, 'databaseUrl'>): Promise<string> => (await addUser(api)).email;

/** Registers and activates by the mailed key, as a person would. @returns the address; the password is `PASSWORD`. */
export async function registeredUser(api: TestApp, side: Awaited<ReturnType<typeof startMailSide>>): Promise<string> {
  const email = newAddress();
  await api.register(email);
  const key = await side.activationKey(email);
  const activated = await api.post(`/v1/activations/${key}`);
  if (activated.statusCode !== 200) throw new Error(`activation answered ${activated.statusCode} ${activated.body}`);
  return email;
}

/** Logs in. @throws when the answer is not 200. */
export async function logIn(api: TestApp, email: string, deviceName?: string): Promise<TokenResponse> {
  const response = await api.login(email, PASSWORD, deviceName);
  if (response.statusCode !== 200) throw new Error(`login answered ${response.statusCode} ${response.body}`);
  return response.json();
}

/**
 * Does something while a change of the user's row is held up in the middle: everything before its statement has happened, nothing after.
 * @returns what the change answers once it may go on.
 */
export async function duringChange<T>(
  database: DatabaseProbe,
  email: string,
  change: () => Promise<T>,
  meanwhile: () => Promise<void>,
): Promise<T> {
  const holder = await database.begin();
  // Not FOR UPDATE: what is recorded of the user meanwhile need not wait.
  await holder.query('SELECT FROM users WHERE email_key = $1 FOR NO KEY UPDATE', [email.toLowerCase()]);
  let changed: Promise<T>;
  try {
    changed = change();
    await vi.waitFor(
      async () => {
        const waiting = await database.rows(
          "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
        );
        expect(waiting).toHaveLength(1);
      },
      { timeout: 10_000, interval: 10 },
    );
    await meanwhile();
  } finally {
    await holder.end('COMMIT');
  }
  return changed;
}

/**
 * Does something while a change of the user's row is held up at its end: it has ended the sessions, and is not committed.
 * @returns what the change answers once it may commit.
 */
export async function beforeCommit<T>(
  database: DatabaseProbe,
  change: () => Promise<T>,
  meanwhile: () => Promise<void>,
): Promise<T> {
  // A constraint that is looked at last of all, and waits for what this test holds.
  const held = 4711;
  await database.rows(`CREATE OR REPLACE FUNCTION hold_commit() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock(${held}); RETURN NULL; END $$`);
  await database.rows(`CREATE CONSTRAINT TRIGGER held_commit AFTER UPDATE OR DELETE ON users
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hold_commit()`);
  const holder = await database.begin();
  await holder.query('SELECT pg_advisory_xact_lock($1)', [held]);
  let changed: Promise<T>;
  try {
    changed = change();
    await vi.waitFor(
      async () => {
        const waiting = await database.rows(
          `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
            AND query ILIKE 'COMMIT%'`,
        );
        expect(waiting).toHaveLength(1);
      },
      { timeout: 10_000, interval: 10 },
    );
    await meanwhile();
  } finally {
    await holder.end('COMMIT');
  }
  const answer = await changed;
  await database.rows('DROP TRIGGER held_commit ON users');
  return answer;
}

/** The parts of a JWT, unverified. */
export function decoded(token: string): { header: Record<string, unknown>; claims: Record<string, unknown> } {
  const [header, claims] = token.split('.').map((part) => Buffer.from(part, 'base64url').toString());
  return {
    header: JSON.parse(header ?? '') as Record<string, unknown>,
    claims: JSON.parse(claims ?? '') as Record<string, unknown>,
  };
}

import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { freePort } from '@latchkey/dev-stack/ports';
import { type SupervisedProcess, startProcess } from '@latchkey/dev-stack/processes';
import { repositoryRoot } from '@latchkey/dev-stack/repository';
import { createTestDatabase, type TestDatabase } from '@latchkey/dev-stack/test-database';
import type {} from '@latchkey/dev-stack/test-stack';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest';
import { run } from '../src/run.ts';

const MAIN = `${repositoryRoot}/packages/cli/src/main.ts`;

let database: TestDatabase;
let api: SupervisedProcess;
let url: string;
let operator: Record<string, string>;

beforeAll(async () => {
  database = await createTestDatabase(inject('databaseUrl'));
  const port = await freePort();
  url = `http://127.0.0.1:${port}`;
  api = startProcess({
    command: process.execPath,
    args: [`${repositoryRoot}/apps/auth-api/src/main.ts`],
    env: {
      PATH: process.env.PATH,
      DATABASE_URL: database.url,
      REDIS_URL: inject('redisUrl'),
      PUBLIC_URL: url,
      MASTER_KEY: Buffer.alloc(32, 7).toString('base64'),
      HOST: '127.0.0.1',
      PORT: String(port),
    },
    endSignal: 'SIGTERM',
    output: () => {},
  });
  await vi.waitFor(
    async () => {
      if ((await fetch(`${url}/readyz`)).status !== 200) throw new Error('auth-api is not ready');
    },
    { timeout: 20_000, interval: 50 },
  );
  const made = await latchkey(['client', 'create', 'console', '--scopes', 'admin', '--json']);
  const { id, secret } = JSON.parse(made.out) as { id: string; secret: string };
  operator = { LATCHKEY_URL: url, LATCHKEY_CLIENT_ID: id, LATCHKEY_CLIENT_SECRET: secret };
});
afterAll(async () => {
  await api.stop();
  await database.drop();
});

/** Runs a command line. @param answer what a person says when asked; undefined: nobody is there. */
async function latchkey(words: string[], env: Record<string, string> = {}, answer?: boolean) {
  let [out, err] = ['', ''];
  const asked: string[] = [];
  const confirm = async (question: string) => {
    asked.push(question);
    return answer === true;
  };
  const exit = await run(
    words,
    { DATABASE_URL: database.url, ...operator, ...env },
    {
      out: (text) => {
        out += text;
      },
      err: (text) => {
        err += text;
      },
      confirm: answer === undefined ? undefined : confirm,
    },
  );
  return { exit, out, err, asked };
}

/** A user who is active, as the database has it. @returns id and address */
async function activeUser(displayName = 'Ada') {
  const email = `ada-${randomBytes(6).toString('hex')}@example.test`;
  await fetch(`${url}/v1/users`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ email, password: 'correct horse battery staple', display_name: displayName }),
  });
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  try {
    const { rows } = await client.query<{ id: string }>(
      `UPDATE users SET status = 'active' WHERE email = $1 RETURNING id`,
      [email],
    );
    return { email, id: rows[0]?.id ?? '' };
  } finally {
    await client.end();
  }
}

const logIn = async (email: string) => {
  const response = await fetch(`${url}/v1/tokens`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ email, password: 'correct horse battery staple', device_name: 'phone' }),
  });
  return { status: response.status, body: (await response.json()) as { access_token: string } };
};
const verify = async (token: string) =>
  (await fetch(`${url}/v1/verify`, { headers: { authorization: `Bearer ${token}` } })).status;

describe('the command line', () => {
  test('explains itself, every command with its options', async () => {
    for (const words of [[], ['--help'], ['help']]) {
      const { exit, out } = await latchkey(words);
      expect(exit).toBe(0);
      for (const command of ['client create <id>', 'client list', 'client revoke', 'user show', 'user suspend'])
        expect(out).toContain(command);
    }
    expect((await latchkey(['user', 'suspend', '--help'])).out).toMatch(/--until <value>.*--reason <value>.*--json/s);
  });

  test('a wrong line is answered with 2 and does nothing', async () => {
    for (const words of [
      ['user', 'destroy', 'x'],
      ['client'],
      ['client', 'list', 'x'],
      ['user', 'show'],
      ['user', 'show', 'a', 'b'],
      ['user', 'show', 'x', '--nonsense'],
      ['client', 'create', 'x'],
      ['client', 'create', 'a b', '--scopes', 'admin'],
      ['client', 'create', '123e4567-e89b-12d3-a456-426614174000', '--scopes', 'admin'],
      ['client', 'create', 'x', '--scopes', 'account'],
      ['user', 'suspend', 'x', '--until', 'tomorrow', '--yes'],
    ]) {
      const { exit, out, err } = await latchkey(words);
      expect({ words, exit, out }).toEqual({ words, exit: 2, out: '' });
      expect(err).toMatch(/^latchkey: \S/);
    }
    const unset = await latchkey(['client', 'list'], { LATCHKEY_URL: '', LATCHKEY_CLIENT_SECRET: '' });
    expect(unset).toMatchObject({ exit: 2, err: expect.stringContaining('LATCHKEY_URL, LATCHKEY_CLIENT_SECRET') });
  });

  test('tells refused from not reachable', async () => {
    const missing = '123e4567-e89b-12d3-a456-426614174000';
    expect(await latchkey(['user', 'show', missing])).toMatchObject({
      exit: 1,
      err: expect.stringContaining('user_unknown'),
    });
    expect(await latchkey(['user', 'show', 'nobody@example.test'])).toMatchObject({ exit: 1 });
    expect(await latchkey(['client', 'list'], { LATCHKEY_CLIENT_SECRET: 'wrong' })).toMatchObject({
      exit: 1,
      err: expect.stringContaining('invalid_client'),
    });
    const away = `http://127.0.0.1:${await freePort()}`;
    expect(await latchkey(['client', 'list'], { LATCHKEY_URL: away })).toMatchObject({ exit: 3 });
    const gone = { DATABASE_URL: `postgresql://127.0.0.1:${await freePort()}/x` };
    expect(await latchkey(['client', 'create', 'x', '--scopes', 'admin'], gone)).toMatchObject({ exit: 3 });
  });

  test('what can not be undone is asked about, and without a person or --yes is not done', async () => {
    const { email } = await activeUser();
    const token = (await logIn(email)).body.access_token;
    for (const words of [
      ['user', 'revoke', email],
      ['user', 'suspend', email],
    ]) {
      expect(await latchkey(words)).toMatchObject({ exit: 2, err: expect.stringContaining('--yes') });
      const refused = await latchkey(words, {}, false);
      expect(refused).toMatchObject({ exit: 2, asked: [expect.stringContaining(email)] });
    }
    expect(await verify(token)).toBe(200);
    expect((await latchkey(['user', 'revoke', email], {}, true)).exit).toBe(0);
    expect(await verify(token)).toBe(401);
  });

  test('as a process: output to stdout, messages to stderr, the exit code told', async () => {
    const started = (args: string[]) =>
      new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
        execFile(process.execPath, [MAIN, ...args], { env: operator }, (error, stdout, stderr) =>
          resolve({ code: typeof error?.code === 'number' ? error.code : 0, stdout, stderr }),
        );
      });
    const listed = await started(['client', 'list', '--json']);
    expect(listed).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(listed.stdout)).toContainEqual(expect.objectContaining({ id: 'console' }));
    expect(await started(['client', 'revoke', 'console'])).toMatchObject({ code: 2, stdout: '' });
  });
});

describe('clients', () => {
  test('one is made with its scopes, told its secret once, recorded, listed and revoked', async () => {
    const made = await latchkey(['client', 'create', 'gate.way-1', '--scopes', 'introspect,reports:read']);
    expect(made).toMatchObject({ exit: 0, err: '' });
    const secret = /^secret +(\S{43})$/m.exec(made.out)?.[1] ?? '';
    const own = { LATCHKEY_CLIENT_ID: 'gate.way-1', LATCHKEY_CLIENT_SECRET: secret };
    // It is who it says, and no operator.
    expect(await latchkey(['client', 'list'], own)).toMatchObject({
      exit: 1,
      err: expect.stringContaining('invalid_scope'),
    });
    expect(await latchkey(['client', 'create', 'gate.way-1', '--scopes', 'admin'])).toMatchObject({ exit: 1 });
    const { out } = await latchkey(['client', 'list']);
    expect(out).toMatch(/^ID +SCOPES +CREATED_AT +REVOKED_AT$/m);
    expect(out).toMatch(/^gate\.way-1 +introspect reports:read +\S+ +-$/m);
    expect(out).not.toContain(secret);
    expect((await latchkey(['client', 'revoke', 'gate.way-1', '--yes'])).exit).toBe(0);
    expect(await latchkey(['client', 'list'], own)).toMatchObject({
      exit: 1,
      err: expect.stringContaining('invalid_client'),
    });
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    try {
      const { rows } = await client.query(
        `SELECT type, actor_type FROM audit_events WHERE details ->> 'client_id' = 'gate.way-1' ORDER BY id`,
      );
      expect(rows).toEqual([
        { type: 'client.created', actor_type: 'operator' },
        { type: 'client.revoked', actor_type: 'client' },
      ]);
    } finally {
      await client.end();
    }
  });
});

describe('users', () => {
  test('one is shown by address or id, with the devices, as text or JSON', async () => {
    const { email, id } = await activeUser();
    await logIn(email);
    for (const name of [email, id]) {
      const { out } = await latchkey(['user', 'show', name]);
      expect(out).toMatch(new RegExp(`^id +${id}$`, 'm'));
      expect(out).toMatch(/^status +active$/m);
      expect(out).toMatch(/^ID +DEVICE_NAME/m);
    }
    const { out } = await latchkey(['user', 'show', email, '--json']);
    expect(JSON.parse(out)).toMatchObject({ id, email, sessions: [{ device_name: 'phone' }] });
  });

  test('one is suspended until an instant or a time from now, and let in again', async () => {
    const { email } = await activeUser();
    const suspended = await latchkey([
      'user',
      'suspend',
      email,
      '--until',
      '2h',
      '--reason',
      'spam',
      '--yes',
      '--json',
    ]);
    const { status, suspended_until } = JSON.parse(suspended.out) as { status: string; suspended_until: string };
    expect(status).toBe('suspended');
    expect(Math.abs(new Date(suspended_until).getTime() - Date.now() - 7_200_000)).toBeLessThan(60_000);
    expect((await logIn(email)).status).toBe(403);
    expect((await latchkey(['user', 'unsuspend', email])).out).toMatch(/^status +active$/m);
    expect((await logIn(email)).status).toBe(200);
  });

  test('tokens can be revoked until an instant that has passed', async () => {
    const { email } = await activeUser();
    const token = (await logIn(email)).body.access_token;
    const words = ['user', 'revoke', email, '--issued-before', '2020-01-01T00:00:00Z', '--yes'];
    expect((await latchkey(words)).out).toMatch(/^tokens_valid_from +2020-01-01T00:00:00.000Z$/m);
    expect(await verify(token)).toBe(200);
  });
});

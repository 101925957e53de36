import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { freePort } from '@latchkey/dev-stack/ports';
import { programOnPath } from '@latchkey/dev-stack/system-programs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { commands } from '../src/commands.ts';
import { type Console, MAIN, startConsole } from './console.ts';

/** Runs a program in a terminal. */
const terminals = programOnPath('script');

let all: Console;
let {
  latchkey,
  rows,
  activeUser,
  logIn,
  verify,
}: Pick<Console, 'latchkey' | 'rows' | 'activeUser' | 'logIn' | 'verify'> = {} as Console;

beforeAll(async () => {
  all = await startConsole();
  ({ latchkey, rows, activeUser, logIn, verify } = all);
});
afterAll(() => all.stop());

describe('the command line', () => {
  test('explains itself, every command with its options', async () => {
    for (const words of [[], ['--help'], ['help']]) {
      const { exit, out } = await latchkey(words);
      expect(exit).toBe(0);
      for (const command of ['client create <id>', 'client list', 'client revoke', 'user show', 'user suspend'])
        expect(out).toContain(command);
    }
    for (const [name, command] of Object.entries(commands)) {
      const { exit, out } = await latchkey([...name.split(' '), '--help']);
      expect(exit).toBe(0);
      expect(out.startsWith(`latchkey ${name}`)).toBe(true);
      for (const says of [command.summary, '--json', '--yes', ...Object.keys(command.options ?? {})])
        expect(out).toContain(says);
    }
    expect((await latchkey(['user', 'suspend', '--help'])).out).toMatch(/--until <value>.*--reason <value>.*--json/s);
    expect((await latchkey(['user', 'import', '--help'])).out).toMatch(/--dry-run +\S/);
  });

  test('a wrong line is answered with 2 and does nothing', async () => {
    for (const words of [
      ['user', 'destroy', 'x'],
      ['toString'],
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
    const named = await latchkey(['client', 'list'], { LATCHKEY_URL: away.replace('//', '//ada:pass@') });
    expect(named).toMatchObject({ exit: 2, err: expect.not.stringContaining('ada') });
    const gone = { DATABASE_URL: `postgresql://127.0.0.1:${await freePort()}/x` };
    expect(await latchkey(['client', 'create', 'x', '--scopes', 'admin'], gone)).toMatchObject({ exit: 3 });
  });

  test('takes a database that takes nobody in for one that is not reachable', async () => {
    const role = `full_${randomBytes(6).toString('hex')}`;
    await rows(`CREATE ROLE ${role} LOGIN PASSWORD 'x' CONNECTION LIMIT 0`);
    try {
      const full = new URL(all.ownUrl);
      Object.assign(full, { username: role, password: 'x' });
      expect(await latchkey(['client', 'create', 'x', '--scopes', 'admin'], { DATABASE_URL: full.href })).toMatchObject(
        {
          exit: 3,
          err: expect.stringContaining('53300'),
        },
      );
    } finally {
      await rows(`DROP ROLE ${role}`);
    }
  });

  test('takes what a proxy says in the place of an API that is down for one that is not reachable', async () => {
    const page = '<html>502 Bad Gateway</html>';
    const server = createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () =>
        socket.end(
          `HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: ${page.length}\r\n\r\n${page}`,
        ),
      );
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    try {
      const { port } = server.address() as AddressInfo;
      const answer = await latchkey(['client', 'list'], { LATCHKEY_URL: `http://127.0.0.1:${port}` });
      expect(answer).toMatchObject({ exit: 3, err: expect.stringContaining('status 502') });
    } finally {
      server.close();
    }
  });

  test('takes an answer that is cut off for an API that is not reachable', async () => {
    // It promises more than it says, and hangs up.
    const half = 'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"access_token":';
    const server = createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => socket.end(half));
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    try {
      const { port } = server.address() as AddressInfo;
      const answer = await latchkey(['client', 'list'], { LATCHKEY_URL: `http://127.0.0.1:${port}` });
      expect(answer).toMatchObject({ exit: 3, err: expect.stringMatching(/status 200.* was cut off/) });
    } finally {
      server.close();
    }
  });

  test('what cannot be undone is asked about, and without a person or --yes is not done', async () => {
    const { email } = await activeUser();
    const token = (await logIn(email)).body.access_token;
    for (const words of [
      ['user', 'revoke', email],
      ['user', 'suspend', email],
      ['keys', 'revoke', email],
    ]) {
      expect(await latchkey(words)).toMatchObject({ exit: 2, err: expect.stringContaining('--yes') });
      const refused = await latchkey(words, {}, false);
      expect(refused).toMatchObject({ exit: 2, asked: [expect.stringContaining(email)] });
    }
    expect(await verify(token)).toBe(200);
    expect((await latchkey(['user', 'revoke', email], {}, true)).exit).toBe(0);
    expect(await verify(token)).toBe(401);
  });

  test.skipIf(terminals === undefined)('Ctrl-C and Ctrl-D at the question are no yes', async () => {
    for (const key of ['\u0003', '\u0004']) {
      const terminal = spawn(
        terminals ?? '',
        ['-qec', `${process.execPath} ${MAIN} client revoke console`, '/dev/null'],
        {
          env: { ...all.operator, PATH: process.env.PATH },
        },
      );
      let screen = '';
      terminal.stdout.on('data', (text: Buffer) => {
        const asked = screen.includes('yes');
        screen += text;
        if (!asked && screen.includes('yes')) terminal.stdin.write(key);
      });
      const [code] = (await once(terminal, 'exit')) as [number | null];
      expect({ code, screen }).toEqual({ code: 2, screen: expect.not.stringContaining('at async') });
    }
  });

  test('as a process: output to stdout, messages to stderr, the exit code told', async () => {
    const started = (args: string[]) =>
      new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
        execFile(process.execPath, [MAIN, ...args], { env: all.operator }, (error, stdout, stderr) =>
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
    expect(
      await rows(`SELECT type, actor_type FROM audit_events WHERE details ->> 'client_id' = 'gate.way-1' ORDER BY id`),
    ).toEqual([
      { type: 'client.created', actor_type: 'operator' },
      { type: 'client.revoked', actor_type: 'client' },
    ]);
  });
});

describe('signing keys', () => {
  test('are listed, rotated once at a time, and revoked: then every token signed by that one is refused', async () => {
    const listed = async () =>
      JSON.parse((await latchkey(['keys', 'list', '--json'])).out) as { kid: string; state: string }[];
    const kidOf = async (wanted: string) => (await listed()).find(({ state }) => state === wanted)?.kid ?? '';
    const [current, next] = [await kidOf('current'), await kidOf('next')];
    const { email } = await activeUser();
    const token = (await logIn(email)).body.access_token;
    const rotated = await latchkey(['keys', 'rotate']);
    expect(rotated).toMatchObject({ exit: 0, err: '' });
    expect(rotated.out).toMatch(new RegExp(`^kid +${next}\nretiring +${current}$`, 'm'));
    expect(await latchkey(['keys', 'rotate'])).toMatchObject({
      exit: 1,
      out: '',
      err: expect.stringMatching(/signing_key_too_young: .* from 20\d\d-/),
    });
    const { out } = await latchkey(['keys', 'list']);
    expect(out).toMatch(/^KID +ALG +STATE +CREATED_AT +SIGNS_FROM +EXPIRES_AT +REVOKED_AT$/m);
    expect(out).toMatch(new RegExp(`^${current} +ES256 +retiring +\\S+ +\\S+ +20\\d\\d-\\S+ +-$`, 'm'));
    expect(await verify(token)).toBe(200);
    expect(await latchkey(['keys', 'revoke', current, '--yes'])).toMatchObject({ exit: 0, err: '' });
    expect(await verify(token)).toBe(401);
    expect(await kidOf('revoked')).toBe(current);
    expect(await latchkey(['keys', 'revoke', 'no-key', '--yes'])).toMatchObject({
      exit: 1,
      err: expect.stringContaining('signing_key_unknown'),
    });
    expect(await rows(`SELECT type, actor_type FROM audit_events WHERE type LIKE 'signing_key.%' ORDER BY id`)).toEqual(
      [
        { type: 'signing_key.rotated', actor_type: 'client' },
        { type: 'signing_key.revoked', actor_type: 'client' },
      ],
    );
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

  test('an address means its account, however many have registered with it since, suspended or not', async () => {
    const { email, id } = await activeUser();
    await rows(`
      INSERT INTO users (id, email, email_key, locale, password_hash)
      SELECT gen_random_uuid(), '${email}', '${email}', 'en', '!' FROM generate_series(1, 60)`);
    expect(JSON.parse((await latchkey(['user', 'suspend', email, '--yes', '--json'])).out)).toMatchObject({ id });
    await rows(`
      UPDATE users SET suspended_until = 'infinity' WHERE id = (
        SELECT id FROM users WHERE email = '${email}' AND status = 'pending' ORDER BY created_at DESC LIMIT 1)`);
    expect(JSON.parse((await latchkey(['user', 'show', email, '--json'])).out)).toMatchObject({ id });
  });

  test('a name that would turn the letters of a terminal round is shown harmless', async () => {
    const { id } = await activeUser();
    await rows(`UPDATE users SET display_name = 'Ada \u202eevil\u001b[31m' WHERE id = '${id}'`);
    expect((await latchkey(['user', 'show', id])).out).toMatch(/^display_name +Ada \?evil\?\[31m$/m);
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

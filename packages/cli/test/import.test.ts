import { execFileSync } from 'node:child_process';
import { createWriteStream, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '@latchkey/dev-stack/ports';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { BATCH } from '../src/import-users.ts';
import { type Console, newAddress, PASSWORD, startConsole } from './console.ts';

let all: Console;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'latchkey-import-'));
  all = await startConsole();
});
afterAll(async () => {
  await all.stop();
  rmSync(folder, { recursive: true });
});

/** What Django's own tests (tests/auth_tests/test_hashers.py) say of passwords and their hashes. */
const DJANGO = {
  pbkdf2_sha256: {
    password: 'lètmein',
    hash: 'pbkdf2_sha256$390000$seasalt$8xBlGd3jVgvJ+92hWPxi5ww0uuAuAnKgC45eudxro7c=',
  },
  scrypt: {
    password: 'lètmein',
    hash: 'scrypt$16384$seasalt$8$1$Qj3+9PPyRjSJIebHnG81TMjsqtaIGxNQG/aEB/NYafTJ7tibgfYz71m0ldQESkXFRkdVCBhhY8mx7rQwite/Pw==',
  },
  argon2: {
    password: 'secret',
    hash: 'argon2$argon2id$v=19$m=102400,t=2,p=8$Y041dExhNkljRUUy$TMa6A8fPJhCAUXRhJXCXdw',
  },
  // passlib's, of Django's format.
  pbkdf2_sha1: { password: 'not a password', hash: 'pbkdf2_sha1$10000$wz5B6WkasRoF$atJmJ1o+XfJxKq1+Nu1f1i57Z5I=' },
} as const;
const HASH = DJANGO.pbkdf2_sha1.hash;

let files = 0;
function fileOf(lines: readonly (object | string)[]): string {
  files += 1;
  const path = join(folder, `${files}.jsonl`);
  writeFileSync(path, lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n'));
  return path;
}

async function importing(lines: readonly (object | string)[], ...flags: string[]) {
  const { exit, out, err } = await all.latchkey(['user', 'import', fileOf(lines), '--json', ...flags]);
  return { exit, err, out, report: out === '' ? undefined : JSON.parse(out) };
}

const usersOf = (email: string) =>
  all.rows<Record<string, unknown>>(
    `SELECT id, email, status::text, password_hash, display_name, locale, created_at FROM users WHERE email_key = lower($1)`,
    [email],
  );
const hashOf = async (email: string) => String((await usersOf(email))[0]?.password_hash);

describe('an imported account', () => {
  test.each(Object.entries(DJANGO))(
    'of %s logs in with its old password, which is then kept as our own hash',
    async (scheme, { password, hash }) => {
      const email = newAddress();
      expect(await importing([{ email, password_hash: hash }])).toMatchObject({
        exit: 0,
        report: { dry_run: false, created: 1, skipped: [], refused: [] },
      });
      expect((await all.logIn(email, 'not the password')).status).toBe(401);
      expect(await hashOf(email)).toBe(hash);
      const first = await all.logIn(email, password);
      expect(first.status).toBe(200);
      const rehashed = await hashOf(email);
      expect(rehashed).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/);
      // The first login goes on, and the next one finds nothing to do.
      expect((await all.logIn(email, password)).status).toBe(200);
      expect(await hashOf(email)).toBe(rehashed);
      expect(await all.verify(first.body.access_token)).toBe(200);
      expect((await all.logIn(email, 'not the password')).status).toBe(401);
      const events = await all.rows(
        `SELECT type, actor_type, details FROM audit_events JOIN users ON users.id = user_id
        WHERE email = $1 AND type LIKE 'user.%'`,
        [email],
      );
      expect(events).toEqual([{ type: 'user.imported', actor_type: 'operator', details: { password: scheme } }]);
    },
  );

  test('logged in to by many at once lets each in, and is rehashed once', async () => {
    const email = newAddress();
    await importing([{ email, password_hash: DJANGO.pbkdf2_sha256.hash }]);
    const logins = await Promise.all(Array.from({ length: 6 }, () => all.logIn(email, DJANGO.pbkdf2_sha256.password)));
    expect(logins.map(({ status }) => status)).toEqual(Array(6).fill(200));
    for (const { body } of logins) expect(await all.verify(body.access_token)).toBe(200);
    expect(await hashOf(email)).toMatch(/^\$argon2id\$/);
  });

  test('whose password changes while a login with the old one is checked keeps the new one, and the login is refused', async () => {
    const [email, other] = [newAddress(), await all.activeUser()];
    await importing([{ email, password_hash: DJANGO.pbkdf2_sha256.hash }]);
    const change = new pg.Client({ connectionString: all.database.url });
    await change.connect();
    await change.query('BEGIN');
    await change.query('UPDATE users SET password_hash = $1 WHERE email = $2', [await hashOf(other.email), email]);
    const late = all.logIn(email, DJANGO.pbkdf2_sha256.password);
    await vi.waitFor(
      async () =>
        expect(
          await all.rows(
            `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%UPDATE users%'`,
          ),
        ).toHaveLength(1),
      { interval: 10 },
    );
    await change.query('COMMIT');
    await change.end();
    expect((await late).status).toBe(401);
    expect(await hashOf(email)).toBe(await hashOf(other.email));
    expect((await all.logIn(email, PASSWORD)).status).toBe(200);
  });

  test('keeps the bytes of its password until then: they are normalised with our own hash only', async () => {
    const email = newAddress();
    // é as one character, as the other system was given it; then as two, which NFKC makes one.
    await importing([{ email, password_hash: DJANGO.pbkdf2_sha256.hash }]);
    const decomposed = DJANGO.pbkdf2_sha256.password.normalize('NFD');
    expect((await all.logIn(email, decomposed)).status).toBe(401);
    expect((await all.logIn(email, DJANGO.pbkdf2_sha256.password)).status).toBe(200);
    expect((await all.logIn(email, decomposed)).status).toBe(200);
  });

  test('has what its line says, and defaults for the rest', async () => {
    const [full, bare] = [`Ada.${newAddress()}`, newAddress()];
    const { exit } = await importing([
      {
        email: full,
        password_hash: HASH,
        display_name: 'Ada Löve💥',
        locale: 'de-AT',
        created_at: '2019-05-01T12:00:00.123456+02:00',
      },
      '',
      { email: bare, display_name: null, password_hash: null },
    ]);
    expect(exit).toBe(0);
    expect(await usersOf(full)).toMatchObject([
      {
        email: full,
        status: 'active',
        display_name: 'Ada Löve💥',
        locale: 'de-AT',
        created_at: new Date('2019-05-01T10:00:00.123Z'),
      },
    ]);
    expect(await usersOf(bare)).toMatchObject([
      { status: 'active', password_hash: '!', display_name: null, locale: 'en' },
    ]);
    for (const password of ['!', PASSWORD]) expect((await all.logIn(bare, password)).status).toBe(401);
  });

  test('is told from nobody by no refusal, in time neither, while there are hashes that take longer than ours', async () => {
    const [imported, own] = [newAddress(), await all.activeUser()];
    await importing([{ email: imported, password_hash: DJANGO.pbkdf2_sha256.hash }]);
    const times: number[] = [];
    for (const email of [imported, own.email, newAddress()]) {
      const asked = performance.now();
      expect(await all.logIn(email, 'not the password')).toMatchObject({
        status: 401,
        body: { code: 'invalid_credentials' },
      });
      times.push(performance.now() - asked);
    }
    // REFUSAL_FLOOR of auth-api; timers may fire a millisecond early.
    for (const time of times) expect(time).toBeGreaterThanOrEqual(999);
  });
});

describe('a file', () => {
  test('skips an address that has an account and leaves that as it is; a registration that waits is no account', async () => {
    const { email, id } = await all.activeUser();
    const before = await usersOf(email);
    const fresh = newAddress();
    const { exit, report } = await importing([
      { email: email.toUpperCase(), password_hash: HASH },
      { email: fresh, password_hash: HASH },
      { email: fresh.toUpperCase(), password_hash: HASH, display_name: 'second' },
    ]);
    expect([exit, report]).toEqual([0, { dry_run: false, created: 1, skipped: [1, 3], refused: [] }]);
    expect(await usersOf(email)).toEqual(before);
    expect(before[0]?.id).toBe(id);
    const pending = await all.rows(`UPDATE users SET status = 'pending' WHERE id = $1 RETURNING id`, [id]);
    expect(pending).toHaveLength(1);
    expect((await importing([{ email, password_hash: HASH }])).report.created).toBe(1);
    expect((await usersOf(email)).map(({ status }) => status).sort()).toEqual(['active', 'pending']);
  });

  test('has every wrong line named with its field, no hash in any message, and the rest imported all the same', async () => {
    const good = newAddress();
    const secret = 'pbkdf2_sha256$1$verysecret$AAAA';
    const { exit, report, out, err } = await importing([
      `{"email": "${newAddress()}", "password_hash": "${secret}"`,
      '[]',
      { password_hash: HASH },
      { email: 'no address', password_hash: HASH },
      { email: good, password_hash: HASH },
      { email: newAddress(), password_hash: secret },
      { email: newAddress(), password_hash: 7 },
      { email: newAddress(), password_hash: 'bcrypt$$2b$12$abcdefghijklmnopqrstuv' },
      { email: newAddress(), password_hash: 'bcrypt_sha256$$2b$12$abcdefghijklmnopqrstuv' },
      { email: newAddress(), password_hash: '$2y$10$abcdefghijklmnopqrstuv' },
      { email: newAddress(), password_hash: 'md5$salt$0123' },
      { email: newAddress(), password_hash: '!unusable' },
      { email: newAddress(), password_hash: PASSWORD },
      { email: newAddress(), password_hash: `pbkdf2_sha256$999999999$salt$${HASH.split('$')[3]}` },
      {
        email: newAddress(),
        password_hash: 'argon2$argon2id$v=19$m=4194304,t=9,p=1$Y041dExhNkljRUUy$TMa6A8fPJhCAUXRhJXCXdw',
      },
      { email: newAddress(), display_name: 'a\u0000b' },
      { email: newAddress(), locale: 'not a tag', created_at: '2020-02-30T00:00:00Z' },
      { email: newAddress(), created_at: '2999-01-01T00:00:00Z' },
      { email: newAddress(), is_staff: true, __proto: 1, toString: 'x' },
    ]);
    expect(exit).toBe(1);
    expect(err).toContain('18 lines were refused');
    expect(report).toMatchObject({ created: 1, skipped: [] });
    const found = report.refused.map(({ line, field }: { line: number; field: string | null }) => [line, field]);
    expect(found).toEqual([
      [1, null],
      [2, null],
      [3, 'email'],
      [4, 'email'],
      ...[6, 7, 8, 9, 10, 11, 12, 13, 14, 15].map((line) => [line, 'password_hash']),
      [16, 'display_name'],
      [17, 'locale'],
      [17, 'created_at'],
      [18, 'created_at'],
      [19, 'is_staff'],
      [19, '__proto'],
      [19, 'toString'],
    ]);
    const problems = new Map<number, string>(
      report.refused.map(({ line, problem }: { line: number; problem: string }) => [line, problem]),
    );
    expect([problems.get(8), problems.get(9), problems.get(10)]).toEqual([
      expect.stringMatching(/^bcrypt is not supported/),
      expect.stringMatching(/^bcrypt_sha256 is not supported/),
      expect.stringMatching(/^bcrypt is not supported/),
    ]);
    for (const leak of ['verysecret', 'abcdefgh', 'salt$0123', PASSWORD]) expect(out + err).not.toContain(leak);
    expect(await usersOf(good)).toHaveLength(1);
    const table = await all.latchkey(['user', 'import', fileOf([{ email: 'x' }])]);
    expect(table).toMatchObject({ exit: 1 });
    expect(table.out).toMatch(
      /^created +0$.*^refused +1$.*^LINE +FIELD +PROBLEM$.*^1 +email +must be an e-mail address/ms,
    );
  });

  test('is only tried with --dry-run, with the same report', async () => {
    const email = newAddress();
    const lines = [{ email, password_hash: HASH }, { email, password_hash: HASH }, { email: 'x' }];
    const { exit, report } = await importing(lines, '--dry-run');
    expect([exit, report]).toMatchObject([1, { dry_run: true, created: 1, skipped: [2], refused: [{ line: 3 }] }]);
    expect(await usersOf(email)).toEqual([]);
    expect(
      await all.rows(`SELECT FROM audit_events WHERE type = 'user.imported' AND user_id NOT IN (SELECT id FROM users)`),
    ).toEqual([]);
    expect((await importing(lines)).report).toMatchObject({ created: 1, skipped: [2] });
  });

  test('is tried with --dry-run a batch at a time: nobody waits for the whole file, and the report is that of the import', async () => {
    const emails = Array.from({ length: BATCH + 2 }, () => newAddress());
    // The first address comes again in the second batch, and once more after that.
    const lines = [...emails, emails[0], emails[0]?.toUpperCase()].map((email) => JSON.stringify({ email }));
    const path = join(folder, 'pipe');
    execFileSync('sh', ['-c', 'mkfifo "$0"', path]);
    const tried = all.latchkey(['user', 'import', path, '--json', '--dry-run'], { DATABASE_URL: all.ownUrl });
    const pipe = createWriteStream(path);
    pipe.write(`${lines.slice(0, BATCH).join('\n')}\n`);
    // The file goes on, and what was tried is taken back already.
    await vi.waitFor(
      async () =>
        expect(
          await all.rows(
            `SELECT FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle' AND query = 'ROLLBACK'
              AND application_name <> 'latchkey'`,
          ),
        ).toHaveLength(1),
      { interval: 20 },
    );
    pipe.end(lines.slice(BATCH).join('\n'));
    const { exit, out } = await tried;
    const { dry_run, ...report } = JSON.parse(out);
    expect([exit, dry_run, report]).toEqual([
      0,
      true,
      { created: emails.length, skipped: [emails.length + 1, emails.length + 2], refused: [] },
    ]);
    expect(await usersOf(String(emails[0]))).toEqual([]);
    expect((await importing(lines)).report).toEqual({ dry_run: false, ...report });
  });

  test('of several batches fails with what it had done, a batch whole or not at all, and is completed by running it again', async () => {
    const poison = newAddress();
    const emails = Array.from({ length: BATCH * 2 + 3 }, () => newAddress());
    emails[BATCH + 7] = poison;
    // What PostgreSQL says when its disk is full.
    await all.rows(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      IF NEW.email = '${poison}' THEN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END IF; RETURN NEW; END $$`);
    await all.rows('CREATE TRIGGER refuse BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION refuse()');
    const lines = emails.map((email) => ({ email, password_hash: HASH }));
    const count = async () =>
      Number((await all.rows<{ n: string }>('SELECT count(*) AS n FROM users WHERE email = ANY ($1)', [emails]))[0]?.n);
    try {
      const failed = await importing(lines);
      expect(failed.exit).toBe(1);
      expect(failed.err).toMatch(/53100/);
      expect(failed.err).toContain(`${BATCH} accounts were made before that`);
      expect(await count()).toBe(BATCH);
    } finally {
      await all.rows('DROP TRIGGER refuse ON users');
    }
    const { exit, report } = await importing(lines);
    expect([exit, report.created, report.skipped.length]).toEqual([0, BATCH + 3, BATCH]);
    expect(await count()).toBe(emails.length);
  });

  test('that is not there is a usage error; a database that is not there is worth trying again', async () => {
    for (const path of [join(folder, 'nothing'), folder])
      expect(await all.latchkey(['user', 'import', path])).toMatchObject({
        exit: 2,
        err: expect.stringContaining(path),
      });
    expect(await all.latchkey(['user', 'import'])).toMatchObject({ exit: 2 });
    const gone = { DATABASE_URL: `postgresql://127.0.0.1:${await freePort()}/x` };
    expect(await all.latchkey(['user', 'import', fileOf([{ email: newAddress() }])], gone)).toMatchObject({ exit: 3 });
  });
});

test('no hash of an import is in the audit log or in what the API prints', async () => {
  const log = await all.rows<{ row: string }>('SELECT e::text AS row FROM audit_events e');
  const said = [...log.map(({ row }) => row), ...all.output].join('\n');
  for (const { hash, password } of Object.values(DJANGO)) {
    expect(said).not.toContain(hash.split('$').at(-1));
    expect(said).not.toContain(password);
  }
  expect(said).not.toContain('$argon2id$');
});

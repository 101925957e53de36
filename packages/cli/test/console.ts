/** The command line on a real auth-api, for suites. */
import { randomBytes } from 'node:crypto';
import { builtApp } from '@latchkey/dev-stack/built-apps';
import { freePort } from '@latchkey/dev-stack/ports';
import { startProcess } from '@latchkey/dev-stack/processes';
import { repositoryRoot } from '@latchkey/dev-stack/repository';
import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import type {} from '@latchkey/dev-stack/test-stack';
import pg from 'pg';
import { inject, vi } from 'vitest';
import { run } from '../src/run.ts';

export const MAIN = `${repositoryRoot}/packages/cli/src/main.ts`;
export const PASSWORD = 'correct horse battery staple';

export const newAddress = () => `ada-${randomBytes(6).toString('hex')}@example.test`;

export type Console = Awaited<ReturnType<typeof startConsole>>;

/** auth-api in a process of its own, and a client with scope admin. @param redisUrl another Redis than the run's. */
export async function startConsole(redisUrl = inject('redisUrl')) {
  const database = await createTestDatabase(inject('databaseUrl'));
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const output: string[] = [];
  const api = startProcess({
    command: process.execPath,
    args: [builtApp('auth-api')],
    env: {
      PATH: process.env.PATH,
      DATABASE_URL: database.url,
      REDIS_URL: redisUrl,
      PUBLIC_URL: url,
      MASTER_KEY: Buffer.alloc(32, 7).toString('base64'),
      HOST: '127.0.0.1',
      PORT: String(port),
      SHUTDOWN_DELAY_MS: '0',
    },
    endSignal: 'SIGTERM',
    output: (line) => output.push(line),
  });
  await vi.waitFor(
    async () => {
      if ((await fetch(`${url}/readyz`)).status !== 200) throw new Error('auth-api is not ready');
    },
    { timeout: 30_000, interval: 50 },
  );
  const environment: Record<string, string> = { DATABASE_URL: database.url };
  const ownUrl = Object.assign(new URL(database.url), { host: new URL(inject('serverUrl')).host }).href;

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
      { ...environment, ...env },
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

  const made = await latchkey(['client', 'create', 'console', '--scopes', 'admin', '--json']);
  const { id, secret } = JSON.parse(made.out) as { id: string; secret: string };
  const operator = { LATCHKEY_URL: url, LATCHKEY_CLIENT_ID: id, LATCHKEY_CLIENT_SECRET: secret };
  Object.assign(environment, operator);

  async function rows<Row extends pg.QueryResultRow>(sql: string, values: readonly unknown[] = []): Promise<Row[]> {
    const client = new pg.Client({ connectionString: ownUrl });
    await client.connect();
    try {
      return (await client.query<Row>(sql, [...values])).rows;
    } finally {
      await client.end();
    }
  }

  const post = (path: string, body: object) =>
    fetch(url + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });

  return {
    /** The database with no pooler before it. */
    ownUrl,
    database,
    operator,
    /** The lines the API has printed. */
    output,
    latchkey,
    rows,
    post,

    /** A user who is active, as the database has it. @returns id and address */
    async activeUser(displayName = 'Ada') {
      const email = newAddress();
      await post('/v1/users', { email, password: PASSWORD, display_name: displayName });
      const [user] = await rows<{ id: string }>(
        `UPDATE users SET status = 'active', activated_at = now() WHERE email = $1 RETURNING id`,
        [email],
      );
      return { email, id: user?.id ?? '' };
    },

    async logIn(email: string, password = PASSWORD) {
      const response = await post('/v1/tokens', { email, password, device_name: 'phone' });
      return { status: response.status, body: (await response.json()) as { access_token: string } };
    },

    verify: async (token: string) =>
      (await fetch(`${url}/v1/verify`, { headers: { authorization: `Bearer ${token}` } })).status,

    async stop(): Promise<void> {
      await api.stop();
      await database.drop();
    },
  };
}

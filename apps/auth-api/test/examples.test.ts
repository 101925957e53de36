/** The services of docs/verifying.md, as somebody would start them. */
import { join } from 'node:path';
import { freePort } from '@latchkey/dev-stack/ports';
import { startProcess } from '@latchkey/dev-stack/processes';
import { repositoryRoot } from '@latchkey/dev-stack/repository';
import { programOnPath } from '@latchkey/dev-stack/system-programs';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { activeUser, decoded, logIn } from './accounts.ts';
import { addClient, clientToken, type TestClient } from './clients.ts';
import { ask, GATEWAYS, startGateway } from './gateways/gateway.ts';
import { startMailSide, startTestApp, type TestApp } from './test-app.ts';

/** A machine with two cores that does other things too. */
const SOON = { timeout: 15_000, interval: 20 };
const nginx = GATEWAYS.find(({ program }) => program === 'nginx');
const nginxPath = programOnPath('nginx');

let side: Awaited<ReturnType<typeof startMailSide>>;
let api: TestApp;
let issuer: string;
let email: string;
let reader: TestClient;
/** By example: where it is asked, and how it is stopped. */
const ports = new Map<string, number>();
const stops: (() => Promise<unknown>)[] = [];

/** Starts `examples/<name>.ts` and waits until it answers. */
async function startExample(name: string, client?: TestClient): Promise<number> {
  const port = await freePort();
  const output: string[] = [];
  const started = startProcess({
    command: process.execPath,
    args: [join(repositoryRoot, 'examples', `${name}.ts`)],
    env: {
      PATH: process.env.PATH,
      ISSUER: issuer,
      CLIENT_ID: client?.id,
      CLIENT_SECRET: client?.secret,
      PORT: String(port),
    },
    endSignal: 'SIGTERM',
    output: (line) => output.push(line),
  });
  stops.push(() => started.stop());
  await vi.waitFor(
    () => ask(port, '/orders').catch((cause) => Promise.reject(new Error(output.join('\n'), { cause }))),
    SOON,
  );
  ports.set(name, port);
  return port;
}

beforeAll(async () => {
  side = await startMailSide();
  const port = await freePort();
  issuer = `http://127.0.0.1:${port}`;
  api = await startTestApp({ ...side, env: { PUBLIC_URL: issuer, RATE_LIMITS: 'off' } });
  await api.app.listen({ host: '127.0.0.1', port });
  reader = await addClient(api.databaseUrl, 'reports:read');
  const [feedClient, asker] = await Promise.all([
    addClient(api.databaseUrl, 'revocations:read'),
    addClient(api.databaseUrl, 'introspect'),
  ]);
  const [, , service] = await Promise.all([
    startExample('in-process', feedClient),
    startExample('introspection', asker),
    startExample('behind-gateway'),
    activeUser(api).then((address) => {
      email = address;
    }),
  ]);
  if (nginx && nginxPath !== undefined) {
    const gateway = await startGateway(nginx, nginxPath, { authApi: port, service });
    ports.set('behind-gateway', gateway.port);
    stops.push(gateway.stop);
  }
});
afterAll(async () => {
  await Promise.all(stops.map((stop) => stop()));
  await api.close();
  await side.stop();
});

const EXAMPLES = [
  { name: 'in-process', path: '/orders', missing: false },
  { name: 'introspection', path: '/orders', missing: false },
  { name: 'behind-gateway', path: '/orders', missing: nginxPath === undefined },
];
const asked = (name: string, path: string, token?: string) =>
  ask(ports.get(name) ?? 0, path, token === undefined ? {} : { token });

describe.each(EXAMPLES)('example $name', ({ name, path, missing }) => {
  describe.skipIf(missing)(`(needs ${name === 'behind-gateway' ? 'nginx' : 'nothing'})`, () => {
    test('lets in who has a good token, and nobody else', async () => {
      const { access_token: token } = await logIn(api, email);
      await vi.waitFor(async () => expect((await asked(name, path, token)).status).toBe(200), SOON);
      const { body } = await asked(name, path, token);
      expect(JSON.parse(body)).toEqual({ orders: [], of: decoded(token).claims.sub });
      for (const [bad, challenge] of [
        [undefined, /^Bearer realm="latchkey"$/],
        ['nonsense', /^Bearer realm="latchkey", error="invalid_token"/],
      ] as const) {
        const { status, headers } = await asked(name, path, bad);
        expect(status).toBe(401);
        expect(headers['www-authenticate']).toMatch(challenge);
      }
      const client = await clientToken(api, reader);
      const elsewhere =
        name === 'behind-gateway' ? await asked(name, '/reports/orders', token) : await asked(name, path, client);
      expect(elsewhere.status).toBe(403);
      expect(elsewhere.headers['www-authenticate']).toMatch(/^Bearer realm="latchkey", error="insufficient_scope"/);
    });

    test('refuses a token as soon as it is revoked', async () => {
      const { access_token: token } = await logIn(api, email);
      await vi.waitFor(async () => expect((await asked(name, path, token)).status).toBe(200), SOON);
      expect((await api.delete('/v1/sessions/current', token)).statusCode).toBe(204);
      if (name === 'in-process')
        await vi.waitFor(async () => expect((await asked(name, path, token)).status).toBe(401), SOON);
      // The others ask.
      else expect((await asked(name, path, token)).status).toBe(401);
    });
  });
});

test('while auth-api is away each is closed, and open again afterwards', async () => {
  const running = EXAMPLES.filter(({ missing }) => !missing);
  const { access_token: token } = await logIn(api, email);
  const everywhere = (status: number) =>
    vi.waitFor(async () => {
      for (const { name, path } of running)
        expect([name, (await asked(name, path, token)).status]).toEqual([name, status]);
    }, SOON);
  await everywhere(200);
  await api.close();
  await everywhere(503);
  api = await startTestApp({ ...side, env: { PUBLIC_URL: issuer, RATE_LIMITS: 'off' } });
  await api.app.listen({ host: '127.0.0.1', port: Number(new URL(issuer).port) });
  await everywhere(200);
});

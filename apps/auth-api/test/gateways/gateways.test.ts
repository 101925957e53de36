import { once } from 'node:events';
import { Agent } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { programOnPath } from '@latchkey/dev-stack/system-programs';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { activeUser, decoded, logIn } from '../accounts.ts';
import { addClient, clientToken } from '../clients.ts';
import { PASSWORD, startMailSide, startTestApp, type TestApp } from '../test-app.ts';
import {
  aliases,
  ask,
  GATEWAYS,
  IDENTITY,
  nginxCheck,
  type Passed,
  startGateway,
  startLine,
  startService,
} from './gateway.ts';

const found = GATEWAYS.map((gateway) => ({ gateway, path: programOnPath(gateway.program) }));

let side: Awaited<ReturnType<typeof startMailSide>>;
let api: TestApp;
let apiPort: number;
let email: string;

beforeAll(async () => {
  if (found.every(({ path }) => path === undefined)) return;
  side = await startMailSide();
  api = await startTestApp({ ...side, env: { OPAQUE_TOKEN_TTL: 'none' } });
  apiPort = Number(new URL(await api.app.listen({ host: '127.0.0.1', port: 0 })).port);
  email = await activeUser(api);
});
afterAll(async () => {
  await api?.close();
  await side?.stop();
});

/** A header's name as an application sees it that makes a variable of it: HTTP_X_AUTH_USER. */
const asVariable = (name: string) => name.toLowerCase().replaceAll(/[^a-z0-9]/g, '-');

/** The identity a service would read, whichever way it reads names: each value under each name that counts as one of ours. */
function identityIn(passed: Passed | undefined): Record<string, string[]> {
  const values: Record<string, string[]> = {};
  for (const [name, value] of passed?.rawHeaders ?? []) {
    const variable = asVariable(name);
    if (IDENTITY.includes(variable)) values[variable] = [...(values[variable] ?? []), value];
  }
  return values;
}

describe.each(found)('$gateway.program', ({ gateway, path }) => {
  describe.skipIf(path === undefined)(`in front of a service (needs ${gateway.program})`, () => {
    let service: Awaited<ReturnType<typeof startService>>;
    let line: Awaited<ReturnType<typeof startLine>>;
    let port: number;
    let stop: () => Promise<void>;

    beforeAll(async () => {
      [service, line] = await Promise.all([startService(), startLine(apiPort)]);
      const addresses = { authApi: line.port, service: service.port };
      ({ port, stop } = await startGateway(gateway, path ?? '', addresses));
      service.takePassed();
    });
    afterAll(async () => {
      await stop();
      await service.close();
      await line.close();
    });

    test('a good token passes: the service learns who it is, and gets method, address and body as they were', async () => {
      const { access_token } = await logIn(api, email);
      const { claims } = decoded(access_token);
      const body = JSON.stringify({ pages: 'x'.repeat(20_000) });
      const answer = await ask(port, '/things?x=1&scope=admin', { method: 'POST', token: access_token, body });
      expect(answer).toMatchObject({ status: 200, body: 'from the service' });
      const [passed, ...more] = service.takePassed();
      expect(more).toEqual([]);
      expect(passed).toMatchObject({ method: 'POST', url: '/things?x=1&scope=admin', body });
      expect(identityIn(passed)).toEqual({
        'x-auth-user': [claims.sub],
        'x-auth-session': [claims.sid],
        'x-auth-scope': ['account'],
        'x-auth-token-expires': [new Date(Number(claims.exp) * 1000).toISOString()],
      });
    });

    test('what is not good is refused with the challenge of auth-api, and never reaches the service', async () => {
      const none = await ask(port, '/things');
      expect(none.status).toBe(401);
      expect(none.headers['www-authenticate']).toBe('Bearer realm="latchkey"');
      const bad = await ask(port, '/things', { method: 'DELETE', token: 'nonsense' });
      expect(bad.status).toBe(401);
      expect(bad.headers['www-authenticate']).toContain('error="invalid_token"');
      expect(service.takePassed()).toEqual([]);
    });

    test('a path that needs a scope is closed to a token without it, however the path is written', async () => {
      const { access_token: token } = await logIn(api, email);
      const refused = await ask(port, '/reports/1', { token });
      expect(refused.status).toBe(403);
      expect(refused.headers['www-authenticate']).toMatch(/error="insufficient_scope".*scope="reports:read"/);
      const disguised = [
        ...['/reports', '/reports?x=/public/', '/%72eports/1', '/./reports/1', '//reports/1', '/reports/../reports/1'],
        ...['/public/../reports/1', '/public/%2e%2e/reports/1', '/public/..%2freports/1', '/public/.%2e//reports/1'],
        // A servlet container takes what follows a ; for a parameter, and out.
        ...[
          '/public/..;/reports/1',
          '/public/..;x=1/reports/1',
          '/public/%2e%2e%3b/reports/1',
          '/public/..%3B/reports/1',
        ],
        ...['/things/..;/reports/1', '/reports;x/1', '/reports%3bx/1', '/;/reports/1'],
        // A URL parser takes \\ for /, goes up from an empty segment, and leaves %2f and what is no encoding as they are.
        ...['/public/..\\reports/1', '/reports\\1', '/reports/a//../../b', '/reports//../public/x'],
        ...[
          '/public/a%2fb/../../reports/1',
          '/%zz/../reports/1',
          '/reports/%zz',
          '/public/../reports/%zz',
          '/;/reports/1%',
        ],
      ];
      for (const path of disguised) {
        const { status } = await ask(port, path, { token });
        expect([path, status]).toEqual([path, expect.toSatisfy((code: number) => code === 403 || code === 400)]);
      }
      // To many services a path is the same in any case.
      for (const path of ['/REPORTS', '/Reports/1', '/reportS?x', '/%52eports/1'])
        expect([path, (await ask(port, path, { token })).status]).toEqual([path, 403]);
      // To a service written in C a path may end at a zero byte.
      for (const path of ['/reports%00', '/reports%00/1', '/%00/reports', '/public/%00'])
        expect([path, (await ask(port, path, { token })).status]).toEqual([path, 400]);
      expect(service.takePassed()).toEqual([]);
      // In a query it is a character like any other.
      expect((await ask(port, '/things?x=1;y=2', { token })).status).toBe(200);
      expect(service.takePassed()).toMatchObject([{ url: '/things?x=1;y=2' }]);

      const client = await addClient(side.databaseUrl, 'reports:read');
      const answer = await ask(port, '/reports/1', { token: await clientToken(api, client) });
      expect(answer.status).toBe(200);
      const [passed] = service.takePassed();
      const identity = identityIn(passed);
      expect(identity).toMatchObject({ 'x-auth-user': [client.id], 'x-auth-scope': ['reports:read'] });
      // A client has no session: no header, not an empty one.
      expect(identity).not.toHaveProperty('x-auth-session');
    });

    test('an opaque token passes too; of one that never expires no end is said, whatever the client says', async () => {
      const login = await api.post('/v1/tokens', { email, password: PASSWORD, token_format: 'opaque' });
      const { access_token: token, session } = login.json<{ access_token: string; session: { id: string } }>();
      for (const headers of [{}, { 'X-Auth-Token-Expires': 'spoofed' }]) {
        expect((await ask(port, '/things', { token, headers })).status).toBe(200);
        const identity = identityIn(service.takePassed()[0]);
        expect(identity).toMatchObject({ 'x-auth-session': [session.id], 'x-auth-scope': ['account'] });
        expect(identity).not.toHaveProperty('x-auth-token-expires');
      }
    });

    test('what only begins like an open path, or like one that needs a scope, is a path like any other', async () => {
      const { access_token: token } = await logIn(api, email);
      for (const path of ['/publicity', '/public.html', '/PUBLIC/x', '/things/public/x', '/?/public/'])
        expect([path, (await ask(port, path)).status]).toEqual([path, 401]);
      expect(service.takePassed()).toEqual([]);
      expect((await ask(port, '/reportsx', { token })).status).toBe(200);
      service.takePassed();
    });

    test('a token revoked between two requests of one connection is refused at the second', async () => {
      const { access_token: token } = await logIn(api, email);
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      onTestFinished(() => agent.destroy());
      const first = await ask(port, '/things', { token, agent });
      expect(first.status).toBe(200);
      expect((await api.delete('/v1/sessions/current', token)).statusCode).toBe(204);
      const second = await ask(port, '/things', { token, agent });
      expect(second).toMatchObject({ status: 401, connection: first.connection });
      expect(service.takePassed()).toHaveLength(1);
    });

    test('no identity a client claims reaches the service, under whatever name, on closed paths and open ones', async () => {
      const { access_token: token } = await logIn(api, email);
      const { claims } = decoded(token);
      const names = aliases();
      // HAProxy takes 101 headers per request, nginx 32 KB.
      for (let index = 0; index < names.length; index += 60) {
        const headers = Object.fromEntries(names.slice(index, index + 60).map((name) => [name, 'spoofed']));
        const [good, open, without] = [
          await ask(port, '/things', { token, headers }),
          await ask(port, '/public/page', { headers }),
          await ask(port, '/things', { headers }),
        ];
        expect([good.status, open.status, without.status]).toEqual([200, 200, 401]);
        const [closedPassed, openPassed, ...more] = service.takePassed();
        expect(more).toEqual([]);
        expect(identityIn(closedPassed)).toMatchObject({ 'x-auth-user': [claims.sub], 'x-auth-scope': ['account'] });
        expect(JSON.stringify(closedPassed)).not.toContain('spoofed');
        expect(JSON.stringify(openPassed)).not.toContain('spoofed');
      }
    });

    test('what follows a body under the name of an identity header never becomes a header', async () => {
      const { access_token: token } = await logIn(api, email);
      const { claims } = decoded(token);
      const socket = connect(port, '127.0.0.1');
      await once(socket, 'connect');
      const head = `POST /things HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nConnection: close`;
      const framing = 'Trailer: X-Auth-User\r\nTransfer-Encoding: chunked';
      socket.write(`${head}\r\n${framing}\r\n\r\n1\r\nx\r\n0\r\nX-Auth-User: spoofed\r\n\r\n`);
      expect(await text(socket)).toMatch(/^HTTP\/1\.1 200 /);
      const [passed] = service.takePassed();
      expect(identityIn(passed)['x-auth-user']).toEqual([claims.sub]);
      // HAProxy passes trailers on: infra/gateways/README.md says what that means for a service.
      const spoofed = [expect.stringMatching(/^x-auth-user$/i), 'spoofed'];
      expect(passed?.rawTrailers).toEqual(gateway.program === 'haproxy' ? [spoofed] : []);
    });

    test('a header name with a space, or one in two parts, is no way around', async () => {
      const { access_token: token } = await logIn(api, email);
      for (const smuggled of [
        'X-Auth-User : spoofed',
        'X-Auth-User\t: spoofed',
        'X-Filler: 1\r\n X-Auth-User: spoofed',
      ]) {
        const socket = connect(port, '127.0.0.1');
        await once(socket, 'connect');
        const head = `GET /things HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nConnection: close`;
        socket.end(`${head}\r\n${smuggled}\r\n\r\n`);
        await text(socket);
        for (const passed of service.takePassed()) expect(identityIn(passed)['x-auth-user']).not.toContain('spoofed');
      }
    });

    test('a client cannot have the identity removed on its way by naming it in Connection', async () => {
      const { access_token: token } = await logIn(api, email);
      const { claims } = decoded(token);
      const connection = 'close, X-Auth-User, x-auth-scope, X-AUTH-SESSION, x-auth-Token-Expires';
      const { status } = await ask(port, '/things', { token, headers: { connection } });
      expect(status).toBe(200);
      const identity = identityIn(service.takePassed()[0]);
      expect(identity).toEqual({
        'x-auth-user': [claims.sub],
        'x-auth-session': [claims.sid],
        'x-auth-scope': ['account'],
        'x-auth-token-expires': [expect.any(String)],
      });
    });

    test('a connection is upgraded to a WebSocket only: nobody leads one past the gateway over h2c', async () => {
      const { access_token: token } = await logIn(api, email);
      const upgrade = async (path: string, ...offered: string[]) => {
        const socket = connect(port, '127.0.0.1');
        await once(socket, 'connect');
        const lines = [
          `GET ${path} HTTP/1.1`,
          'Host: x',
          `Authorization: Bearer ${token}`,
          'HTTP2-Settings: AAMAAABkAAQAAP__',
        ];
        lines.push('Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==', 'Sec-WebSocket-Version: 13');
        lines.push('Connection: Upgrade, HTTP2-Settings', ...offered.map((protocol) => `Upgrade: ${protocol}`));
        socket.write(`${lines.join('\r\n')}\r\n\r\n`);
        await once(socket, 'data');
        socket.destroy();
        return service
          .takePassed()
          .flatMap(({ rawHeaders }) =>
            rawHeaders.flatMap(([name, value]) => (name.toLowerCase() === 'upgrade' ? value.toLowerCase() : [])),
          );
      };
      for (const path of ['/public/page', '/things']) {
        for (const offered of [
          ['h2c'],
          ['H2C'],
          ['websocket, h2c'],
          ['h2c, websocket'],
          ['websocket', 'h2c'],
          ['tls/1.0'],
        ])
          expect([path, offered, await upgrade(path, ...offered)]).toEqual([path, offered, []]);
        // nginx passes none on unless it is told to.
        expect(await upgrade(path, 'websocket')).toEqual(gateway.program === 'nginx' ? [] : ['websocket']);
      }
    });

    test('connections to auth-api are kept', async () => {
      const { access_token: token } = await logIn(api, email);
      await ask(port, '/things', { token });
      const before = line.made();
      for (let count = 0; count < 10; count += 1) expect((await ask(port, '/things', { token })).status).toBe(200);
      // (Caddy and HAProxy keep them per thread.)
      expect(line.made() - before).toBeLessThan(5);
      service.takePassed();
    });

    test('auth-api learns the token, and neither cookies nor what was asked for; from outside its answer is not to be had', async () => {
      const { access_token: token } = await logIn(api, email);
      line.takeSaid();
      const headers = { cookie: 'secret-1', referer: 'http://x/secret-2' };
      const { status } = await ask(port, '/things/secret-3?x=secret-4', {
        method: 'POST',
        token,
        headers,
        body: 'secret-5',
      });
      expect(status).toBe(200);
      service.takePassed();
      const said = line.takeSaid();
      expect(said).toContain(`Bearer ${token}`);
      expect(said).toMatch(/^GET \/v1\/verify\?? HTTP\/1\.1\r\n/);
      expect(said).not.toMatch(/secret-\d/);
      for (const path of ['/v1/verify', '/latchkey/verify', '/latchkey/v1/verify']) {
        const answer = await ask(port, path, { token });
        expect(Object.keys(answer.headers).filter((name) => name.startsWith('x-auth'))).toEqual([]);
        const open = await ask(port, path);
        expect(open.status).toSatisfy((code: number) => code === 401 || code === 404);
      }
      service.takePassed();
    });

    test.each(['gone', 'silent', 'out of reach'] as const)(
      'while auth-api is %s nobody passes, and afterwards it goes on',
      async (how) => {
        const { access_token: token } = await logIn(api, email);
        expect((await ask(port, '/things', { token })).status).toBe(200);
        service.takePassed();
        await line.outages[how]();
        const asked = performance.now();
        for (const { status, headers } of await Promise.all([
          ask(port, '/things', { token }),
          ask(port, '/reports/1', { token }),
        ])) {
          expect(status).toBe(503);
          expect(Number(headers['retry-after'])).toBeGreaterThan(0);
        }
        expect(performance.now() - asked).toBeLessThan(10_000);
        expect(service.takePassed()).toEqual([]);
        expect((await ask(port, '/public/page')).status).toBe(200);
        await line.mend();
        await vi.waitFor(async () => expect((await ask(port, '/things', { token })).status).toBe(200), {
          timeout: 10_000,
          interval: 100,
        });
        service.takePassed();
      },
    );
  });
});

const nginxPath = programOnPath('nginx');
describe.skipIf(nginxPath === undefined)('nginx’s configuration (needs nginx)', () => {
  test('starts by itself, and not beside one that lets aliases of header names in', () => {
    expect(nginxCheck(nginxPath ?? '')).toContain('test is successful');
    for (const allowed of ['underscores_in_headers on;', 'ignore_invalid_headers off;'])
      expect(nginxCheck(nginxPath ?? '', allowed)).toMatch(/"\w+" directive is duplicate/);
  });
});

const haproxy = found.find(({ gateway }) => gateway.program === 'haproxy');
describe.skipIf(haproxy?.path === undefined)('HAProxy’s configuration (needs haproxy)', () => {
  test.each([
    ['fails before it asks', 'local function verify(txn)\n', "error('a fault')\n"],
    ['fails after auth-api has refused', 'local status = answer and answer.status\n', "error('a fault')\n"],
    ['says nothing', 'local function verify(txn)\n', 'if true then return end\n'],
  ])('lets nobody through when the Lua action %s: HAProxy goes on after it', async (_how, after, fault) => {
    if (haproxy?.path === undefined) throw new Error('no haproxy');
    const service = await startService();
    onTestFinished(() => service.close());
    const changed = (content: string, file: string) => {
      if (file !== 'latchkey.lua') return content;
      expect(content).toContain(after);
      return content.replace(after, `${after}${fault}`);
    };
    const broken = { ...haproxy.gateway, changed };
    const { port, stop } = await startGateway(broken, haproxy.path, { authApi: apiPort, service: service.port });
    onTestFinished(stop);
    service.takePassed();
    const { access_token: token } = await logIn(api, email);
    for (const [path, asked] of [
      ['/things', {}],
      ['/things', { token }],
      ['/reports/1', { token }],
    ] as const) {
      const { status, headers } = await ask(port, path, asked);
      expect([path, status, headers['retry-after']]).toEqual([path, 503, '1']);
    }
    expect(service.takePassed()).toEqual([]);
    expect((await ask(port, '/public/page')).status).toBe(200);
  });
});

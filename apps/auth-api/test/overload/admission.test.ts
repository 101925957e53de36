/** Who is begun when, who is told to come again, and how that is said. */
import { once } from 'node:events';
import { createServer, IncomingMessage, ServerResponse } from 'node:http';
import { type AddressInfo, connect, Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { createLogger } from '@latchkey/shared/logger';
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { classOf, createAdmission, type RequestClass, roomAfter } from '../../src/admission.ts';
import { createMetrics } from '../../src/metrics.ts';
import { testApp } from '../test-app.ts';

/** A request of each class. */
const EXAMPLES: Record<RequestClass, [method: string, url: string]> = {
  vital: ['DELETE', '/v1/sessions/current'],
  revocation: ['POST', '/oauth/revoke'],
  feed: ['GET', '/v1/revocations'],
  tokens: ['POST', '/v1/tokens/refresh'],
  rest: ['GET', '/v1/me'],
  pages: ['GET', '/activate/some-key'],
  passwords: ['POST', '/v1/tokens'],
};

function startAdmission({ passwordsFull = false } = {}) {
  const logs: string[] = [];
  const metrics = createMetrics();
  const admission = createAdmission({
    metrics,
    logger: createLogger('auth-api', 'info', { write: (line) => logs.push(line) }),
    passwordsFull: () => passwordsFull,
  });
  const begun: RequestClass[] = [];
  return {
    admission,
    metrics,
    logs,
    begun,
    /** One comes. @returns its answer, and what a route would be told. */
    come(name: RequestClass) {
      const [method, url] = EXAMPLES[name];
      const request = Object.assign(new IncomingMessage(new Socket()), { method, url });
      const response = new ServerResponse(request);
      admission.admit(request, response, () => begun.push(name));
      return { response, assertAdmitted: () => admission.assertAdmitted(request) };
    },
  };
}

describe('what the classes are', () => {
  test('of every route there is, by what it costs and what it is for', async () => {
    const { app } = await testApp();
    const { paths } = app.swagger() as { paths: Record<string, object> };
    const routes: Record<string, string[]> = {};
    for (const [path, methods] of Object.entries(paths))
      for (const method of Object.keys(methods)) {
        const url = path.replaceAll(/\{[^}]+\}/g, 'x');
        const name = classOf({ method: method.toUpperCase(), url }) ?? 'never refused';
        routes[name] = [...(routes[name] ?? []), `${method} ${path}`].sort();
      }
    const { vital = [], ...others } = routes;
    const ofOperators = vital.filter((route) => route.includes(' /v1/admin/'));
    expect(ofOperators.length).toBeGreaterThan(15);
    expect(vital.filter((route) => !ofOperators.includes(route))).toEqual([
      'delete /v1/sessions',
      'delete /v1/sessions/current',
      'delete /v1/sessions/{id}',
      'get /.well-known/jwks.json',
      'get /.well-known/oauth-authorization-server',
      'get /v1/verify',
    ]);
    expect(others).toEqual({
      revocation: ['post /oauth/revoke'],
      feed: ['get /v1/revocations'],
      tokens: ['post /oauth/introspect', 'post /oauth/token', 'post /v1/tokens/refresh'],
      rest: [
        'get /v1/activations/{key}',
        'get /v1/me',
        'get /v1/password-resets/{key}',
        'get /v1/sessions',
        'patch /v1/me',
        'post /v1/activations/{key}',
        'post /v1/email-changes/{key}',
      ],
      pages: [
        'get /activate/{key}',
        'get /change-email/{key}',
        'get /reset-password/{key}',
        'post /activate/{key}',
        'post /change-email/{key}',
        'post /reset-password/{key}',
      ],
      passwords: [
        'delete /v1/me',
        'post /v1/activations',
        'post /v1/activations/{key}/renewal',
        'post /v1/password-resets',
        'post /v1/password-resets/{key}',
        'post /v1/tokens',
        'post /v1/users',
        'put /v1/me/email',
        'put /v1/me/password',
      ],
      'never refused': ['get /livez', 'get /metrics', 'get /readyz'],
    });
  });

  test('a query changes nothing, a path below one that verifies verifies', () => {
    expect(classOf({ method: 'GET', url: '/v1/verify?scope=admin' })).toBe('vital');
    expect(classOf({ method: 'POST', url: '/v1/verify/some/path' })).toBe('vital');
    expect(classOf({ method: 'GET', url: '/v1/verifying' })).toBe('rest');
    expect(classOf({ method: 'DELETE', url: '/v1/sessions?except=current' })).toBe('vital');
    expect(classOf({ method: 'POST', url: '/oauth/revoke' })).toBe('revocation');
    expect(classOf({ method: 'HEAD', url: '/livez' })).toBeUndefined();
    // As Envoy appends the path that was asked for, and a client an id.
    expect(classOf({ method: 'GET', url: '/v1/verify/files/a%20b' })).toBe('vital');
    expect(classOf({ method: 'DELETE', url: '/v1/admin/users/a%2Db' })).toBe('vital');
  });

  test.each([
    ['%74okens', '/v1/%74okens'],
    ['a fragment', '/v1/tokens#'],
    ['a whole URL', 'http://example.test/v1/tokens'],
  ])('a route spelled otherwise, which the router would find, comes last: %s', (_, url) => {
    expect(classOf({ method: 'POST', url })).toBe('passwords');
  });
});

describe('more at once than a turn of the event loop may begin', () => {
  test('what verifies and takes access away is begun at once; tokens go before the rest, passwords last', async () => {
    const { come, begun } = startAdmission();
    for (const name of ['passwords', 'rest', 'tokens', 'vital'] as const) for (let n = 0; n < 20; n += 1) come(name);
    // Two logins had room in this turn.
    expect(begun).toEqual(['passwords', 'passwords', ...Array(20).fill('vital')]);
    begun.length = 0;
    await vi.waitFor(() => expect(begun).toHaveLength(58));
    expect(begun).toEqual([...Array(20).fill('tokens'), ...Array(20).fill('rest'), ...Array(18).fill('passwords')]);
  });

  test('a turn begins no more than that, and leaves room for what comes between', async () => {
    const { come, begun } = startAdmission();
    for (let n = 0; n < 50; n += 1) come('rest');
    expect(begun).toHaveLength(3);
    await turn();
    expect(begun.length).toBeLessThanOrEqual(6);
    come('vital');
    expect(begun.at(-1)).toBe('vital');
  });

  test('less is begun when turns take long, never nothing, and soon as much as before', () => {
    let room = 3;
    for (let turns = 0; turns < 10; turns += 1) room = roomAfter(room, 5);
    expect(room).toBe(0.5);
    // Who shares a core with others gets on all the same.
    expect(roomAfter(room, 20)).toBe(2);
    for (let turns = 0; turns < 20; turns += 1) room = roomAfter(room, 1);
    expect(room).toBe(3);
  });

  test('nothing is begun for who has left', async () => {
    const { come, begun } = startAdmission();
    const callers = Array.from({ length: 10 }, () => come('rest'));
    for (const { response } of callers) response.destroy();
    come('passwords');
    await vi.waitFor(() => expect(begun).toContain('passwords'));
    expect(begun.filter((name) => name === 'rest')).toHaveLength(3);
  });
});

describe('who waits too long', () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  test('is refused on coming once the first has waited a second, and while waiting after two', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    const { come, begun } = startAdmission();
    const waiting = Array.from({ length: 10 }, () => come('passwords')).slice(2);
    vi.advanceTimersByTime(1001);
    expect(come('passwords').response.statusCode).toBe(503);
    // Each class waits for itself.
    expect(come('tokens').response.statusCode).toBe(200);
    vi.advanceTimersByTime(1000);
    await turn();
    expect(waiting.map(({ response }) => response.statusCode)).toEqual(Array(8).fill(503));
    expect(begun.filter((name) => name === 'passwords')).toHaveLength(2);
    expect(come('passwords').response.statusCode).toBe(200);
  });

  test('is refused after a quarter of a second once the first have waited for longer than that for a second', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    const { come, metrics } = startAdmission();
    const come3 = () => [1, 2, 3].map(() => come('rest').response.statusCode);
    come3();
    come3();
    // As many as have room in a turn, so that the first has always waited for one or two.
    for (let turns = 0; turns < 4; turns += 1) {
      expect(come3()).toEqual([200, 200, 200]);
      vi.advanceTimersByTime(260);
      await turn();
    }
    vi.advanceTimersByTime(251);
    expect(come3()).toEqual([503, 503, 503]);
    // Until nobody has for a second: then another one is no longer than before.
    await vi.waitFor(async () => expect(await metrics.registry.metrics()).toMatch(/^latchkey_waiting_requests 0$/m));
    vi.advanceTimersByTime(1001);
    for (let n = 0; n < 3; n += 1) come3();
    vi.advanceTimersByTime(900);
    expect(come3()).toEqual([200, 200, 200]);
  });
});

test('while some come too late the turns that begin something have a pause between them, in which the others get on', async () => {
  vi.useFakeTimers({ toFake: ['performance', 'setTimeout'] });
  onTestFinished(() => void vi.useRealTimers());
  const { come, begun } = startAdmission();
  for (let n = 0; n < 20; n += 1) come('rest');
  for (let turns = 1; turns < 4; turns += 1) {
    expect(begun).toHaveLength(3 * turns);
    await turn();
  }
  vi.advanceTimersByTime(1001);
  expect(come('rest').response.statusCode).toBe(503);
  await turn();
  const { length } = begun;
  await turn();
  await turn();
  expect(begun).toHaveLength(length);
  come('vital');
  expect(begun.at(-1)).toBe('vital');
  vi.advanceTimersByTime(2);
  await turn();
  expect(begun.length).toBeGreaterThan(length + 1);
});

describe('as many as may be under way', () => {
  test.each([
    ['vital', 1000],
    ['revocation', 1000],
    ['feed', 5000],
    ['tokens', 1000],
    ['rest', 1000],
    ['passwords', 1000],
  ] as const)('%s: the next one is refused until one is done; the other classes go on', (name, most) => {
    const { come } = startAdmission();
    const [first] = Array.from({ length: most }, () => come(name));
    expect(first?.response.statusCode).toBe(200);
    expect(come(name).response.statusCode).toBe(503);
    for (const other of Object.keys(EXAMPLES) as RequestClass[])
      if (other !== name) expect(come(other).response.statusCode, other).toBe(200);
    first?.response.emit('close');
    expect(come(name).response.statusCode).toBe(200);
    expect(come(name).response.statusCode).toBe(503);
  });

  test('a page is refused by its route', () => {
    const { come } = startAdmission();
    const [first] = Array.from({ length: 1000 }, () => come('pages'));
    expect(first?.assertAdmitted).not.toThrow();
    expect(come('pages').assertAdmitted).toThrow(expect.objectContaining({ code: 'overloaded', status: 503 }));
  });
});

describe('a refusal', () => {
  test('says so as every problem does, costs the caller no connection, is counted, and logged once for many', async () => {
    const { admission, metrics, logs } = startAdmission({ passwordsFull: true });
    const server = createServer((request, response) =>
      admission.admit(request, response, () => response.end('let in')),
    ).listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    const body = 'x'.repeat(10_000);
    const login = `POST /v1/tokens HTTP/1.1\r\nhost: x\r\nx-request-id: mine\r\ncontent-length: ${body.length}\r\n\r\n`;
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1').setEncoding('utf8');
    let said = '';
    socket.on('data', (chunk) => {
      said += chunk;
    });
    // Half of the body comes after the answer.
    socket.write(login + body.slice(5000));
    await vi.waitFor(() => expect(said).toMatch(/"request_id":"mine"\}$/));
    socket.write(`${body.slice(0, 5000)}${login}${body}GET /v1/me HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
    await once(socket, 'close');

    expect(said.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 503', 'HTTP/1.1 503', 'HTTP/1.1 200']);
    const [head = '', content = ''] = said.split('\r\n\r\n');
    expect(head).toMatch(/\r\nretry-after: [1-4]\r\n/);
    expect(head).toContain('\r\ncontent-type: application/problem+json\r\n');
    expect(head).toContain('\r\ncache-control: no-store\r\n');
    expect(head).toContain('\r\nx-request-id: mine\r\n');
    expect(JSON.parse(content.slice(0, content.indexOf('}') + 1))).toMatchObject({
      type: 'urn:latchkey:problem:overloaded',
      status: 503,
      code: 'overloaded',
    });
    expect(await metrics.registry.metrics()).toContain('latchkey_refused_requests_total{class="passwords"} 2');
    admission.stop();
    expect(logs.map((line) => JSON.parse(line))).toMatchObject([{ level: 40, refused: { passwords: 2, rest: 0 } }]);
  });
});

/** The answers to so many requests, all sent at once on one connection. */
async function allAtOnce(port: number, count: number, path: string): Promise<string[]> {
  const socket = connect(port, '127.0.0.1').setEncoding('latin1');
  const request = `GET ${path} HTTP/1.1\r\nhost:x\r\n`;
  socket.write(`${`${request}\r\n`.repeat(count - 1)}${request}connection:close\r\n\r\n`);
  let said = '';
  socket.on('data', (chunk) => {
    said += chunk;
  });
  await once(socket, 'close');
  return said.split(/(?=HTTP\/1\.1 \d{3} )/);
}

describe('the app itself', () => {
  test('refuses what comes on top of a thousand with a problem, or with a page; verifying and probes go on', async () => {
    const { app } = await testApp({ env: { RATE_LIMITS: 'off' } });
    await app.listen({ host: '127.0.0.1', port: 0 });
    const { port } = app.server.address() as AddressInfo;
    const [calls, pages, verify, probe] = await Promise.all([
      allAtOnce(port, 1100, '/v1/me'),
      allAtOnce(port, 1100, '/activate/x'),
      fetch(`http://127.0.0.1:${port}/v1/verify`),
      fetch(`http://127.0.0.1:${port}/livez`),
    ]);
    expect([verify.status, probe.status]).toEqual([401, 200]);
    const refused = (answers: string[]) => answers.filter((answer) => answer.startsWith('HTTP/1.1 503'));
    expect(calls).toHaveLength(1100);
    const served = calls.filter((answer) => answer.startsWith('HTTP/1.1 401'));
    expect(served.length + refused(calls).length).toBe(1100);
    expect(refused(calls).length).toBeGreaterThan(0);
    for (const answer of refused(calls)) expect(answer).toContain('"code":"overloaded"');
    expect(pages).toHaveLength(1100);
    expect(refused(pages).length).toBeGreaterThan(0);
    for (const answer of refused(pages)) {
      expect(answer).toMatch(/\r\nretry-after: [1-4]\r\n/);
      expect(answer).toMatch(/\r\ncontent-type: text\/html/);
    }
  });
});

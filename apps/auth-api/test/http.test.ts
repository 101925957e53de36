import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { addressOf, networkOf } from '../src/client-address.ts';
import { startTestApp, type TestApp } from './test-app.ts';

let api: TestApp;
let port: number;
beforeAll(async () => {
  api = await startTestApp();
  await api.app.listen({ port: 0, host: '127.0.0.1' });
  const address = api.app.server.address();
  port = typeof address === 'object' && address !== null ? address.port : 0;
});
afterAll(() => api.close());

/** Sends bytes as they are, and reads until the server ends the connection. */
async function raw(bytes: string): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  const chunks: Buffer[] = [];
  socket.on('data', (chunk) => chunks.push(chunk));
  socket.on('error', () => {});
  socket.write(bytes);
  await once(socket, 'close');
  return Buffer.concat(chunks).toString();
}

describe('what is refused before there is a route', () => {
  test.each([
    ['a path that cannot be decoded', '/v1/activations/%zz', 400, 'invalid_request'],
    ['a key that is no key by far', `/v1/activations/${'a'.repeat(300)}`, 414, 'uri_too_long'],
  ])('%s: a problem that does not repeat the path', async (_name, path, status, code) => {
    const response = await api.get(path);
    expect([response.statusCode, response.json().code]).toEqual([status, code]);
    expect(response.headers['content-type']).toMatch(/^application\/problem\+json/);
    expect(response.headers['x-request-id']).toBe(response.json().request_id);
    expect(response.body).not.toContain('activations');
  });

  test('what is no HTTP, and headers without end, are problems too', async () => {
    const garbage = await raw('HELO example.test\r\n\r\n');
    expect(garbage).toMatch(/^HTTP\/1\.1 400 [\s\S]*application\/problem\+json[\s\S]*"invalid_request"/);
    const endless = await raw(`GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: ${'a'.repeat(20_000)}\r\n\r\n`);
    expect(endless).toMatch(/^HTTP\/1\.1 431 [\s\S]*"headers_too_large"/);
  });

  test('a request without Host is a problem that says so, at its turn; one that expects what nobody knows is answered', async () => {
    const close = 'Connection: close\r\n';
    const both = await raw(`GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/verify HTTP/1.1\r\n${close}\r\n`);
    expect(both).toMatch(
      /^HTTP\/1\.1 200 [\s\S]*HTTP\/1\.1 400 [\s\S]*application\/problem\+json[\s\S]*"\/headers\/host"/,
    );
    expect(await raw(`GET /livez HTTP/1.0\r\n\r\n`)).toMatch(/^HTTP\/1\.1 200 /);
    expect(await raw(`GET /livez HTTP/1.1\r\nHost: x\r\nExpect: 200-ok\r\n${close}\r\n`)).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('a request that does not arrive in time is ended, headers and body alike', async () => {
    const started = performance.now();
    const [headers, body] = await Promise.all([
      raw('GET /livez HTTP/1.1\r\nHost: x\r\n'),
      raw('POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{'),
    ]);
    expect(performance.now() - started).toBeLessThan(20_000);
    expect(headers).toMatch(/^HTTP\/1\.1 408 [\s\S]*"request_timeout"/);
    expect(body).toMatch(/^HTTP\/1\.1 408 /);
  });
});

describe('what clients may hold', () => {
  test('is ten thousand connections; what is on top is closed, and counted', async () => {
    const { server } = api.app;
    expect(server.maxConnections).toBe(10_000);
    const held = [connect(port, '127.0.0.1'), connect(port, '127.0.0.1')];
    const connections = () => new Promise((resolve) => server.getConnections((_error, count) => resolve(count)));
    await expect.poll(connections).toBe(held.length);
    server.maxConnections = held.length;
    try {
      const dropped = once(server, 'drop');
      const socket = connect(port, '127.0.0.1');
      socket.on('error', () => {});
      await Promise.all([dropped, new Promise((resolve) => socket.once('close', resolve))]);
    } finally {
      server.maxConnections = 10_000;
      for (const socket of held) socket.destroy();
    }
    expect((await api.get('/metrics')).body).toContain('latchkey_dropped_connections_total 1');
  });

  test('is an answer for as long as they take of it: who reads nothing loses the connection', async () => {
    const { server } = api.app;
    const usual = server.timeout;
    // Above what a change of password waits for its two turns at a thread, so that it is answered.
    expect(usual).toBe(65_000);
    server.timeout = 500;
    try {
      const connected = once(server, 'connection') as Promise<[Socket]>;
      const socket = connect(port, '127.0.0.1');
      socket.on('error', () => {});
      const [inside] = await connected;
      socket.pause();
      socket.write('GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(200));
      await once(inside, 'close');
      // It was not because there was nothing more to say.
      expect(inside.bytesWritten).toBeLessThan(200 * (await api.get('/openapi.json')).body.length);
      socket.destroy();
    } finally {
      server.timeout = usual;
    }
  });
});

/** Bytes in use. */
function memory(): number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  // What lay outside the heap is let go by the second.
  collect();
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

test.each(['/openapi.json', '/docs/json', '/docs/yaml'])(
  'however many answers nobody reads, %s is in memory once',
  async (path) => {
    const { length: bytes } = (await api.get(path)).rawPayload;
    expect(bytes).toBeGreaterThan(100_000);
    const connected = once(api.app.server, 'connection') as Promise<[Socket]>;
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => {});
    const [inside] = await connected;
    socket.pause();
    const before = memory();
    let asked = 0;
    const counting = () => {
      asked += 1;
    };
    api.app.server.on('request', counting);
    socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`.repeat(200));
    await expect.poll(() => asked, { timeout: 20_000 }).toBe(200);
    api.app.server.off('request', counting);
    // All have had their turn.
    const waiting = async () => (await api.get('/metrics')).body.match(/latchkey_waiting_requests (\d+)/)?.[1];
    await expect.poll(waiting, { timeout: 20_000 }).toBe('0');
    const taken = memory() - before;
    socket.destroy();
    inside.destroy();
    // A fourth of what each on its own would take.
    expect(taken).toBeLessThan((200 * bytes) / 4);
  },
);

test('a client that goes away while it sends is no fault of Redis', async () => {
  const before = (await api.get('/metrics')).body.match(/latchkey_dependency_errors_total.*/g) ?? [];
  const arrived = once(api.app.server, 'request');
  const socket = connect(port, '127.0.0.1');
  socket.write('POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{');
  await arrived;
  socket.resetAndDestroy();
  const connections = () => new Promise((resolve) => api.app.server.getConnections((_error, count) => resolve(count)));
  await expect.poll(connections).toBe(0);
  expect((await api.get('/metrics')).body.match(/latchkey_dependency_errors_total.*/g) ?? []).toEqual(before);
  expect(api.logs.filter((line) => line.includes('a dependency is down'))).toEqual([]);
});

describe('methods and bodies', () => {
  test('a path that exists says what it can do', async () => {
    const response = await api.call('PUT', '/v1/tokens', {});
    expect([response.statusCode, response.json().code, response.headers.allow]).toEqual([
      405,
      'method_not_allowed',
      'POST',
    ]);
    expect((await api.call('DELETE', '/v1/activations/some-key')).headers.allow).toBe('GET, HEAD, POST');
    expect((await api.get('/nowhere')).statusCode).toBe(404);
  });

  test('JSON under another name is refused as what it says it is', async () => {
    const response = await api.app.inject({
      method: 'POST',
      url: '/v1/users',
      headers: { 'content-type': 'text/plain' },
      payload: '{}',
    });
    expect([response.statusCode, response.json().code]).toEqual([415, 'unsupported_media_type']);
  });

  test('a call that takes no body takes an empty one, and no other', async () => {
    const url = `/v1/activations/${'A'.repeat(32)}`;
    const headers = { 'content-type': 'application/json' };
    expect((await api.app.inject({ method: 'POST', url, headers })).statusCode).toBe(404);
    // What curl says of `-d ''`: of nothing at all it is no untruth.
    const form = { 'content-type': 'application/x-www-form-urlencoded' };
    expect((await api.app.inject({ method: 'POST', url, headers: form, payload: '' })).statusCode).toBe(404);
    expect((await api.call('POST', url, {})).statusCode).toBe(404);
    const refused = await api.call('POST', url, { x: 1 });
    expect([refused.statusCode, refused.json().errors?.[0]?.pointer]).toEqual([400, '/x']);
  });

  test.each(['password', 'display_name'])(
    'half a character in %s is refused: it would be another one in the database',
    async (field) => {
      const body = {
        email: 'ada@example.test',
        password: 'correct horse battery staple',
        [field]: 'correct horse \ud800 staple',
      };
      const response = await api.call('POST', '/v1/users', body);
      expect([response.statusCode, response.json().errors?.[0]?.pointer]).toEqual([400, `/${field}`]);
    },
  );
});

test.each([
  ['192.0.2.7', '192.0.2.7'],
  ['::ffff:192.0.2.7', '192.0.2.7'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2'],
  ['2001:db8:1:2::9', '2001:db8:1:2'],
  ['2001:DB8::1', '2001:db8:0:0'],
  ['::1', '0:0:0:0'],
  ['fe80::1%eth0', 'fe80:0:0:0'],
  ['[2001:db8::1]:4711', '2001:db8:0:0'],
])('%s is counted as %s: an IPv6 subscriber has a whole /64', (ip, network) => {
  expect(networkOf(ip)).toBe(network);
});

test.each([
  ['198.51.100.8', '198.51.100.8'],
  ['198.51.100.8:4711', '198.51.100.8'],
  ['2001:db8::1', '2001:db8::1'],
  ['[2001:db8::1]', '2001:db8::1'],
  ['[2001:db8::1]:4711', '2001:db8::1'],
  ['not-an-ip', 'unknown'],
  ['198.51.100.8:port', 'unknown'],
  ['', 'unknown'],
])('of what a proxy writes, %s, the address is %s: a port makes nobody somebody else', (text, address) => {
  expect(addressOf(text)).toBe(address);
});

import { connect } from 'node:net';
import fc from 'fast-check';
import type { InjectOptions, LightMyRequestResponse } from 'fastify';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectProblem } from './expect-problem.ts';
import { newAddress, PASSWORD, startTestApp, type TestApp } from './test-app.ts';

let api: TestApp;

beforeAll(async () => {
  // What is limited would be refused before it is looked at.
  api = await startTestApp({ env: { RATE_LIMITS: 'off' } });
});
afterAll(() => api.close());

const KEY = 'A'.repeat(32);

/** Every POST route and a body it takes; `undefined`: it takes none. */
const POST_ROUTES: Record<string, Record<string, string> | undefined> = {
  '/v1/users': { email: 'ada@example.test', password: PASSWORD, display_name: 'Ada', locale: 'de' },
  '/v1/activations': { email: 'ada@example.test' },
  '/v1/tokens': { email: 'ada@example.test', password: PASSWORD, device_name: 'phone', token_format: 'jwt' },
  '/v1/tokens/refresh': { refresh_token: 'lkr_nobody-has-this-one' },
  '/v1/activations/{key}': undefined,
  '/v1/activations/{key}/renewal': undefined,
  '/v1/password-resets': { email: 'ada@example.test' },
  '/v1/password-resets/{key}': { new_password: PASSWORD },
  '/v1/email-changes/{key}': undefined,
};
/**
 * POST routes whose body is none of their business, whose answers are pages (pages.test.ts, account-pages.test.ts), that take forms of
 * clients (oauth.test.ts) or look at who asks before the body (operators.test.ts).
 */
const OTHER_POST_ROUTES = [
  '/v1/verify',
  '/activate/{key}',
  '/reset-password/{key}',
  '/change-email/{key}',
  '/oauth/token',
  '/oauth/introspect',
  '/oauth/revoke',
  '/v1/admin/users/{id}/revocations',
  '/v1/admin/tokens/deny',
];

const paths = Object.keys(POST_ROUTES);
const withBody = Object.entries(POST_ROUTES).filter(
  (route): route is [string, Record<string, string>] => route[1] !== undefined,
);
const fields = withBody.flatMap(([path, body]) => Object.keys(body).map((field) => [path, field] as const));

const urlOf = (path: string) => path.replace('{key}', KEY);
const json = { 'content-type': 'application/json' };

const postRaw = (path: string, payload: string | Buffer, headers: Record<string, string> = json) =>
  api.app.inject({ method: 'POST', url: urlOf(path), headers, payload });

/** A body the route takes, but for one field. */
const bodyWith = (path: string, field: string, value: unknown) =>
  JSON.stringify({ ...POST_ROUTES[path], [field]: value });

const invalid = (pointer?: string) => ({
  status: 400,
  code: 'invalid_request',
  ...(pointer !== undefined && { pointer }),
});

test('every POST route of the OpenAPI document is put to the test here', async () => {
  const { paths: documented } = (await api.get('/openapi.json')).json();
  const posts = Object.keys(documented).filter((path) => 'post' in documented[path]);
  expect(posts.sort()).toEqual([...paths, ...OTHER_POST_ROUTES].sort());
});

describe.each(paths)('POST %s', (path) => {
  test.each([
    ['truncated', '{"email":"ada@example.te'],
    ['not JSON', 'email=ada'],
    ['a lone word', 'undefined'],
    ['two documents', '{} {}'],
    ['empty', ''],
    ['bytes that are not UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22])],
    ['an attempt on the prototype', '{"__proto__":{"status":"active"}}'],
    ['an attempt on the prototype by way of the constructor', '{"constructor":{"prototype":{"status":"active"}}}'],
  ])('refuses JSON that is %s', async (_what, payload) => {
    expectProblem(await postRaw(path, payload), invalid());
    expect(Reflect.get({}, 'status')).toBeUndefined();
  });

  test('refuses a body over 16 KiB without reading it', async () => {
    const problem = { status: 413, code: 'body_too_large' };
    expectProblem(await postRaw(path, Buffer.alloc(1024 * 1024, 0x20)), problem);
    expectProblem(await postRaw(path, bodyWith(path, 'email', 'a'.repeat(16 * 1024))), problem);
  });

  test.each([
    'text/plain',
    'application/xml',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'image/png',
    'nonsense',
    ';',
  ])('refuses the content type %s', async (type) => {
    const response = await postRaw(path, '{"email":"ada@example.test"}', { 'content-type': type });
    expectProblem(response, { status: 415, code: 'unsupported_media_type' });
  });
});

describe.each(withBody)('POST %s', (path, body) => {
  test.each([
    ['null', 'null'],
    ['true', 'true'],
    ['a number', '1e400'],
    ['a string', '"ada@example.test"'],
    ['an empty array', '[]'],
    ['an array of what it wants', JSON.stringify([body])],
    ['8000 arrays inside each other', '['.repeat(8000) + ']'.repeat(8000)],
  ])('refuses %s where an object is expected', async (_what, payload) => {
    expectProblem(await postRaw(path, payload), invalid(''));
  });

  test('names every field that is missing', async () => {
    const required = Object.keys(body).filter((field) =>
      ['email', 'password', 'new_password', 'refresh_token'].includes(field),
    );
    const response = await postRaw(path, '{}');
    expectProblem(response, invalid());
    expect(response.json().errors).toEqual(required.map((field) => ({ pointer: `/${field}`, detail: 'is required' })));
    expectProblem(await api.app.inject({ method: 'POST', url: path }), invalid(''));
  });

  test('names a field it does not know', async () => {
    for (const field of ['role', 'status', 'Email', 'constructor', 'toString', '', '💥'])
      expectProblem(await postRaw(path, bodyWith(path, field, 'x')), invalid(`/${field}`));
    // RFC 6901 section 3
    expectProblem(await postRaw(path, bodyWith(path, 'a/b~c', 'x')), invalid('/a~1b~0c'));
  });
});

describe.each(fields)('POST %s: %s', (path, field) => {
  test.each([
    ['null', null],
    ['a number', 7],
    ['a boolean', true],
    ['an array', ['ada@example.test']],
    ['an object', { toString: 'ada@example.test', length: 3 }],
    ['the empty string', ''],
    ['10 000 characters', 'a'.repeat(10_000)],
  ])('refuses %s and names the field', async (_what, value) => {
    expectProblem(await postRaw(path, bodyWith(path, field, value)), invalid(`/${field}`));
  });

  test.each([
    ['a null character', 'ada\u0000@example.test'],
    ['half a surrogate pair', 'correct horse \ud800 battery staple'],
    ['the other half', '\udfffcorrect horse battery staple'],
  ])('refuses %s, which no store could keep as it is', async (_what, value) => {
    const response = await postRaw(path, bodyWith(path, field, value));
    // A refresh token is looked up nowhere: it proves itself, or it is none.
    if (field === 'refresh_token') expectProblem(response, { status: 401, code: 'invalid_refresh_token' });
    else expectProblem(response, invalid(`/${field}`));
  });
});

test.each([
  ['/v1/users', 'display_name'],
  ['/v1/users', 'email'],
  ['/v1/users', 'locale'],
  ['/v1/activations', 'email'],
  ['/v1/tokens', 'device_name'],
])('POST %s: %s cannot carry a header line, a terminal command or a line break', async (path, field) => {
  for (const poison of [
    '\r\nBcc: eve@example.test',
    '\n',
    '\r',
    '\t',
    '\u001b[2J',
    '\u007f',
    '\u0085',
    '\u2028',
    '\u2029',
  ])
    expectProblem(await postRaw(path, bodyWith(path, field, `de${poison}`)), invalid(`/${field}`));
});

test.each([
  ['too long a local part', `${'a'.repeat(65)}@example.test`],
  ['too long as a whole', `ada@${'a.'.repeat(130)}test`],
  ['too long a label', `ada@${'a'.repeat(64)}.test`],
  ['Unicode before the @', 'ädä@example.test'],
  ['Unicode after the @', 'ada@exämple.test'],
  ['a letter that looks like another', 'аda@example.test'],
  ['a full-width @', 'ada＠example.test'],
  ['two addresses', 'ada@example.test,eve@example.test'],
  ['two @', 'ada@eve@example.test'],
  ['a name around it', 'Ada <ada@example.test>'],
  ['a quoted local part', '"ada lovelace"@example.test'],
  ['an address literal', 'ada@[127.0.0.1]'],
  ['a space', 'ada @example.test'],
  ['no domain', 'ada@localhost'],
  ['dots in a row', 'ada..lovelace@example.test'],
  ['a dot at the end', 'ada@example.test.'],
])('an e-mail address with %s is refused by registration, resend and login, which name it', async (_what, email) => {
  for (const path of ['/v1/users', '/v1/activations', '/v1/tokens'])
    expectProblem(await postRaw(path, bodyWith(path, 'email', email)), invalid('/email'));
});

test('of a field given twice the last one counts, and it is checked', async () => {
  const twice = (first: string, second: string) => `{"email":"${first}","email":"${second}"}`;
  expectProblem(await postRaw('/v1/activations', twice(newAddress(), 'no address')), invalid('/email'));
  expect((await postRaw('/v1/activations', twice('no address', newAddress()))).statusCode).toBe(202);
});

test.each<[string, InjectOptions['method'], string]>([
  ['an invalid percent-encoding', 'GET', '/v1/activations/%E0%A4%A'],
  ['an invalid percent-encoding', 'POST', '/v1/activations/%ff%fe/renewal'],
  ['a lone percent sign', 'GET', '/%'],
])('%s in the path (%s %s) is a 400', async (_what, method, url) => {
  const response = await api.app.inject({ method: method ?? 'GET', url });
  expectProblem(response, invalid());
});

test.each([
  ['a null character', '%00'],
  ['a line break', '%0d%0aX-Evil:%201'],
  ['Unicode', '%F0%9F%92%A5'],
  ['a path of its own', '..%2f..%2fetc%2fpasswd'],
  ['another length', 'A'.repeat(31)],
  ['128 characters', 'A'.repeat(128)],
])('a key with %s is unknown', async (_what, key) => {
  const unknown = { status: 404, code: 'activation_key_unknown' };
  expectProblem(await api.get(`/v1/activations/${key}`), unknown);
  expectProblem(await api.post(`/v1/activations/${key}`), unknown);
  expectProblem(await api.post(`/v1/activations/${key}/renewal`), unknown);
});

test('an over-long path parameter is refused', async () => {
  expectProblem(await api.get(`/v1/activations/${'A'.repeat(129)}`), invalid('/params/key'));
  const tooLong = { status: 414, code: 'uri_too_long' };
  expectProblem(await api.post(`/v1/activations/${'A'.repeat(257)}`), tooLong);
  expectProblem(await api.get(`/v1/activations/${'A'.repeat(10_000)}`), tooLong);
});

test.each(['PROPFIND', 'TRACE', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'SEARCH', 'M-SEARCH', 'LINK', 'PURGE'])(
  'the method %s, which no account route has, is refused',
  async (method) => {
    // light-my-request passes on any method; its types list some.
    for (const path of ['/v1/users', '/v1/tokens', `/v1/activations/${KEY}`]) {
      const response = await api.app.inject({ method: method as 'GET', url: path });
      // RFC 9110 section 15.5.6 wants 405 where the path is known; a router that does not know it by that method says 404.
      const known = response.statusCode === 405;
      expectProblem(response, { status: known ? 405 : 404, code: known ? 'method_not_allowed' : 'not_found' });
    }
  },
);

/** Bytes in, bytes out: what no HTTP client would send. */
function sendBytes(bytes: string): Promise<string> {
  const address = api.app.server.address();
  const port = typeof address === 'object' ? address?.port : undefined;
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), '127.0.0.1', () => socket.write(bytes, 'latin1'));
    let answer = '';
    socket.setEncoding('latin1').on('data', (chunk: string) => {
      answer += chunk;
      // One answer is enough; a kept connection would stay open.
      if (answer.includes('\r\n\r\n')) socket.end();
    });
    socket.on('close', () => resolve(answer)).on('error', reject);
  });
}

test.each([
  ['a method nobody knows', 'BREW /v1/users HTTP/1.1\r\nHost: x\r\n\r\n', 400],
  ['no HTTP at all', '\x16\x03\x01\x02\x00\x01\x00', 400],
  ['a header line without a name', 'GET /livez HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n', 400],
  ['two lengths', 'POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}', 400],
  [
    'a length and chunks, as a smuggler sends',
    'POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}',
    400,
  ],
  ['20 kB of headers', `GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: ${'a'.repeat(20_000)}\r\n\r\n`, 431],
  ['20 kB of path', `GET /${'a'.repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`, 431],
])('on the wire, %s is refused as a problem', async (_what, bytes, status) => {
  if (api.app.addresses().length === 0) await api.app.listen({ host: '127.0.0.1', port: 0 });
  const answer = await sendBytes(bytes);
  const [head = '', body = ''] = answer.split('\r\n\r\n');
  expect(head).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
  expect(head.toLowerCase()).toContain('content-type: application/problem+json');
  expect(JSON.parse(body)).toMatchObject({ status, code: expect.any(String), request_id: expect.any(String) });
});

const fieldNames = [...new Set(fields.map(([, field]) => field)), '__proto__', 'constructor', 'role'];
const anyBody = fc.oneof(
  fc.json(),
  fc.json({ stringUnit: 'binary' }),
  fc.string(),
  fc
    .dictionary(fc.constantFrom(...fieldNames), fc.jsonValue({ stringUnit: 'binary' }))
    .map((body) => JSON.stringify(body)),
  fc
    .record({
      email: fc.emailAddress(),
      password: fc.string({ unit: 'binary' }),
      display_name: fc.string({ unit: 'binary' }),
    })
    .map((body) => JSON.stringify(body)),
);

test('no body to any POST route gives a 5xx', async () => {
  const answersItself = (response: LightMyRequestResponse) =>
    response.statusCode < 500 &&
    (response.statusCode < 400 || response.json().code !== undefined) &&
    response.headers['x-request-id'] !== undefined;
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...paths), anyBody, async (path, body) =>
      answersItself(await postRaw(path, body)),
    ),
    { numRuns: 500 },
  );
});

test('after all that the app works', async () => {
  expect((await api.get('/readyz')).statusCode).toBe(200);
  expect((await api.register(newAddress())).statusCode).toBe(202);
  expect(api.logs.filter((line) => line.includes('request failed'))).toEqual([]);
});

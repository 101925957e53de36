import { once } from 'node:events';
import { type AddressInfo, connect } from 'node:net';
import fc from 'fast-check';
import type { FastifyError, InjectOptions, LightMyRequestResponse } from 'fastify';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { asProblem } from '../src/plugins/problem-answers.ts';
import { logIn } from './accounts.ts';
import { addClient, basic, clientToken, type TestClient } from './clients.ts';
import { expectProblem } from './expect-problem.ts';
import { newAddress, PASSWORD, startTestApp, type TestApp } from './test-app.ts';

let api: TestApp;
/** Tokens of a user and of an operator. */
let user: string;
let operator: string;
let machine: TestClient;

beforeAll(async () => {
  // What is limited would be refused before it is looked at.
  api = await startTestApp({ env: { RATE_LIMITS: 'off' } });
  user = await freshUser();
  machine = await addClient(api.databaseUrl, 'admin', 'introspect');
  operator = await clientToken(api, machine);
});
afterAll(() => api.close());

/** The token of somebody new. */
async function freshUser(): Promise<string> {
  const email = newAddress();
  await api.register(email);
  const client = new pg.Client({ connectionString: api.databaseUrl });
  await client.connect();
  await client.query(`UPDATE users SET status = 'active' WHERE email = $1`, [email]);
  await client.end();
  return (await logIn(api, email)).access_token;
}

const KEY = 'A'.repeat(32);

/** It wants one of two fields, and says so of the body. */
const EITHER = 'POST /v1/admin/tokens/deny';
/** Every route that takes JSON, or no body, and a body it takes; `undefined`: it takes none. */
const ROUTES: Record<string, Record<string, string> | undefined> = {
  'POST /v1/users': { email: 'ada@example.test', password: PASSWORD, display_name: 'Ada', locale: 'de' },
  'POST /v1/activations': { email: 'ada@example.test' },
  'POST /v1/tokens': { email: 'ada@example.test', password: PASSWORD, device_name: 'phone', token_format: 'jwt' },
  'POST /v1/tokens/refresh': { refresh_token: 'lkr_nobody-has-this-one' },
  'POST /v1/activations/{key}': undefined,
  'POST /v1/activations/{key}/renewal': undefined,
  'POST /v1/password-resets': { email: 'ada@example.test' },
  'POST /v1/password-resets/{key}': { new_password: PASSWORD },
  'POST /v1/email-changes/{key}': undefined,
  'PUT /v1/me/password': { current_password: 'not my password', new_password: PASSWORD },
  'PUT /v1/me/email': { current_password: 'not my password', new_email: 'ada@example.test' },
  'PATCH /v1/me': { display_name: 'Ada', locale: 'de' },
  'DELETE /v1/me': { current_password: 'not my password' },
  'POST /v1/admin/users/{id}/revocations': { issued_before: '2020-01-01T00:00:00Z' },
  'PUT /v1/admin/users/{id}/suspension': { until: '2999-01-01T00:00:00Z', reason: 'spam' },
  'POST /v1/admin/failed-mails/{id}/retry': undefined,
  'POST /v1/admin/keys/rotation': undefined,
  [EITHER]: { token: 'x', jti: 'x', expires_at: '2999-01-01T00:00:00Z' },
};
/** Fields a body must have. */
const REQUIRED = ['email', 'password', 'current_password', 'new_password', 'new_email', 'refresh_token'];
/** Bodies of which every field, or the body itself, may be left out. */
const ALL_OPTIONAL = ['PATCH /v1/me', 'POST /v1/admin/users/{id}/revocations', 'PUT /v1/admin/users/{id}/suspension'];
/** Fields that null clears. */
const NULLABLE = [
  'PATCH /v1/me display_name',
  'PUT /v1/admin/users/{id}/suspension until',
  'PUT /v1/admin/users/{id}/suspension reason',
];

const NO_OBJECT: [string, string][] = [
  ['nothing', ''],
  ['null', 'null'],
];

/** Forms of clients. */
const FORM_ROUTES: Record<string, Record<string, string>> = {
  'POST /oauth/token': { grant_type: 'client_credentials', scope: 'admin' },
  'POST /oauth/introspect': { token: 'x', token_type_hint: 'access_token' },
  'POST /oauth/revoke': { token: 'x', token_type_hint: 'access_token' },
};
/** Whose answers are pages (pages.test.ts, account-pages.test.ts). */
const PAGE_ROUTES = ['POST /activate/{key}', 'POST /reset-password/{key}', 'POST /change-email/{key}'];
/** Which have nothing but their path, and one a query. */
const BODILESS = [
  'DELETE /v1/sessions',
  'DELETE /v1/sessions/current',
  'DELETE /v1/sessions/{id}',
  'DELETE /v1/admin/users/{id}',
  'DELETE /v1/admin/users/{id}/suspension',
  'DELETE /v1/admin/users/{id}/sessions/{sid}',
  'DELETE /v1/admin/clients/{id}',
  'DELETE /v1/admin/failed-mails/{id}',
  'DELETE /v1/admin/keys/{kid}',
];

const routes = Object.keys(ROUTES);
const withBody = Object.entries(ROUTES).filter(
  (route): route is [string, Record<string, string>] => route[1] !== undefined,
);
const fields = withBody.flatMap(([route, body]) => Object.keys(body).map((field) => [route, field] as const));

const ID = '123e4567-e89b-12d3-a456-426614174000';
const urlOf = (path: string) =>
  path.replace('{key}', KEY).replace('{id}', ID).replace('{sid}', 'x').replace('{kid}', 'x');
const json = { 'content-type': 'application/json' };

/** Sends it as who may: what is wrong is the body alone. */
function send(route: string, payload?: string | Buffer, headers: Record<string, string> = json) {
  const [method, path = ''] = route.split(' ');
  const bearer = path.startsWith('/v1/admin') ? operator : /^\/v1\/(me|sessions)/.test(path) ? user : undefined;
  return api.app.inject({
    method: method as 'POST',
    url: urlOf(path),
    headers: { ...headers, ...(bearer !== undefined && { authorization: `Bearer ${bearer}` }) },
    ...(payload !== undefined && { payload }),
  });
}
const postRaw = (path: string, payload: string | Buffer, headers: Record<string, string> = json) =>
  send(`POST ${path}`, payload, headers);

/** A body the route takes, but for one field. */
function bodyWith(route: string, field: string, value: unknown) {
  const { token, jti, ...body }: Record<string, unknown> = ROUTES[route] ?? {};
  // Of these it takes one or the other.
  const either = jti === undefined ? {} : field === 'jti' ? { jti } : { token };
  return JSON.stringify({ ...body, ...either, [field]: value });
}

const invalid = (pointer?: string) => ({
  status: 400,
  code: 'invalid_request',
  ...(pointer !== undefined && { pointer }),
});

test('every route of the OpenAPI document that changes something is put to the test here', async () => {
  const { paths } = (await api.get('/openapi.json')).json();
  const documented = Object.entries<object>(paths).flatMap(([path, methods]) =>
    Object.keys(methods)
      .filter((method) => ['post', 'put', 'patch', 'delete'].includes(method))
      .map((method) => `${method.toUpperCase()} ${path}`)
      // Forward-auth answers any method alike (verify.test.ts).
      .filter((route) => !route.endsWith(' /v1/verify')),
  );
  expect(documented.sort()).toEqual([...routes, ...Object.keys(FORM_ROUTES), ...PAGE_ROUTES, ...BODILESS].sort());
});

describe.each(routes)('%s', (route) => {
  test.each([
    ['truncated', '{"email":"ada@example.te'],
    ['not JSON', 'email=ada'],
    ['a lone word', 'undefined'],
    ['two documents', '{} {}'],
    ['bytes that are not UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22])],
    ['an attempt on the prototype', '{"__proto__":{"status":"active"}}'],
    ['an attempt on the prototype by way of the constructor', '{"constructor":{"prototype":{"status":"active"}}}'],
  ])('refuses JSON that is %s', async (_what, payload) => {
    expectProblem(await send(route, payload), invalid());
    expect(Reflect.get({}, 'status')).toBeUndefined();
  });

  test('refuses a body over 16 KiB without reading it', async () => {
    const problem = { status: 413, code: 'body_too_large' };
    expectProblem(await send(route, Buffer.alloc(1024 * 1024, 0x20)), problem);
    expectProblem(await send(route, bodyWith(route, 'email', 'a'.repeat(16 * 1024))), problem);
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
    const response = await send(route, '{"email":"ada@example.test"}', { 'content-type': type });
    expectProblem(response, { status: 415, code: 'unsupported_media_type' });
  });
});

describe.each(withBody)('%s', (route, body) => {
  test.each([
    // An admin call whose fields may all be left out may leave out the body too; then this one names nobody who is known.
    ...(route.startsWith('POST /v1/admin') || route.startsWith('PUT /v1/admin') ? [] : NO_OBJECT),
    ['true', 'true'],
    ['a number', '1e400'],
    ['a string', '"ada@example.test"'],
    ['an empty array', '[]'],
    ['an array of what it wants', JSON.stringify([body])],
    ['8000 arrays inside each other', '['.repeat(8000) + ']'.repeat(8000)],
  ])('refuses %s where an object is expected', async (_what, payload) => {
    expectProblem(await send(route, payload), invalid(''));
  });

  test('names every field that is missing', async () => {
    if (ALL_OPTIONAL.includes(route)) return;
    if (route === EITHER) return expectProblem(await send(route, '{}'), invalid(''));
    const required = Object.keys(body).filter((field) => REQUIRED.includes(field));
    const response = await send(route, '{}');
    expectProblem(response, invalid());
    expect(response.json().errors).toEqual(required.map((field) => ({ pointer: `/${field}`, detail: 'is required' })));
    expectProblem(await send(route, undefined, {}), invalid(''));
  });

  test('names a field it does not know', async () => {
    for (const field of ['role', 'status', 'Email', 'constructor', 'toString', '', '💥'])
      expectProblem(await send(route, bodyWith(route, field, 'x')), invalid(`/${field}`));
    // RFC 6901 section 3
    expectProblem(await send(route, bodyWith(route, 'a/b~c', 'x')), invalid('/a~1b~0c'));
  });
});

describe.each(fields)('%s: %s', (route, field) => {
  test.each<[string, unknown]>([
    ...(NULLABLE.includes(`${route} ${field}`) ? [] : [['null', null] as [string, unknown]]),
    ['a number', 7],
    ['a boolean', true],
    ['an array', ['ada@example.test']],
    ['an object', { toString: 'ada@example.test', length: 3 }],
    ['the empty string', ''],
    ['10 000 characters', 'a'.repeat(10_000)],
  ])('refuses %s and names the field', async (_what, value) => {
    expectProblem(await send(route, bodyWith(route, field, value)), invalid(`/${field}`));
  });

  test.each([
    ['a null character', 'ada\u0000@example.test'],
    ['half a surrogate pair', 'correct horse \ud800 battery staple'],
    ['the other half', '\udfffcorrect horse battery staple'],
  ])('refuses %s, which no store could keep as it is', async (_what, value) => {
    const response = await send(route, bodyWith(route, field, value));
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
    expectProblem(await postRaw(path, bodyWith(`POST ${path}`, field, `de${poison}`)), invalid(`/${field}`));
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
    expectProblem(await postRaw(path, bodyWith(`POST ${path}`, 'email', email)), invalid('/email'));
});

test('bytes that are not UTF-8 are refused where the rest is good: repaired, two passwords would be one', async () => {
  const body = JSON.stringify({ email: newAddress(), password: `${PASSWORD} \u00ff` });
  expectProblem(await postRaw('/v1/users', Buffer.from(body, 'latin1')), invalid());
  expect((await postRaw('/v1/users', Buffer.from(body, 'utf8'))).statusCode).toBe(202);
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
  ['256 characters', 'A'.repeat(256)],
])('a key with %s is unknown', async (_what, key) => {
  const unknown = { status: 404, code: 'activation_key_unknown' };
  expectProblem(await api.get(`/v1/activations/${key}`), unknown);
  expectProblem(await api.post(`/v1/activations/${key}`), unknown);
  expectProblem(await api.post(`/v1/activations/${key}/renewal`), unknown);
});

test('an over-long path parameter is refused', async () => {
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

/** Any text, lone surrogates too, as a form carries bytes. */
const encodeForm = (text: string) =>
  [...Buffer.from(text)].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');

describe.each(Object.entries(FORM_ROUTES))('%s', (route, form) => {
  const sendForm = (payload: string, headers: Record<string, string> = {}) =>
    send(route, payload, {
      authorization: basic(machine),
      'content-type': 'application/x-www-form-urlencoded',
      ...headers,
    });
  const refused = async (answer: ReturnType<typeof sendForm>, error: string | RegExp = 'invalid_request') => {
    const response = await answer;
    const code = expect.stringMatching(error);
    expect(response.json()).toMatchObject({ code, error: code, error_description: expect.any(String) });
    expect(response.headers['cache-control']).toBe('no-store');
    return response.statusCode;
  };
  const [required = ''] = Object.keys(form);

  test('refuses what is no form', async () => {
    expect(await refused(sendForm('{"token":"x"}', { 'content-type': 'application/json' }))).toBe(400);
    expect(await refused(sendForm(''))).toBe(400);
    expect(await refused(sendForm('{"token":"x"}'))).toBe(400);
  });

  test('names the parameter that is missing, empty, there twice or too long', async () => {
    const named = async (payload: string, name: string) => {
      const response = await sendForm(payload);
      expect({ status: response.statusCode, body: response.json() }).toMatchObject({
        status: 400,
        body: { error: 'invalid_request', error_description: expect.stringContaining(name) },
      });
    };
    await named('other=x', required);
    for (const name of Object.keys(form)) {
      const others = new URLSearchParams(Object.entries(form).filter(([key]) => key !== name)).toString();
      await named(`${others}&${name}=a&${name}=b`, name);
      // A token of any length may be asked about.
      if (route === 'POST /oauth/token') await named(`${others}&${name}=${'a'.repeat(10_000)}`, name);
    }
  });

  test('refuses a body over 16 KiB, and credentials that are none', async () => {
    const tooLong = await sendForm(`${required}=${'a'.repeat(17 * 1024)}`);
    expectProblem(tooLong, { status: 413, code: 'body_too_large' });
    const payload = new URLSearchParams(form).toString();
    for (const authorization of [
      '',
      'Basic',
      'Basic !!!',
      'Basic Og==',
      'Basic OiVFMCVBNA==',
      'Bearer x',
      'Basic AAAA/w==',
    ])
      expect(await refused(sendForm(payload, { authorization }), 'invalid_client')).toBe(401);
  });

  test('answers no parameters with a 5xx', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.tuple(fc.constantFrom(...Object.keys(form), 'client_secret', '__proto__'), fc.string({ unit: 'binary' })),
        ),
        async (pairs) => {
          const payload = pairs.map(([key, value]) => `${key}=${encodeForm(value)}`).join('&');
          expect((await sendForm(payload)).statusCode).toBeLessThan(500);
        },
      ),
      { numRuns: 60 },
    );
  });
});

test.each(BODILESS)('%s takes whatever stands in its path or its body for no reason to fail', async (route) => {
  const [method, path = ''] = route.split(' ');
  for (const poison of ['%00', '%0d%0a', '%F0%9F%92%A5', 'a'.repeat(200), ID, '..%2f..', "'%20OR%201=1--"]) {
    const url = path.replace('{id}', poison).replace('{sid}', poison);
    if (route === 'DELETE /v1/sessions' || route === 'DELETE /v1/sessions/current') continue;
    expect((await send(`${method} ${url}`, undefined, {})).statusCode, url).toBeOneOf([400, 404]);
  }
});

test.each(BODILESS)('%s refuses a body that asks for something, and does nothing', async (route) => {
  expectProblem(await send(route, '{"except":"current"}'), invalid('/except'));
  for (const payload of ['{"a', '[]', '7']) expectProblem(await send(route, payload), invalid());
  expect((await api.get('/v1/me', user)).statusCode).toBe(200);
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

test('no body to any route gives a 5xx', async () => {
  const answersItself = (response: LightMyRequestResponse) =>
    response.statusCode < 500 &&
    (response.statusCode < 400 || response.json().code !== undefined) &&
    response.headers['x-request-id'] !== undefined;
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...routes), anyBody, async (route, body) =>
      answersItself(await send(route, body)),
    ),
    { numRuns: 500 },
  );
});

test('of thousands of faults twenty are told, and the rest is not looked at', () => {
  const fault = (name: string) => ({
    instancePath: '',
    keyword: 'additionalProperties',
    params: { additionalProperty: name },
  });
  const some = [fault('twice'), fault('twice'), ...Array.from({ length: 19 }, (_, index) => fault(`field${index}`))];
  const untouched = new Proxy(fault('last'), {
    get: () => {
      throw new Error('looked at');
    },
  });
  const error = Object.assign(new Error(), {
    code: 'FST_ERR_VALIDATION',
    validationContext: 'body',
    validation: [...some, untouched],
  });
  const { errors } = asProblem(error as unknown as FastifyError).details;
  expect(errors?.map(({ pointer }) => pointer).slice(0, 2)).toEqual(['/twice', '/field0']);
  expect(errors).toHaveLength(20);
});

test.each([
  'DELETE /v1/sessions?and=nonsense',
  'DELETE /v1/sessions/current',
  'DELETE /v1/me',
  'POST /v1/admin/tokens/deny',
  'PUT /v1/admin/users/x/suspension',
])('who calls is asked before the body is read: %s', async (route) => {
  const [method, path] = route.split(' ');
  const { port } = api.app.server.address() as AddressInfo;
  const socket = connect({ port, host: '127.0.0.1' });
  onTestFinished(() => void socket.destroy());
  // A body that never comes.
  socket.write(`${method} ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n`);
  const [answer] = await once(socket, 'data');
  expect(String(answer)).toMatch(/^HTTP\/1\.1 401 /);
});

test('after all that the app works', async () => {
  expect((await api.get('/readyz')).statusCode).toBe(200);
  expect((await api.register(newAddress())).statusCode).toBe(202);
  expect(api.logs.filter((line) => line.includes('request failed'))).toEqual([]);
});

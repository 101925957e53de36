import { describe, expect, test } from 'vitest';
import { createLogger } from '../src/logger.ts';

/** Everything a logger made of what `write` told it, and the level in force. */
function logged(write: (logger: ReturnType<typeof createLogger>) => void): string {
  const lines: string[] = [];
  const logger = createLogger('test', 'trace', { write: (line) => lines.push(line) });
  write(logger);
  return lines.join('');
}

const JWT = 'eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiJ1c2VyIn0.c2lnbmF0dXJlLXNpZ25hdHVyZQ';
const REFRESH = `lkr_${'a1B2'.repeat(28)}`;
const KEY = 'a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6';
const SECRET = 'hunter2-hunter2';

describe('no secret reaches a log line', () => {
  test.each([
    'password',
    'new_password',
    'currentPassword',
    'password_hash',
    'access_token',
    'refreshToken',
    'token',
    'client_secret',
    'Authorization',
    'authorization',
    'cookie',
    'set-cookie',
    'MASTER_KEY',
    'activation_key',
    'key',
    'private_key',
    'sealedPrivateKey',
    'pwd',
    'passphrase',
    'api_key',
    'credentials',
    'otp',
  ])('under the name %s, however deep', (name) => {
    const line = logged((log) => log.info({ [name]: SECRET, a: { b: [{ [name]: SECRET }] } }, 'x'));
    expect(line).not.toContain(SECRET);
    expect(line).toContain('[redacted]');
  });

  test.each([
    ['a JWT in the message', `got ${JWT}`],
    ['an opaque token in the message', `got ${REFRESH}`],
    ['an Authorization header in the message', `Authorization: Bearer ${JWT}`],
    ['HTTP Basic credentials in the message', 'authorization: Basic ZGV2OmFiY2RlZmdo'],
    ['the link that activates', `GET /activate/${KEY}`],
    ['the path of an activation', `POST /v1/activations/${KEY}/renewal`],
    ['the link to a new password', `GET /reset-password/${KEY}`],
    ['the path of a password reset', `POST /v1/password-resets/${KEY}`],
    ['the link to another address', `GET /change-email/${KEY}`],
    ['the path of a change of address', `POST /v1/email-changes/${KEY}`],
    ['a URL with credentials', 'connect postgresql://app:hunter2-hunter2@db:5432/latchkey failed'],
  ])('%s', (_name, message) => {
    const line = logged((log) => {
      log.info(message);
      log.error({ err: new Error(message), where: message }, 'failed');
      log.error(new Error(message));
    });
    for (const secret of [JWT, REFRESH, KEY, 'ZGV2OmFiY2RlZmdo', SECRET]) expect(line).not.toContain(secret);
  });

  test('in an error, its cause, or the object graph it drags along', () => {
    const cause = Object.assign(new Error(`refused ${JWT}`), {
      request: { headers: { authorization: `Bearer ${JWT}` } },
    });
    const line = logged((log) => log.error({ err: new Error('outer', { cause }) }, 'failed'));
    expect(line).toContain('outer');
    expect(line).toContain('refused');
    expect(line).not.toContain(JWT);
  });

  test('through a child logger', () => {
    const line = logged((log) =>
      log
        .child({ request_id: 'r-1', password: SECRET, headers: { authorization: `Digest ${SECRET}` } })
        .info({ password: SECRET }, 'x'),
    );
    expect(line).not.toContain(SECRET);
    expect(line).toContain('r-1');
  });
});

test('what is harmless stays readable', () => {
  const line = logged((log) =>
    log.info(
      { token_format: 'jwt', token_type: 'Bearer', route: '/v1/activations/:key', status: 200, gone: null },
      'request',
    ),
  );
  expect(JSON.parse(line)).toMatchObject({
    token_format: 'jwt',
    token_type: 'Bearer',
    route: '/v1/activations/:key',
    status: 200,
    gone: null,
  });
});

test('an object that contains itself is logged all the same', () => {
  const circle: Record<string, unknown> = { name: 'circle' };
  circle.self = circle;
  expect(logged((log) => log.info({ circle }, 'x'))).toContain('circle');
});

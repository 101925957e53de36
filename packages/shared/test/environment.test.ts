import { expect, test } from 'vitest';
import {
  base64Key,
  cidrs,
  InvalidEnvironment,
  oneOf,
  port,
  postgresUrl,
  publicUrl,
  readEnvironment,
  seconds,
} from '../src/environment.ts';

const specs = {
  DATABASE_URL: postgresUrl(),
  MASTER_KEY: base64Key(),
  PUBLIC_URL: publicUrl(),
  PORT: port({ default: 3000 }),
  TTL: seconds({ default: 900 }),
  MODE: oneOf('on', 'off')({ default: 'on' }),
  PROXIES: cidrs({ default: [] }),
};
const good = {
  DATABASE_URL: 'postgresql://app:s3cret@db:5432/latchkey',
  MASTER_KEY: Buffer.alloc(32, 1).toString('base64'),
  PUBLIC_URL: 'https://auth.example.com/@us/',
};

function problemsOf(source: Record<string, string | undefined>): string {
  try {
    readEnvironment('auth-api', specs, source);
  } catch (error) {
    expect(error).toBeInstanceOf(InvalidEnvironment);
    return (error as Error).message;
  }
  throw new Error('was accepted');
}

test('values come parsed, defaults filled in, an empty variable counting as unset', () => {
  expect(readEnvironment('auth-api', specs, { ...good, PORT: '', TTL: '60', PROXIES: '10.0.0.0/8, ::1' })).toEqual({
    DATABASE_URL: good.DATABASE_URL,
    MASTER_KEY: Buffer.alloc(32, 1),
    PUBLIC_URL: 'https://auth.example.com/@us',
    PORT: 3000,
    TTL: 60,
    MODE: 'on',
    PROXIES: ['10.0.0.0/8', '::1'],
  });
});

test('every problem is listed by name at once', () => {
  const message = problemsOf({
    MASTER_KEY: 'short',
    PUBLIC_URL: 'auth.example.com',
    PORT: '70000',
    TTL: '15m',
    MODE: 'maybe',
  });
  for (const name of ['DATABASE_URL', 'MASTER_KEY', 'PUBLIC_URL', 'PORT', 'TTL', 'MODE'])
    expect(message).toContain(`  ${name} `);
  expect(message).toContain('DATABASE_URL is required but not set');
});

test('no value is printed: it may be a secret', () => {
  const message = problemsOf({
    DATABASE_URL: 'mysql://app:s3cret@db/x',
    MASTER_KEY: 'bXktcmVhbC1rZXk=',
    PUBLIC_URL: 'https://user:pw@x.example',
  });
  expect(message).not.toMatch(/s3cret|bXktcmVhbC1rZXk|mysql|user:pw/);
});

test.each([
  ['seconds given in another unit', { TTL: '900000000000' }],
  ['zero seconds', { TTL: '0' }],
  ['a fraction', { TTL: '1.5' }],
  ['a key of 31 bytes', { MASTER_KEY: Buffer.alloc(31).toString('base64') }],
  ['a key of 33 bytes', { MASTER_KEY: Buffer.alloc(33).toString('base64') }],
  ['a proxy that is no address', { PROXIES: 'everybody' }],
  ['a proxy beyond any address', { PROXIES: '999.1.1.1' }],
  ['a range with too long a prefix', { PROXIES: '10.0.0.0/33' }],
  ['a public URL with a query', { PUBLIC_URL: 'https://x.example/?a=b' }],
  ['a public URL with an empty query', { PUBLIC_URL: 'https://x.example/?' }],
  ['a public URL with an empty fragment', { PUBLIC_URL: 'https://x.example/#' }],
  ['a public URL with a password', { PUBLIC_URL: 'https://:secret@x.example/' }],
  ['a public URL of another scheme', { PUBLIC_URL: 'javascript:alert(1)' }],
])('%s is refused', (_name, wrong) => {
  expect(problemsOf({ ...good, ...wrong })).toContain(Object.keys(wrong)[0]);
});

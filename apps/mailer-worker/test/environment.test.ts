import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseEnv } from 'node:util';
import { repositoryRoot } from '@latchkey/dev-stack/repository';
import { expect, test } from 'vitest';
import { readEnv } from '../src/env.ts';

test('.env.example lists every variable, with the default it has', () => {
  const listed = parseEnv(readFileSync(join(repositoryRoot, '.env.example'), 'utf8'));
  const required = {
    REDIS_URL: 'redis://localhost:6379',
    PUBLIC_URL: 'http://localhost:3000',
    SMTP_URL: 'smtp://localhost:1025',
    MAIL_FROM: 'Latchkey <no-reply@example.com>',
  };
  const defaults = readEnv(required);
  expect(Object.keys(defaults).filter((name) => !(name in listed))).toEqual([]);
  // One file for both apps: each has a port of its own.
  expect(readEnv({ ...listed, ...required, PORT: String(defaults.PORT) })).toEqual(defaults);
});

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
    DATABASE_URL: 'postgresql://latchkey:password@localhost:5432/latchkey',
    MASTER_KEY: Buffer.alloc(32, 7).toString('base64'),
  };
  const defaults = readEnv(required);
  expect(Object.keys(defaults).filter((name) => !(name in listed))).toEqual([]);
  // One file for both apps: each has a port of its own.
  expect(readEnv({ ...listed, ...required, PORT: String(defaults.PORT) })).toEqual(defaults);
});

import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { keyConventions, keyTable, redisKeys, userTag } from '../src/redis-keys.ts';

const USER = '7c9e6679-7425-40de-944b-e07fc1f90ae7';

test('the table in docs/redis-keys.md is the one the conventions give', () => {
  const page = readFileSync(new URL('../../../docs/redis-keys.md', import.meta.url), 'utf8');
  expect(page).toContain(keyTable());
});

test('every key starts with latchkey: and every builder has its convention', () => {
  const keys = redisKeys();
  const built: Record<keyof typeof keyConventions, string> = {
    activationKey: keys.activationKey('HASH'),
    passwordResetKey: keys.passwordResetKey('HASH'),
    emailChangeKey: keys.emailChangeKey('HASH'),
    session: keys.session(USER, 'SESSION'),
    sessions: keys.sessions(USER),
    endedSessions: keys.endedSessions(USER),
    gate: keys.gate(USER),
    epoch: keys.epoch,
    revocations: keys.revocations,
    lineLife: keys.lineLife,
    rateLimit: `${keys.rateLimit('LIMIT')}:SUBJECT`,
    mailQueue: `${keys.mailQueuePrefix}:mail:ID`,
    mailLedger: keys.mailLedger('MAIL'),
    mailPace: keys.mailPace('domain', 'DOMAIN'),
    mailAccepted: keys.mailAccepted,
  };
  for (const [name, { pattern }] of Object.entries(keyConventions)) {
    // `<anything in angle brackets>` and `*` stand for a value.
    const shape = new RegExp(`^${pattern.replaceAll(/[{}().+?]/g, '\\$&').replaceAll(/<[^>]+>|\*/g, '[\\w-]+')}$`);
    expect(built[name as keyof typeof built]).toMatch(shape);
  }
});

test('what changes together shares a hash tag, so that Redis Cluster keeps it in one slot', () => {
  const keys = redisKeys();
  const tag = (key: string) => key.match(/\{([^}]+)\}/)?.[1];
  expect(
    new Set(
      [
        keys.session(USER, 's'),
        keys.sessionPrefix(USER),
        keys.sessions(USER),
        keys.endedSessions(USER),
        keys.gate(USER),
      ].map(tag),
    ),
  ).toEqual(new Set([userTag(USER)]));
  expect(new Set([keys.revocations, keys.epoch, keys.lineLife].map(tag))).toEqual(new Set(['revocations']));
  expect(new Set([keys.mailQueuePrefix, keys.mailLedger('m'), keys.mailAccepted].map(tag))).toEqual(new Set(['mail']));
});

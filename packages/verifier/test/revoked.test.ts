import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createRevoked, type Revocation, readLine, type TokenIdentity, writeLine } from '../src/revoked.ts';

const BORN = 1_795_800_000_000_000;
const EPOCH = { id: 'the epoch', born: BORN };
const LATER = Math.ceil(Date.now() / 1000) + 3600;

// Of the form of ours, and of any other.
const sessionId = fc.constantFrom('kZ0v1mJ4QmS5o0gq2u8f7A', 'kZ0v1mJ4QmS5o0gq2u8f7Q', 'a-jti', '');
const userId = fc.constantFrom(
  '0b8f1f6e-6a0e-4a53-9a53-0d7f3b1c2e4d',
  '0b8f1f6e-6a0e-4a53-9a53-0d7f3b1c2e4e',
  '0B8F1F6E-6A0E-4A53-9A53-0D7F3B1C2E4D',
  'a client',
);
const keyId = fc.constantFrom('a key', 'kZ0v1mJ4QmS5o0gq2u8f7A');
const instant = fc.integer({ min: BORN, max: BORN + 5 });
const until = fc.integer({ min: LATER, max: LATER + 5 });

const revocation: fc.Arbitrary<Revocation> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ sessionId, from: fc.oneof(instant, fc.constant(0)), until }) },
  { weight: 4, arbitrary: fc.record({ userId, cutoff: instant, until }) },
  { weight: 1, arbitrary: fc.record({ keyId, until }) },
);
const token = fc.record({ userId, sessionId, issuedAt: instant, keyId: fc.option(keyId, { nil: undefined }) });

function speaksOf(revocation: Revocation, { userId, sessionId, issuedAt, keyId }: TokenIdentity): boolean {
  if ('keyId' in revocation) return revocation.keyId === keyId;
  if ('userId' in revocation) return revocation.userId === userId && issuedAt <= revocation.cutoff;
  return revocation.sessionId === sessionId && issuedAt >= revocation.from;
}

test('a token is refused if any revocation speaks of it, also by a copy of the copy', () => {
  fc.assert(
    fc.property(fc.array(revocation, { maxLength: 8 }), fc.array(token, { maxLength: 20 }), (revocations, tokens) => {
      const [revoked, copy] = [createRevoked(), createRevoked()];
      for (const one of [revoked, copy]) one.begin(EPOCH);
      for (const one of revocations) revoked.apply(one);
      for (const one of revoked.lines()) copy.apply(readLine(writeLine(one)) ?? { keyId: 'not understood', until: 0 });
      const expected = tokens.map((token) => revocations.some((one) => speaksOf(one, token)));
      expect(tokens.map(revoked.denies)).toEqual(expected);
      expect(tokens.map(copy.denies)).toEqual(expected);
      expect(copy.size()).toBe(revoked.size());
    }),
    { numRuns: 1000 },
  );
});

test('each kind is forgotten when it has ended, and not before', () => {
  const past = Math.floor(Date.now() / 1000) - 100;
  const revoked = createRevoked();
  const revoke = (id: string, until: number) => {
    revoked.apply({ sessionId: id, from: 0, until });
    revoked.apply({ userId: id, cutoff: BORN, until });
    revoked.apply({ keyId: id, until });
  };
  for (const id of ['kZ0v1mJ4QmS5o0gq2u8f7A', '0b8f1f6e-6a0e-4a53-9a53-0d7f3b1c2e4d', 'ended']) revoke(id, past);
  for (const id of ['kZ0v1mJ4QmS5o0gq2u8f7Q', '0b8f1f6e-6a0e-4a53-9a53-0d7f3b1c2e4e', 'lasting'])
    for (const until of [past, LATER, past]) revoke(id, until);
  revoked.sweep(past, 0);
  expect(revoked.size()).toBe(18);
  revoked.sweep(past + 1, 0);
  expect(revoked.size()).toBe(9);
  expect([...revoked.lines()].every(({ until }) => until === LATER)).toBe(true);
});

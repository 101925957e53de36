import { expect, test } from 'vitest';
import { type NewRevocation, readEntry, writeEntry } from '../src/log-entry.ts';

test.each<NewRevocation>([
  { sessionId: 'kZ0v1mJ4QmS5o0gq2u8f7A', from: 0, user: '0b8f1f6e-6a0e-4a53-9a53-0d7f3b1c2e4d' },
  { sessionId: 'kZ0v1mJ4QmS5o0gq2u8f7A', from: 1_795_800_000_123_456, user: '0b8f1f6e-6a0e-4a53-9a53-0d7f3b1c2e4d' },
  { sessionId: 'the-jti-of-a-clients-token', from: 0 },
  { userId: '0b8f1f6e-6a0e-4a53-9a53-0d7f3b1c2e4d', cutoff: 1_795_800_000_123_456 },
  { userId: ' a client 1 of any name ', cutoff: Number.MAX_SAFE_INTEGER - 1 },
  { keyId: 'a key' },
])('what is written of %o is read again', (revocation) => {
  const [name, text] = writeEntry(revocation);
  expect(readEntry(name, `1795800660 ${text}`)).toEqual({ ...revocation, until: 1_795_800_660 });
});

test('an entry of a newer release is none of this one, and what it adds to a session is not taken for its id', () => {
  expect(readEntry('galaxy', '1795800660 0 m31')).toBeUndefined();
  expect(readEntry('sid', '1795800660 0 phone ada and more')).toMatchObject({ sessionId: 'phone' });
});

import { expect, test } from 'vitest';
import { newKey } from '../../src/domain/key-pair.ts';
import { createKeyring } from '../../src/domain/keyring.ts';

/** One id in 64 begins with a given character: that none of so many does is no chance (2 in 10^14). */
const MANY = 2000;

test('no key id looks like an option: `latchkey keys revoke` takes each as it is', async () => {
  const keyring = createKeyring(Buffer.alloc(32, 1));
  for (let count = 0; count < MANY; count += 1)
    expect((await newKey(keyring, 'EdDSA')).kid).toMatch(/^[A-Za-z0-9_][A-Za-z0-9_-]{42}$/);
});

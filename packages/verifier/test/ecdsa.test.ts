import { generateKeyPairSync, sign, verify } from 'node:crypto';
import { expect, test } from 'vitest';
import { derOf, ES256_LENGTH, es256Of, hasLowS, withLowS } from '../src/ecdsa.ts';

/** A DER integer of a P-256 signature, from its 32 bytes. */
function integer(bytes: Buffer): Buffer {
  const first = bytes.findIndex((byte) => byte !== 0);
  const digits = bytes.subarray(first);
  const padded = digits[0] !== undefined && digits[0] >= 0x80 ? Buffer.concat([Buffer.of(0), digits]) : digits;
  return Buffer.concat([Buffer.of(2, padded.length), padded]);
}

test('r and s are 32 bytes each, however short or long OpenSSL writes them', () => {
  for (const [zerosOfR, zerosOfS] of [
    [0, 0],
    [1, 0],
    [0, 1],
    [5, 31],
    [31, 5],
  ] as const)
    for (const top of [0x01, 0x7f, 0x80, 0xff]) {
      const half = (zeros: number) => Buffer.concat([Buffer.alloc(zeros), Buffer.alloc(32 - zeros, top)]);
      const [r, s] = [half(zerosOfR), half(zerosOfS)];
      const body = Buffer.concat([integer(r), integer(s)]);
      const der = Buffer.concat([Buffer.of(0x30, body.length), body]);
      expect(es256Of(der)).toEqual(Buffer.concat([r, s]));
      expect(derOf(Buffer.concat([r, s]))).toEqual(der);
    }
});

test('nothing but zeros is an integer too, and no signature', () => {
  const nothing = Buffer.alloc(ES256_LENGTH);
  expect(derOf(nothing)).toEqual(Buffer.from('3006020100020100', 'hex'));
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  expect(verify('sha256', Buffer.from('anything'), publicKey, derOf(nothing))).toBe(false);
});

test('what OpenSSL has signed is good in the form of JWS, and back', () => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  for (let n = 0; n < 600; n += 1) {
    const input = Buffer.from(`message ${n}`);
    const der = sign('sha256', input, privateKey);
    const signature = es256Of(der);
    expect(signature).toHaveLength(ES256_LENGTH);
    expect(derOf(signature)).toEqual(der);
    expect(verify('sha256', input, { key: publicKey, dsaEncoding: 'ieee-p1363' }, signature)).toBe(true);
  }
});

test('of s and n − s the lower one is taken, on both sides of the middle', () => {
  // SP 800-186 section 3.2.1.3.
  const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
  const r = Buffer.alloc(32, 0xff);
  const signature = (s: bigint) => Buffer.concat([r, Buffer.from(s.toString(16).padStart(64, '0'), 'hex')]);
  const middle = order / 2n;
  for (const low of [1n, 0xffn, middle - 1n, middle]) {
    expect(hasLowS(signature(low))).toBe(true);
    expect(withLowS(signature(low))).toEqual(signature(low));
    expect(hasLowS(signature(order - low))).toBe(false);
    expect(withLowS(signature(order - low))).toEqual(signature(low));
  }
});

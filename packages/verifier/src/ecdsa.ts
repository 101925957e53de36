/**
 * The one form of an ECDSA signature. Of a signature (r, s) anyone can make another good one, (r, n − s), and so of a token another token.
 * The issuer writes the lower s, as in BIP 62 and RFC 6979's common practice, and the verifier takes no other: a token has one form.
 */

/** Bytes of an ES256 signature: r and s (RFC 7518 section 3.4). */
export const ES256_LENGTH = 64;
/** The order n of P-256 (FIPS 186-5, SP 800-186 section 3.2.1.3). */
const ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
const HALF = ORDER / 2n;

const sOf = (signature: Buffer): bigint => BigInt(`0x${signature.toString('hex', 32, ES256_LENGTH)}`);

/** Whether it is the lower of the two. @param signature r ‖ s. */
export const hasLowS = (signature: Buffer): boolean => sOf(signature) <= HALF;

/** The form with the lower s. @param signature r ‖ s, of ES256. */
export function withLowS(signature: Buffer): Buffer {
  const s = sOf(signature);
  if (s <= HALF) return signature;
  const low = (ORDER - s).toString(16).padStart(64, '0');
  return Buffer.concat([signature.subarray(0, 32), Buffer.from(low, 'hex')]);
}

/** r ‖ s, as JWS wants it (RFC 7518 section 3.4). @param der the ASN.1 of a P-256 signature, as OpenSSL writes it (RFC 3279 section 2.2.3). */
export function es256Of(der: Buffer): Buffer {
  const signature = Buffer.alloc(ES256_LENGTH);
  // Behind the head of the sequence: two integers, each behind its type and its length. Of P-256 every length takes one byte.
  let head = 2;
  for (const end of [ES256_LENGTH / 2, ES256_LENGTH]) {
    const start = head + 2;
    const next = start + der.readUInt8(head + 1);
    // A zero byte stands before what would look negative, and none before what is short.
    const digits = Math.max(start, next - ES256_LENGTH / 2);
    der.copy(signature, end - (next - digits), digits, next);
    head = next;
  }
  return signature;
}

/**
 * The one form of an ECDSA signature. Of a signature (r, s) anyone can make another good one, (r, n − s), and so of a token another token.
 * The issuer writes the lower s, as in BIP 62 and RFC 6979's common practice, and the verifier takes no other: a token has one form.
 */

/** Bytes of an ES256 signature: r and s (RFC 7518 section 3.4). */
export const ES256_LENGTH = 64;
/** The order n of P-256 (FIPS 186-5, SP 800-186 section 3.2.1.3). */
const ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
const HALF = bytesOf(ORDER / 2n);

function bytesOf(s: bigint): Buffer {
  return Buffer.from(s.toString(16).padStart(ES256_LENGTH, '0'), 'hex');
}

/** Whether it is the lower of the two. @param signature r ‖ s. */
export const hasLowS = (signature: Buffer): boolean => HALF.compare(signature, ES256_LENGTH / 2) >= 0;

/** The form with the lower s. @param signature r ‖ s, of ES256. */
export function withLowS(signature: Buffer): Buffer {
  if (hasLowS(signature)) return signature;
  const s = BigInt(`0x${signature.toString('hex', ES256_LENGTH / 2)}`);
  return Buffer.concat([signature.subarray(0, ES256_LENGTH / 2), bytesOf(ORDER - s)]);
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

/** The ASN.1 of a signature r ‖ s (RFC 3279 section 2.2.3), which OpenSSL takes as it is. */
export function derOf(signature: Buffer): Buffer {
  const half = ES256_LENGTH / 2;
  // The head of the sequence, and of two integers of up to 33 bytes each.
  const der = Buffer.alloc(2 + 2 * (2 + half + 1));
  const end = writeInteger(der, writeInteger(der, 2, signature.subarray(0, half)), signature.subarray(half));
  der[0] = 0x30;
  der[1] = end - 2;
  return der.subarray(0, end);
}

/** Writes an integer as short as it can be, but not so that it looks negative. @returns where it ends. */
function writeInteger(der: Buffer, at: number, digits: Buffer): number {
  let first = 0;
  while (first < digits.length - 1 && digits[first] === 0) first += 1;
  const sign = (digits[first] ?? 0) < 0x80 ? 0 : 1;
  const length = sign + digits.length - first;
  der[at] = 2;
  der[at + 1] = length;
  digits.copy(der, at + 2 + sign, first);
  return at + 2 + length;
}

/**
 * Tokens that must be refused, each named by its class and where the class was published. Most are signed with the issuer's own key: what refuses
 * them is not the signature.
 */
import { createHmac, generateKeyPairSync, sign } from 'node:crypto';
import { encode, goodHeader, signatureOf, signed, type TestKey, testKey } from './signing.ts';

export interface HostileToken {
  name: string;
  token: string;
}

interface Issuer {
  /** Its key, private part and all; of ES256. */
  key: TestKey;
  /** The claims of a token that is good. */
  claims: Record<string, unknown>;
}

const without = (claims: Record<string, unknown>, name: string) =>
  Object.fromEntries(Object.entries(claims).filter(([claim]) => claim !== name));

/** The order of P-256. */
const ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
const bytesOf = (number: bigint): Buffer => Buffer.from(number.toString(16).padStart(64, '0'), 'hex');

/** Vectors by name. */
export function hostileTokens({ key, claims }: Issuer): HostileToken[] {
  const header = goodHeader(key);
  const good = signed(header, claims, key);
  const [head = '', body = '', signature = ''] = good.split('.');
  const raw = Buffer.from(signature, 'base64url');
  const stranger = testKey('ES256', key.kid);
  const json = JSON.stringify(claims);
  const now = Math.floor(Date.now() / 1000);
  const withHeader = (more: object) => signed({ ...header, ...more }, claims, key);
  const withClaims = (more: object) => signed(header, { ...claims, ...more }, key);
  const withSignature = (bytes: Buffer) => `${head}.${body}.${bytes.toString('base64url')}`;
  const unsigned = (alg: string) => `${encode({ ...header, alg })}.${body}.`;
  const hmac = (alg: string, secret: string | Buffer) => {
    const input = `${encode({ ...header, alg })}.${body}`;
    return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`;
  };
  const pem = key.publicKey.export({ format: 'pem', type: 'spki' }).toString();
  const der = key.publicKey.export({ format: 'der', type: 'spki' });
  const strangerJwk = stranger.publicKey.export({ format: 'jwk' });
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const s = BigInt(`0x${raw.toString('hex', 32)}`);

  const tokens: Record<string, string> = {
    // RFC 8725 section 2.1 and 3.1: the algorithm is not the token's choice
    'alg none (RFC 8725 2.1, CVE-2015-9235)': unsigned('none'),
    'alg None (Auth0 2020, case of none)': unsigned('None'),
    'alg NONE (Auth0 2020, case of none)': unsigned('NONE'),
    'alg nOnE (Auth0 2020, case of none)': unsigned('nOnE'),
    'alg none with the signature left on (RFC 8725 2.1)': `${encode({ ...header, alg: 'none' })}.${body}.${signature}`,
    'alg none without typ and kid (RFC 7519 6)': `${encode({ alg: 'none' })}.${body}.`,
    'alg empty (RFC 8725 3.1)': withHeader({ alg: '' }),
    'alg null (RFC 8725 3.1)': withHeader({ alg: null }),
    'alg as an array (RFC 8725 3.1)': withHeader({ alg: ['ES256'] }),
    'no alg (RFC 7515 4.1.1)': signed({ typ: header.typ, kid: header.kid }, claims, key),
    'alg in lower case (RFC 7515 4.1.1, case-sensitive)': withHeader({ alg: 'es256' }),
    'alg with a blank (RFC 7515 4.1.1)': withHeader({ alg: 'ES256 ' }),
    'alg ES384 with the key of ES256 (RFC 8725 3.1)': withHeader({ alg: 'ES384' }),
    'alg ES256K with the key of ES256 (RFC 8725 3.1)': withHeader({ alg: 'ES256K' }),
    'alg PS256 (RFC 8725 3.1)': withHeader({ alg: 'PS256' }),
    'alg EdDSA with the key of ES256 (RFC 8725 3.1)': withHeader({ alg: 'EdDSA' }),
    'alg RS256 and the signature of an RSA key (RFC 8725 3.1)': (() => {
      const input = `${encode({ ...header, alg: 'RS256' })}.${body}`;
      return `${input}.${sign('sha256', Buffer.from(input), rsa.privateKey).toString('base64url')}`;
    })(),
    // Key confusion
    'HS256 keyed with the public key as PEM (CVE-2016-10555)': hmac('HS256', pem),
    'HS256 keyed with the PEM without its last newline (CVE-2016-10555)': hmac('HS256', pem.trimEnd()),
    'HS256 keyed with the public key as DER (CVE-2016-10555)': hmac('HS256', der),
    'HS256 keyed with the JWK (CVE-2016-10555)': hmac('HS256', JSON.stringify(key.jwk)),
    'HS256 keyed with nothing (CVE-2020-28637 class)': hmac('HS256', ''),
    'HS512 keyed with the public key (CVE-2016-10555)': hmac('HS512', pem),
    // RFC 8725 3.10, RFC 7515 4.1.2 to 4.1.6: keys the token brings along
    'jwk in the header and its signature (CVE-2018-0114)': signed({ ...header, jwk: strangerJwk }, claims, stranger),
    'jwk in the header, no kid (CVE-2018-0114)': signed(
      { alg: 'ES256', typ: 'at+jwt', jwk: strangerJwk },
      claims,
      stranger,
    ),
    'jku to a stranger (RFC 8725 3.10)': signed({ ...header, jku: 'http://127.0.0.1:9/jwks.json' }, claims, stranger),
    'x5u to a stranger (RFC 8725 3.10)': signed({ ...header, x5u: 'http://127.0.0.1:9/cert.pem' }, claims, stranger),
    'x5c of a stranger (RFC 7515 4.1.6)': signed({ ...header, x5c: ['MIIB'] }, claims, stranger),
    'the signature of a stranger under the kid of the issuer (RFC 8725 2.2)': signed(header, claims, stranger),
    // kid
    'kid of nobody (RFC 8725 3.10)': withHeader({ kid: 'nobody' }),
    'kid that climbs folders (RFC 8725 3.10)': withHeader({ kid: '../../../../dev/null' }),
    'kid with SQL (RFC 8725 3.10)': withHeader({ kid: "x' UNION SELECT 'secret' --" }),
    'kid __proto__ (prototype pollution)': withHeader({ kid: '__proto__' }),
    'kid constructor (prototype pollution)': withHeader({ kid: 'constructor' }),
    'kid as an object (RFC 7515 4.1.4)': withHeader({ kid: { toString: key.kid } }),
    'kid as an array (RFC 7515 4.1.4)': withHeader({ kid: [key.kid] }),
    'kid as a number (RFC 7515 4.1.4)': withHeader({ kid: 0 }),
    'kid null (RFC 7515 4.1.4)': withHeader({ kid: null }),
    'kid empty (RFC 7515 4.1.4)': withHeader({ kid: '' }),
    'kid with a null character behind (truncation)': withHeader({ kid: `${key.kid}\0` }),
    'no kid (RFC 7515 4.1.4)': signed({ alg: 'ES256', typ: 'at+jwt' }, claims, key),
    // typ (RFC 8725 3.11, RFC 9068 4)
    'typ JWT: an ID token (RFC 8725 2.8 and 3.11)': withHeader({ typ: 'JWT' }),
    'typ logout+jwt (RFC 8725 3.11)': withHeader({ typ: 'logout+jwt' }),
    'typ dpop+jwt (RFC 9449)': withHeader({ typ: 'dpop+jwt' }),
    'typ secevent+jwt (RFC 8417)': withHeader({ typ: 'secevent+jwt' }),
    'typ as an array (RFC 7515 4.1.9)': withHeader({ typ: ['at+jwt'] }),
    'no typ (RFC 9068 4)': signed({ alg: 'ES256', kid: key.kid }, claims, key),
    // crit (RFC 7515 4.1.11)
    'crit that nobody understands (RFC 7515 4.1.11)': withHeader({ crit: ['exp'], exp: now + 600 }),
    'crit of b64 (RFC 7797 6)': withHeader({ crit: ['b64'], b64: false }),
    'crit empty (RFC 7515 4.1.11)': withHeader({ crit: [] }),
    'crit as text (RFC 7515 4.1.11)': withHeader({ crit: 'exp' }),
    'crit null (RFC 7515 4.1.11)': withHeader({ crit: null }),
    'b64 false, the payload signed as it is (RFC 7797, CVE-2025-4692 class)': (() => {
      const input = `${encode({ ...header, b64: false, crit: ['b64'] })}.${json}`;
      return `${input}.${signatureOf(input, key).toString('base64url')}`;
    })(),
    // Signatures
    'no signature (RFC 7515 5.2)': `${head}.${body}.`,
    'no third part (RFC 7515 3.1)': `${head}.${body}`,
    'r and s zero (CVE-2022-21449, psychic signatures)': withSignature(Buffer.alloc(64)),
    'r zero (CVE-2022-21449)': withSignature(Buffer.concat([Buffer.alloc(32), raw.subarray(32)])),
    's zero (CVE-2022-21449)': withSignature(Buffer.concat([raw.subarray(0, 32), Buffer.alloc(32)])),
    'r and s the order of the curve (CVE-2022-21449)': withSignature(Buffer.concat([bytesOf(ORDER), bytesOf(ORDER)])),
    'r and s one (Wycheproof, special values)': withSignature(Buffer.concat([bytesOf(1n), bytesOf(1n)])),
    's beyond the order (Wycheproof, range)': withSignature(
      Buffer.concat([raw.subarray(0, 32), Buffer.alloc(32, 255)]),
    ),
    'the other s, n − s (ECDSA malleability, BIP 62)': withSignature(
      Buffer.concat([raw.subarray(0, 32), bytesOf(ORDER - s)]),
    ),
    'r and s swapped (RFC 7518 3.4)': withSignature(Buffer.concat([raw.subarray(32), raw.subarray(0, 32)])),
    'DER instead of r ‖ s (RFC 7518 3.4)': withSignature(
      sign('sha256', Buffer.from(`${head}.${body}`), key.privateKey),
    ),
    '63 bytes (RFC 7518 3.4)': withSignature(raw.subarray(0, 63)),
    '65 bytes (RFC 7518 3.4)': withSignature(Buffer.concat([raw, Buffer.alloc(1)])),
    '64 bytes and 64 more (RFC 7518 3.4)': withSignature(Buffer.concat([raw, raw])),
    'another token’s signature (RFC 7515 5.2)': `${good.split('.').slice(0, 2).join('.')}.${signed(header, { ...claims, sub: 'x' }, key).split('.')[2]}`,
    // base64url (RFC 7515 2, RFC 4648 3.5)
    'spare bits set in the signature (RFC 4648 3.5)': `${head}.${body}.${signature.slice(0, -1)}${nextInAlphabet(signature.at(-1) ?? '')}`,
    'padding (RFC 7515 2)': `${good}==`,
    'the alphabet of base64 (RFC 4648 4)': `${head}.${body}.${raw.toString('base64').replaceAll('=', '')}+`,
    'a newline in front (RFC 4648 3.3)': `\n${good}`,
    'a newline behind (RFC 4648 3.3)': `${good}\n`,
    'a blank between (RFC 4648 3.3)': `${head}. ${body}.${signature}`,
    'a null character behind': `${good}\0`,
    'percent-encoded dots': good.replaceAll('.', '%2E'),
    'full-width dots (Unicode)': good.replaceAll('.', '．'),
    // Shape (RFC 7515 3.1, RFC 7516 3.1)
    empty: '',
    'two dots': '..',
    'four parts (RFC 7515 3.1)': `${good}.${signature}`,
    'five parts: a JWE (RFC 7516, CVE-2023-51774 class)': `${encode({ alg: 'dir', enc: 'A256GCM', kid: key.kid, typ: 'at+jwt' })}..AAAA.AAAA.AAAA`,
    'JSON serialisation (RFC 7515 7.2)': JSON.stringify({ protected: head, payload: body, signature }),
    'nested: a token in a token (RFC 8725 3.7)': signed({ ...header, cty: 'JWT' }, good, key),
    'too long (CVE-2024-33664 class)': signed(header, { ...claims, more: 'x'.repeat(5000) }, key),
    'a hundred thousand dots (CVE-2025-30144 class)': '.'.repeat(100_000),
    'a header of a megabyte': `${'A'.repeat(1_000_000)}.${body}.${signature}`,
    // JSON (RFC 8725 2.6; RFC 8259 4: names should be unique)
    'alg twice, the first good (RFC 8259 4)': signed(
      `{"alg":"ES256","alg":"none","typ":"at+jwt","kid":"${key.kid}"}`,
      claims,
      key,
    ),
    'alg twice, the last good (RFC 8259 4)': signed(
      `{"alg":"none","alg":"ES256","typ":"at+jwt","kid":"${key.kid}"}`,
      claims,
      key,
    ),
    'kid twice (RFC 8259 4)': signed(`{"alg":"ES256","typ":"at+jwt","kid":"nobody","kid":"${key.kid}"}`, claims, key),
    'sub twice (RFC 7519 4)': signed(header, json.replace('{', '{"sub":"root",'), key),
    'sub twice, the last another (RFC 7519 4)': signed(header, json.replace(/}$/, ',"sub":"root"}'), key),
    'exp twice (RFC 7519 4)': signed(header, json.replace('{', '{"exp":9999999999,'), key),
    'sub twice, spelled with an escape (RFC 8259 8.3)': signed(header, json.replace('{', '{"s\\u0075b":"root",'), key),
    'a repeated member deeper down (RFC 8259 4)': signed(
      header,
      json.replace('{', '{"act":{"sub":"a","sub":"b"},'),
      key,
    ),
    'blanks in the claims': signed(header, JSON.stringify(claims, undefined, 1), key),
    'a byte order mark (RFC 8259 8.1)': signed(header, `\uFEFF${json}`, key),
    'bytes that are no UTF-8 (RFC 8725 3.7)': (() => {
      const bytes = Buffer.concat([
        Buffer.from(json.slice(0, -1)),
        Buffer.from(',"x":"'),
        Buffer.from([0xff]),
        Buffer.from('"}'),
      ]);
      const input = `${head}.${bytes.toString('base64url')}`;
      return `${input}.${signatureOf(input, key).toString('base64url')}`;
    })(),
    'UTF-16 claims (RFC 8725 3.7)': (() => {
      const input = `${head}.${Buffer.from(json, 'utf16le').toString('base64url')}`;
      return `${input}.${signatureOf(input, key).toString('base64url')}`;
    })(),
    'a trailing comma': signed(header, json.replace(/}$/, ',}'), key),
    'something behind the claims': signed(header, `${json}{}`, key),
    'a comment in the claims': signed(header, json.replace('{', '{/**/'), key),
    'claims that are an array (RFC 7519 7.2)': signed(header, [claims], key),
    'claims that are text (RFC 7519 7.2)': signed(header, '"ada"', key),
    'claims that are null (RFC 7519 7.2)': signed(header, 'null', key),
    'claims that are a number (RFC 7519 7.2)': signed(header, '7', key),
    'claims that are no JSON': signed(header, 'ada', key),
    'a header that is an array (RFC 7515 4)': signed([header], claims, key),
    'a header that is null (RFC 7515 4)': signed('null', claims, key),
    'a thousand brackets (CVE-2020-8840 class)': signed(header, `{"a":${'['.repeat(1000)}${']'.repeat(1000)}`, key),
    '__proto__ with the claims (prototype pollution)': signed(header, `{"__proto__":${json}}`, key),
    '__proto__ with the header (prototype pollution)': signed(`{"__proto__":${JSON.stringify(header)}}`, claims, key),
    // Claims (RFC 8725 3.8, 3.9; RFC 9068 4)
    'another issuer (RFC 8725 3.8)': withClaims({ iss: 'https://evil.example' }),
    'the issuer with a slash behind (RFC 8725 3.8)': withClaims({ iss: `${claims.iss}/` }),
    'the issuer in capitals (RFC 8725 3.8)': withClaims({ iss: String(claims.iss).toUpperCase() }),
    'the issuer in an array (CVE-2024-53861 class)': withClaims({ iss: [claims.iss] }),
    'a part of the issuer (CVE-2024-53861)': withClaims({ iss: String(claims.iss).slice(0, -1) }),
    'no issuer (RFC 9068 4)': signed(header, without(claims, 'iss'), key),
    'another audience (RFC 8725 3.9)': withClaims({ aud: 'https://other.example' }),
    'audiences, ours not among them (RFC 8725 3.9)': withClaims({ aud: ['https://other.example', `${claims.aud}/`] }),
    'no audience among audiences (RFC 8725 3.9)': withClaims({ aud: [] }),
    'an audience in an audience (RFC 7519 4.1.3)': withClaims({ aud: [[claims.aud]] }),
    'an audience that is an object (RFC 7519 4.1.3)': withClaims({ aud: { 0: claims.aud, length: 1 } }),
    'a part of the audience (RFC 8725 3.9)': withClaims({ aud: String(claims.aud).slice(0, -1) }),
    'no audience (RFC 9068 4)': signed(header, without(claims, 'aud'), key),
    'expired (RFC 7519 4.1.4)': withClaims({ exp: now - 1 }),
    'no exp (RFC 9068 2.2)': signed(header, without(claims, 'exp'), key),
    'exp as text (RFC 7519 2, CVE-2019-7644 class)': withClaims({ exp: String(now + 600) }),
    'exp null': withClaims({ exp: null }),
    'exp true': withClaims({ exp: true }),
    'exp as an array': withClaims({ exp: [now + 600] }),
    'exp beyond all numbers': signed(header, json.replace(/"exp":\d+/, '"exp":1e999'), key),
    'exp in exponents': signed(header, json.replace(/"exp":\d+/, '"exp":9e9'), key),
    'exp negative': withClaims({ exp: -1 }),
    'not yet (RFC 7519 4.1.5)': withClaims({ nbf: now + 3600 }),
    'nbf as text (RFC 7519 4.1.5)': withClaims({ nbf: String(now) }),
    'no iat (RFC 9068 2.2)': signed(header, without(claims, 'iat'), key),
    'iat as text (RFC 7519 4.1.6)': withClaims({ iat: String(now) }),
    'no sub (RFC 9068 2.2)': signed(header, without(claims, 'sub'), key),
    'sub as an object': withClaims({ sub: { id: 'ada' } }),
    'sub as an array': withClaims({ sub: ['ada'] }),
    'sub empty': withClaims({ sub: '' }),
    'no jti (RFC 9068 2.2)': signed(header, without(claims, 'jti'), key),
    'a jti without the instant of issue': withClaims({ jti: 'x' }),
    'a jti of before the epoch': withClaims({ jti: 'AAAAAAAAAAAA'.padEnd(59, 'A') }),
    'no client_id (RFC 9068 2.2)': signed(header, without(claims, 'client_id'), key),
    'scope as an array (RFC 8693 4.2)': withClaims({ scope: ['account'] }),
    'sid as an object': withClaims({ sid: {} }),
  };
  return Object.entries(tokens).map(([name, token]) => ({ name, token }));
}

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
/** The same bytes for a lenient decoder. */
const nextInAlphabet = (character: string): string => ALPHABET[ALPHABET.indexOf(character) + 1] ?? '';

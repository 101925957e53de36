/**
 * Tokens that must be refused, each named by its class and where the class was published. Most are signed with the issuer's own key: what refuses
 * them is not the signature.
 */
import { constants, createHmac, generateKeyPairSync, hash, privateEncrypt, sign } from 'node:crypto';
import { deflateRawSync } from 'node:zlib';
import type { Algorithm } from '../src/jwt.ts';
import { encode, goodHeader, signatureOf, signed, type TestKey, testKey } from './signing.ts';

export interface HostileToken {
  /** `class: what (source)` */
  name: string;
  token: string;
}

interface Issuer {
  /** Its key, private part and all. */
  key: TestKey;
  /** The claims of a token that is good. */
  claims: Record<string, unknown>;
  /** Where keys would be had that are not the issuer's; nobody may ask there. */
  elsewhere?: string;
}

/** A port that is closed. */
const NOWHERE = 'http://127.0.0.1:9';

/** What tokens of one class have in common, by what each of them is. */
type Classes = Record<string, Record<string, string>>;

const without = (claims: Record<string, unknown>, name: string) =>
  Object.fromEntries(Object.entries(claims).filter(([claim]) => claim !== name));

const bytesOf = (number: bigint, length = 32): Buffer =>
  Buffer.from(number.toString(16).padStart(2 * length, '0'), 'hex');
const numberOf = (bytes: Buffer): bigint => BigInt(`0x${bytes.toString('hex')}`);

/** A good token of this issuer, and the ways to make another of it. */
function workshop({ key, claims, elsewhere = NOWHERE }: Issuer) {
  const header = goodHeader(key);
  const good = signed(header, claims, key);
  const [head = '', body = '', signature = ''] = good.split('.');
  const raw = Buffer.from(signature, 'base64url');
  return {
    key,
    claims,
    elsewhere,
    header,
    good,
    head,
    body,
    signature,
    raw,
    /** Of the same kind and by the same name, in other hands. */
    stranger: testKey(key.alg, key.kid),
    json: JSON.stringify(claims),
    now: Math.floor(Date.now() / 1000),
    withHeader: (more: object) => signed({ ...header, ...more }, claims, key),
    withClaims: (more: object) => signed(header, { ...claims, ...more }, key),
    withSignature: (bytes: Buffer) => `${head}.${body}.${bytes.toString('base64url')}`,
    /** The claims as these bytes, signed. */
    withBytes: (bytes: Buffer, more: object = {}) => {
      const input = `${encode({ ...header, ...more })}.${bytes.toString('base64url')}`;
      return `${input}.${signatureOf(input, key).toString('base64url')}`;
    },
    /** Says this algorithm, and is signed like this. */
    made: (alg: string, signatureOver: (input: Buffer) => Buffer) => {
      const input = `${encode({ ...header, alg })}.${body}`;
      return `${input}.${signatureOver(Buffer.from(input)).toString('base64url')}`;
    },
    hmac: (alg: string, secret: string | Buffer, more: object = {}) => {
      const input = `${encode({ ...header, alg, ...more })}.${body}`;
      const mac = createHmac(`sha${alg.slice(2)}`, secret)
        .update(input)
        .digest('base64url');
      return `${input}.${mac}`;
    },
    /** Five parts, as an encrypted token has them. */
    jwe: (more: object, encrypted: Buffer = Buffer.from('never read')) =>
      [
        encode({ alg: 'dir', enc: 'A256GCM', kid: key.kid, typ: 'at+jwt', ...more }),
        '',
        'AAAAAAAAAAAAAAAA',
        encrypted.toString('base64url'),
        'AAAAAAAAAAAAAAAAAAAAAA',
      ].join('.'),
  };
}

type Workshop = ReturnType<typeof workshop>;

/** RFC 8725 section 2.1 and 3.1: the algorithm is the key's and not the token's choice; published again and again. */
function algorithms({ key, header, head, body, signature, claims, withHeader, made }: Workshop): Classes {
  const unsigned = (alg: string) => `${encode({ ...header, alg })}.${body}.`;
  const others = ['ES256', 'ES384', 'ES512', 'ES256K', 'EdDSA', 'Ed25519', 'RS256', 'RS384', 'RS512', 'PS256', 'HS256'];
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return {
    'no signature': {
      'alg none (RFC 8725 2.1, CVE-2015-9235)': unsigned('none'),
      'alg None (Auth0 2020, CVE-2018-1000531 class)': unsigned('None'),
      'alg NONE (Auth0 2020, CVE-2018-1000531 class)': unsigned('NONE'),
      'alg nOnE (Auth0 2020, CVE-2018-1000531 class)': unsigned('nOnE'),
      'alg none with the signature left on (RFC 8725 2.1)': `${encode({ ...header, alg: 'none' })}.${body}.${signature}`,
      'alg none without typ and kid (RFC 7519 6)': `${encode({ alg: 'none' })}.${body}.`,
      'the good algorithm and nothing behind the last dot (CVE-2020-28042)': `${head}.${body}.`,
      'no third part (RFC 7515 3.1)': `${head}.${body}`,
    },
    'the algorithm is not the token’s choice': {
      ...Object.fromEntries(
        others.filter((alg) => alg !== key.alg).map((alg) => [`alg ${alg} (RFC 8725 3.1)`, withHeader({ alg })]),
      ),
      'alg empty (RFC 8725 3.1)': withHeader({ alg: '' }),
      'alg null (RFC 8725 3.1)': withHeader({ alg: null }),
      'alg as an array (RFC 8725 3.1)': withHeader({ alg: [key.alg] }),
      'no alg (RFC 7515 4.1.1)': signed({ typ: header.typ, kid: header.kid }, claims, key),
      'Alg instead of alg (RFC 7515 4.1.1, case-sensitive)': signed(
        { Alg: key.alg, typ: header.typ, kid: header.kid },
        claims,
        key,
      ),
      'alg in another case (RFC 7515 4.1.1, case-sensitive)': withHeader({ alg: key.alg.toLowerCase() }),
      'alg with a blank (RFC 7515 4.1.1)': withHeader({ alg: `${key.alg} ` }),
      'alg with a null character (RFC 7515 4.1.1)': withHeader({ alg: `${key.alg}\0` }),
      'alg RS256 and the signature of an RSA key of somebody (RFC 8725 3.1)': made('RS256', (input) =>
        sign('sha256', input, rsa.privateKey),
      ),
    },
  };
}

/** A public key taken for a secret; secrets anybody knows. */
function secrets({ key, hmac, good }: Workshop): Classes {
  const pem = key.publicKey.export({ format: 'pem', type: 'spki' }).toString();
  const guessable = Buffer.alloc(32).toString('base64url');
  return {
    'key confusion': {
      'HS256 keyed with the public key as PEM (CVE-2016-10555)': hmac('HS256', pem),
      'HS256 keyed with the PEM without its last newline (CVE-2016-10555)': hmac('HS256', pem.trimEnd()),
      'HS256 keyed with the PEM behind a newline (CVE-2026-34950)': hmac('HS256', `\n${pem}`),
      'HS256 keyed with the public key as DER (CVE-2016-10555)': hmac(
        'HS256',
        key.publicKey.export({ format: 'der', type: 'spki' }),
      ),
      'HS256 keyed with the JWK (CVE-2016-10555)': hmac('HS256', JSON.stringify(key.jwk)),
      'HS256 keyed with a number of the JWK (CVE-2016-10555)': hmac(
        'HS256',
        Buffer.from(String(key.jwk.x ?? key.jwk.n), 'base64url'),
      ),
      'HS384 keyed with the public key (CVE-2016-10555)': hmac('HS384', pem),
      'HS512 keyed with the public key (CVE-2016-10555)': hmac('HS512', pem),
    },
    'weak secrets': {
      'HS256 keyed with nothing (CVE-2020-28637)': hmac('HS256', ''),
      'HS256 keyed with a word (RFC 8725 2.2 and 3.5)': hmac('HS256', 'secret'),
      'HS256 keyed with zeros (RFC 8725 2.2 and 3.5)': hmac('HS256', Buffer.alloc(32)),
      'HS256 keyed with the kid (RFC 8725 2.2 and 3.5)': hmac('HS256', key.kid),
      'HS256 keyed with a good token (RFC 8725 2.2 and 3.5)': hmac('HS256', good),
      'HS256 keyed with a secret in the header (CVE-2018-0114 class)': hmac('HS256', Buffer.alloc(32), {
        jwk: { kty: 'oct', k: guessable },
      }),
    },
  };
}

/** What a header says of keys is data of whoever sent it. */
function keysOfTheToken({ key, claims, elsewhere, header, stranger, withHeader }: Workshop): Classes {
  const jwk = stranger.publicKey.export({ format: 'jwk' });
  const { alg } = key;
  return {
    'keys the token brings along': {
      'jwk in the header and its signature (CVE-2018-0114)': signed({ ...header, jwk }, claims, stranger),
      'jwk in the header, no kid (CVE-2018-0114)': signed({ alg, typ: 'at+jwt', jwk }, claims, stranger),
      'jku to a stranger (RFC 8725 2.9 and 3.10)': signed(
        { ...header, jku: `${elsewhere}/jwks.json` },
        claims,
        stranger,
      ),
      'x5u to a stranger (RFC 8725 2.9 and 3.10)': signed(
        { ...header, x5u: `${elsewhere}/cert.pem` },
        claims,
        stranger,
      ),
      'x5c of a stranger (RFC 7515 4.1.6)': signed({ ...header, x5c: ['MIIB'] }, claims, stranger),
      'the signature of a stranger under the kid of the issuer (RFC 8725 2.1)': signed(header, claims, stranger),
    },
    'kid that reaches for something else': {
      'of nobody (RFC 8725 3.10)': withHeader({ kid: 'nobody' }),
      'that climbs folders (RFC 8725 2.9 and 3.10)': withHeader({ kid: '../../../../dev/null' }),
      'with SQL (RFC 8725 2.9 and 3.10)': withHeader({ kid: "x' UNION SELECT 'secret' --" }),
      'with a command (RFC 8725 2.9 and 3.10)': withHeader({ kid: '$(touch /tmp/x)|id' }),
      'that is an address (RFC 8725 2.9 and 3.10)': withHeader({ kid: `${elsewhere}/jwks.json` }),
      '__proto__ (CWE-1321, prototype pollution)': withHeader({ kid: '__proto__' }),
      'constructor (CWE-1321, prototype pollution)': withHeader({ kid: 'constructor' }),
      'as an object (RFC 7515 4.1.4)': withHeader({ kid: { toString: key.kid } }),
      'as an array (RFC 7515 4.1.4)': withHeader({ kid: [key.kid] }),
      'as a number (RFC 7515 4.1.4)': withHeader({ kid: 0 }),
      'null (RFC 7515 4.1.4)': withHeader({ kid: null }),
      'empty (RFC 7515 4.1.4)': withHeader({ kid: '' }),
      'with a null character behind (RFC 8725 3.10)': withHeader({ kid: `${key.kid}\0` }),
      'left out (RFC 7515 4.1.4)': signed({ alg, typ: 'at+jwt' }, claims, key),
    },
  };
}

/** RFC 8725 section 2.8, 3.11 and 3.12, RFC 9068 section 4; RFC 7515 section 4.1.11. */
function kinds({ key, claims, header, json, now, withHeader }: Workshop): Classes {
  const { alg, kid } = key;
  return {
    'a token made for something else': {
      'typ JWT: an ID token (RFC 8725 2.8, 3.11 and 3.12)': signed(
        { ...header, typ: 'JWT' },
        { ...claims, nonce: 'n', auth_time: now },
        key,
      ),
      'typ logout+jwt (RFC 8725 3.11)': withHeader({ typ: 'logout+jwt' }),
      'typ dpop+jwt (RFC 9449 4.2)': withHeader({ typ: 'dpop+jwt' }),
      'typ secevent+jwt (RFC 8417 2.3)': withHeader({ typ: 'secevent+jwt' }),
      'typ token-introspection+jwt (RFC 9701 5)': withHeader({ typ: 'token-introspection+jwt' }),
      'typ as an array (RFC 7515 4.1.9)': withHeader({ typ: ['at+jwt'] }),
      'no typ (RFC 9068 4)': signed({ alg, kid }, claims, key),
    },
    'crit that is not understood': {
      'of nobody’s (CVE-2025-59420, CVE-2026-35042)': withHeader({ crit: ['bork'], bork: 'x' }),
      'of a claim (RFC 7515 4.1.11)': withHeader({ crit: ['exp'], exp: now + 600 }),
      'of what is not there (RFC 7515 4.1.11)': withHeader({ crit: ['bork'] }),
      'of what may not stand there (RFC 7515 4.1.11)': withHeader({ crit: ['alg'] }),
      'of b64 (RFC 7797 6)': withHeader({ crit: ['b64'], b64: false }),
      'empty (RFC 7515 4.1.11)': withHeader({ crit: [] }),
      'as text (RFC 7515 4.1.11)': withHeader({ crit: 'exp' }),
      'null (RFC 7515 4.1.11)': withHeader({ crit: null }),
      ...Object.fromEntries(
        [{ b64: false, crit: ['b64'] }, { b64: false }].map((more) => {
          const input = `${encode({ ...header, ...more })}.${json}`;
          const how = 'crit' in more ? 'with' : 'without';
          return [
            `b64 false ${how} crit, the claims signed as they are (RFC 7797 5 and 6)`,
            `${input}.${signatureOf(input, key).toString('base64url')}`,
          ];
        }),
      ),
    },
  };
}

/** The order of P-256. */
const P256_ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
/** The order of the base point of Ed25519 (RFC 8032 section 5.1). */
const ED25519_ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;

/** Signatures that are not the one the issuer wrote, by the algorithm of its key. */
const signatures: Readonly<Record<Algorithm, (shop: Workshop) => Record<string, string>>> = {
  ES256: ({ raw, key, head, body, withSignature }) => {
    const [r, s] = [raw.subarray(0, 32), raw.subarray(32)];
    const of = (...parts: Buffer[]) => withSignature(Buffer.concat(parts));
    const order = bytesOf(P256_ORDER);
    return {
      'r and s zero (CVE-2022-21449, psychic signatures)': of(Buffer.alloc(64)),
      'r zero (CVE-2022-21449)': of(Buffer.alloc(32), s),
      's zero (CVE-2022-21449)': of(r, Buffer.alloc(32)),
      'r and s the order of the curve (CVE-2022-21449)': of(order, order),
      'r and s one (Wycheproof, special values)': of(bytesOf(1n), bytesOf(1n)),
      'r beyond the order (Wycheproof, range)': of(Buffer.alloc(32, 255), s),
      's beyond the order (Wycheproof, range)': of(r, Buffer.alloc(32, 255)),
      'the other s, n − s (ECDSA malleability, BIP 62)': of(r, bytesOf(P256_ORDER - numberOf(s))),
      'r and s swapped (RFC 7518 3.4)': of(s, r),
      'DER instead of r ‖ s (RFC 7518 3.4)': of(sign('sha256', Buffer.from(`${head}.${body}`), key.privateKey)),
    };
  },
  EdDSA: ({ raw, withSignature }) => {
    const [point, s] = [raw.subarray(0, 32), Buffer.from(raw.subarray(32)).reverse()];
    const of = (...parts: Buffer[]) => withSignature(Buffer.concat(parts));
    const identity = Buffer.alloc(32);
    identity[0] = 1;
    return {
      'S and the order, S + L (RFC 8032 5.1.7 and 8.4, malleability)': of(
        point,
        bytesOf(numberOf(s) + ED25519_ORDER).reverse(),
      ),
      'nothing but zeros (Wycheproof, special values)': of(Buffer.alloc(64)),
      'the point of order one, S zero (Wycheproof, special values)': of(identity, Buffer.alloc(32)),
      'S zero (Wycheproof, special values)': of(point, Buffer.alloc(32)),
      'S all ones (RFC 8032 5.1.7)': of(point, Buffer.alloc(32, 255)),
      'R and S swapped (RFC 8032 5.1.6)': of(raw.subarray(32), point),
    };
  },
  RS256: ({ raw, key, made, withSignature }) => {
    const modulus = numberOf(Buffer.from(String(key.jwk.n), 'base64url'));
    const { privateKey } = key;
    const pss = { key: privateKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };
    return {
      'PS256 by the same key, and named so (RFC 8725 3.1)': made('PS256', (input) => sign('sha256', input, pss)),
      'PS256 by the same key, named RS256 (RFC 7518 3.3)': made('RS256', (input) => sign('sha256', input, pss)),
      'RS512 by the same key, and named so (RFC 8725 3.1)': made('RS512', (input) => sign('sha512', input, privateKey)),
      'RS512 by the same key, named RS256 (RFC 7518 3.3)': made('RS256', (input) => sign('sha512', input, privateKey)),
      'SHA-1 by the same key, named RS256 (RFC 8725 3.2)': made('RS256', (input) => sign('sha1', input, privateKey)),
      'a hash without its name (RFC 8017 8.2.2, Wycheproof)': made('RS256', (input) =>
        privateEncrypt(privateKey, hash('sha256', input, 'buffer')),
      ),
      'and the modulus, s + n (RFC 8017 8.2.2, Wycheproof)': withSignature(bytesOf(numberOf(raw) + modulus, 257)),
      'with a zero in front (RFC 8017 8.2.2)': withSignature(Buffer.concat([Buffer.alloc(1), raw])),
      'nothing but zeros (Wycheproof, special values)': withSignature(Buffer.alloc(256)),
      'one (Wycheproof, special values)': withSignature(bytesOf(1n, 256)),
      'the modulus less one (Wycheproof, special values)': withSignature(bytesOf(modulus - 1n, 256)),
    };
  },
};

/** RFC 7515 section 2 and 5.2, RFC 4648 section 3: other characters that a lenient decoder takes for the same bytes. */
function writing(shop: Workshop): Classes {
  const { key, claims, header, good, head, body, signature, raw, withSignature } = shop;
  return {
    'a signature that is not this token’s': {
      'one byte short (RFC 7518 3)': withSignature(raw.subarray(0, -1)),
      'one byte long (RFC 7518 3)': withSignature(Buffer.concat([raw, Buffer.alloc(1)])),
      'twice (RFC 7518 3)': withSignature(Buffer.concat([raw, raw])),
      'one bit off (RFC 8725 3.3)': withSignature(
        Buffer.concat([raw.subarray(0, -1), Buffer.of((raw.at(-1) ?? 0) ^ 1)]),
      ),
      'of another token (RFC 7515 5.2)': `${head}.${body}.${signed(header, { ...claims, sub: 'x' }, key).split('.')[2]}`,
      'of a good one, behind other claims (CVE-2026-35039 class)': `${head}.${encode({ ...claims, sub: 'root' })}.${signature}`,
    },
    'not canonical base64url': {
      'spare bits set in the signature (RFC 4648 3.5)': `${head}.${body}.${signature.slice(0, -1)}${nextInAlphabet(signature.at(-1) ?? '')}`,
      'padding (RFC 7515 2)': `${good}==`,
      'the alphabet of base64 (RFC 4648 4)': inBase64(shop),
      'a newline in front (RFC 4648 3.3)': `\n${good}`,
      'a newline behind (RFC 4648 3.3)': `${good}\n`,
      'a blank between (RFC 4648 3.3)': `${head}. ${body}.${signature}`,
      'a null character behind (RFC 4648 3.3)': `${good}\0`,
      'percent-encoded dots (RFC 7515 3.1)': good.replaceAll('.', '%2E'),
      'full-width dots (RFC 7515 3.1)': good.replaceAll('.', '．'),
    },
  };
}

/** RFC 8725 section 2.3 to 2.5, 3.3 and 3.6: what is no signed token, or one in something else; and what is too much of anything. */
function shapes({ key, claims, header, good, head, body, signature, json, jwe, withBytes }: Workshop): Classes {
  const deflated = deflateRawSync(json);
  return {
    'not three parts': {
      'empty (RFC 7515 3.1)': '',
      'two dots (RFC 7515 3.1)': '..',
      'four parts (RFC 7515 3.1)': `${good}.${signature}`,
      'JSON serialisation, flattened (RFC 7515 7.2.2)': JSON.stringify({ protected: head, payload: body, signature }),
      'JSON serialisation, general (RFC 7515 7.2.1)': JSON.stringify({
        payload: body,
        signatures: [{ protected: head, signature }],
      }),
    },
    'encrypted, nested, compressed': {
      'a JWE (RFC 8725 2.3, CVE-2023-51774)': jwe({}),
      'a JWE around a good token (RFC 8725 2.3 and 3.3)': jwe({ cty: 'JWT' }, Buffer.from(good)),
      'a JWE around an unsigned token (CVE-2026-29000 class)': jwe(
        { alg: 'RSA-OAEP', cty: 'JWT' },
        Buffer.from(`${encode({ alg: 'none' })}.${body}.`),
      ),
      'a JWE that is deflated (RFC 8725 2.4 and 3.6, CVE-2024-33664)': jwe(
        { zip: 'DEF' },
        deflateRawSync(Buffer.alloc(1_000_000)),
      ),
      'a JWE by a password of very many rounds (CVE-2023-51775)': jwe({
        alg: 'PBES2-HS256+A128KW',
        p2c: 2_147_483_647,
        p2s: 'AAAAAAAAAAA',
      }),
      'a JWE by a point that is not on the curve (RFC 8725 2.5 and 3.4, CVE-2017-16007)': jwe({
        alg: 'ECDH-ES',
        epk: { kty: 'EC', crv: 'P-256', x: 'A'.repeat(42).concat('E'), y: 'A'.repeat(42).concat('E') },
      }),
      'a token in a token (RFC 8725 3.3)': signed({ ...header, cty: 'JWT' }, good, key),
      'claims that are deflated (RFC 8725 3.6)': withBytes(deflated, { zip: 'DEF' }),
    },
    'too much': {
      'too long (CVE-2024-33664 class)': signed(header, { ...claims, more: 'x'.repeat(5000) }, key),
      'a hundred thousand dots (CVE-2025-30204, CVE-2025-27144)': '.'.repeat(100_000),
      'a header of a megabyte (CVE-2025-22868 class)': `${'A'.repeat(1_000_000)}.${body}.${signature}`,
      'a thousand brackets (CVE-2020-36518 class)': signed(header, `{"a":${'['.repeat(1000)}${']'.repeat(1000)}}`, key),
    },
  };
}

/** RFC 8725 section 2.6 and 3.7; RFC 8259. */
function json({ key, claims, header, json: text, withBytes }: Workshop): Classes {
  const { alg, kid } = key;
  return {
    'a member twice': {
      'alg, the first good (RFC 8259 4)': signed(
        `{"alg":"${alg}","alg":"none","typ":"at+jwt","kid":"${kid}"}`,
        claims,
        key,
      ),
      'alg, the last good (RFC 8259 4)': signed(
        `{"alg":"none","alg":"${alg}","typ":"at+jwt","kid":"${kid}"}`,
        claims,
        key,
      ),
      'kid (RFC 8259 4)': signed(`{"alg":"${alg}","typ":"at+jwt","kid":"nobody","kid":"${kid}"}`, claims, key),
      'sub (RFC 7519 4)': signed(header, text.replace('{', '{"sub":"root",'), key),
      'sub, the last another (RFC 7519 4)': signed(header, text.replace(/}$/, ',"sub":"root"}'), key),
      'exp (RFC 7519 4)': signed(header, text.replace('{', '{"exp":9999999999,'), key),
      'sub, spelled with an escape (RFC 8259 8.3)': signed(header, text.replace('{', '{"s\\u0075b":"root",'), key),
      'one deeper down (RFC 8259 4)': signed(header, text.replace('{', '{"act":{"sub":"a","sub":"b"},'), key),
    },
    'JSON written or read in another way': {
      'blanks in the claims (RFC 8725 2.6)': signed(header, JSON.stringify(claims, undefined, 1), key),
      'a byte order mark (RFC 8259 8.1)': signed(header, `\uFEFF${text}`, key),
      'bytes that are no UTF-8 (RFC 8725 3.7)': withBytes(
        Buffer.concat([Buffer.from(text.slice(0, -1)), Buffer.from(',"x":"'), Buffer.of(0xff), Buffer.from('"}')]),
      ),
      'UTF-16 claims (RFC 8725 2.6 and 3.7)': withBytes(Buffer.from(text, 'utf16le')),
      'a trailing comma (RFC 8259 4)': signed(header, text.replace(/}$/, ',}'), key),
      'something behind the claims (RFC 8259 2)': signed(header, `${text}{}`, key),
      'a comment in the claims (RFC 8259 2)': signed(header, text.replace('{', '{/**/'), key),
      'claims that are no JSON (RFC 7519 7.2)': signed(header, 'ada', key),
    },
    'no object, or one with a false bottom': {
      'claims that are an array (RFC 7519 7.2)': signed(header, [claims], key),
      'claims that are text (RFC 7519 7.2)': signed(header, '"ada"', key),
      'claims that are null (RFC 7519 7.2)': signed(header, 'null', key),
      'claims that are a number (RFC 7519 7.2)': signed(header, '7', key),
      'a header that is an array (RFC 7515 4)': signed([header], claims, key),
      'a header that is null (RFC 7515 4)': signed('null', claims, key),
      '__proto__ with the claims (CWE-1321, prototype pollution)': signed(header, `{"__proto__":${text}}`, key),
      '__proto__ with the header (CWE-1321, prototype pollution)': signed(
        `{"__proto__":${JSON.stringify(header)}}`,
        claims,
        key,
      ),
    },
  };
}

/** RFC 8725 section 2.7, 3.8 and 3.9; RFC 9068 section 2.2 and 4. */
function claimed({ key, claims, header, json: text, now, withClaims }: Workshop): Classes {
  return {
    'of another issuer': {
      'another (RFC 8725 3.8)': withClaims({ iss: 'https://evil.example' }),
      'with a slash behind (RFC 8725 3.8)': withClaims({ iss: `${claims.iss}/` }),
      'in capitals (RFC 8725 3.8)': withClaims({ iss: String(claims.iss).toUpperCase() }),
      'in an array (CVE-2025-30144)': withClaims({ iss: [claims.iss] }),
      'in an array, behind another (CVE-2025-30144)': withClaims({ iss: ['https://evil.example', claims.iss] }),
      'a part of it (CVE-2024-53861)': withClaims({ iss: String(claims.iss).slice(0, -1) }),
      'none (RFC 9068 4)': signed(header, without(claims, 'iss'), key),
    },
    'for another audience': {
      'another (RFC 8725 2.7 and 3.9)': withClaims({ aud: 'https://other.example' }),
      'ours not among them (RFC 8725 2.7 and 3.9)': withClaims({ aud: ['https://other.example', `${claims.aud}/`] }),
      'nobody among them (RFC 8725 3.9)': withClaims({ aud: [] }),
      'one in another (RFC 7519 4.1.3)': withClaims({ aud: [[claims.aud]] }),
      'as an object (RFC 7519 4.1.3)': withClaims({ aud: { 0: claims.aud, length: 1 } }),
      'a part of it (RFC 8725 3.9)': withClaims({ aud: String(claims.aud).slice(0, -1) }),
      'none (RFC 9068 4)': signed(header, without(claims, 'aud'), key),
    },
    'not now': {
      'expired (RFC 7519 4.1.4)': withClaims({ exp: now - 1 }),
      'no exp (RFC 9068 2.2)': signed(header, without(claims, 'exp'), key),
      'exp as text (RFC 7519 2 and 4.1.4)': withClaims({ exp: String(now + 600) }),
      'exp null (RFC 7519 4.1.4)': withClaims({ exp: null }),
      'exp true (RFC 7519 4.1.4)': withClaims({ exp: true }),
      'exp as an array (RFC 7519 4.1.4)': withClaims({ exp: [now + 600] }),
      'exp beyond all numbers (RFC 8259 6)': signed(header, text.replace(/"exp":\d+/, '"exp":1e999'), key),
      'exp in exponents (RFC 8725 2.6)': signed(header, text.replace(/"exp":\d+/, '"exp":9e9'), key),
      'exp negative (RFC 7519 4.1.4)': withClaims({ exp: -1 }),
      'not yet (RFC 7519 4.1.5)': withClaims({ nbf: now + 3600 }),
      'nbf as text (RFC 7519 4.1.5)': withClaims({ nbf: String(now) }),
      'no iat (RFC 9068 2.2)': signed(header, without(claims, 'iat'), key),
      'iat as text (RFC 7519 4.1.6)': withClaims({ iat: String(now) }),
    },
    'of nobody': {
      'no sub (RFC 9068 2.2)': signed(header, without(claims, 'sub'), key),
      'sub as an object (RFC 7519 4.1.2)': withClaims({ sub: { id: 'ada' } }),
      'sub as an array (RFC 7519 4.1.2)': withClaims({ sub: ['ada'] }),
      'sub empty (RFC 8725 3.8)': withClaims({ sub: '' }),
      'no client_id (RFC 9068 2.2)': signed(header, without(claims, 'client_id'), key),
      'scope as an array (RFC 8693 4.2)': withClaims({ scope: ['account'] }),
      'sid as an object (OpenID Connect Back-Channel Logout 2.1)': withClaims({ sid: {} }),
      'no jti (RFC 9068 2.2)': signed(header, without(claims, 'jti'), key),
    },
    'issued before anything is known': {
      'a jti without the instant of issue (RFC 7519 4.1.7)': withClaims({ jti: 'x' }),
      'a jti of before the epoch (RFC 7519 4.1.7)': withClaims({ jti: 'AAAAAAAAAAAA'.padEnd(59, 'A') }),
    },
  };
}

/** Vectors by name. */
export function hostileTokens(issuer: Issuer): HostileToken[] {
  const shop = workshop(issuer);
  const { alg } = issuer.key;
  const classes: Classes = {
    ...algorithms(shop),
    ...secrets(shop),
    ...keysOfTheToken(shop),
    ...kinds(shop),
    [`a forged or malleable signature of ${alg}`]: signatures[alg](shop),
    ...writing(shop),
    ...shapes(shop),
    ...json(shop),
    ...claimed(shop),
  };
  return Object.entries(classes).flatMap(([name, tokens]) =>
    Object.entries(tokens).map(([what, token]) => ({ name: `${name}: ${what}`, token })),
  );
}

/** A good token but for one character of its signature, written as base64 has it. */
function inBase64({ withClaims }: Workshop): string {
  // Until a signature has such a character: which ones it has, the claims decide.
  for (let nonce = 0; ; nonce += 1) {
    const token = withClaims({ nonce });
    const at = token.lastIndexOf('.');
    const signature = token.slice(at).replace(/[-_]/, (character) => (character === '-' ? '+' : '/'));
    if (signature !== token.slice(at)) return token.slice(0, at) + signature;
  }
}

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
/** The same bytes for a lenient decoder. */
const nextInAlphabet = (character: string): string => ALPHABET[ALPHABET.indexOf(character) + 1] ?? '';

/**
 * Verification with nobody asked, and what it is compared with. Arguments: the port of its HTTP side, the Redis whose revocations are followed.
 * Each token is read anew from bytes, as from a request: a string that was looked up before would be found faster than any that comes.
 */
import { generateKeyPairSync, randomBytes, sign, verify } from 'node:crypto';
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { withLowS } from '@latchkey/verifier/ecdsa';
import { revocationsInRedis } from '@latchkey/verifier/redis';
import { createVerifier } from '@latchkey/verifier/verifier';
import { createVerifier as createFastJwt } from 'fast-jwt';
import { Redis } from 'ioredis';
import { ISSUER, listen, steadyNow, textArgument } from './control.ts';

/**
 * What `/start` answers: how long it took until the revocations were known, and the bytes they take: those that are kept, and those by which
 * the process has grown, with what V8 has not given back since.
 */
export type Start = { readonly milliseconds: number; readonly kept: number; readonly grown: number };

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
function memory(): { kept: number; rss: number } {
  collect();
  // What lay outside the heap is let go beside the program, and counted until the next collection begins.
  collect();
  const { heapUsed, arrayBuffers, rss } = process.memoryUsage();
  return { kept: heapUsed + arrayBuffers, rss };
}

const redisUrl = textArgument(2);
const before = memory();
const began = steadyNow();
const revocations = revocationsInRedis({ redis: redisUrl });
while (!revocations.fresh()) await delay(1);
const milliseconds = steadyNow() - began;
const after = memory();
const start: Start = { milliseconds, kept: after.kept - before.kept, grown: after.rss - before.rss };

/** Verified by turns, as many as requests are in flight in the other benchmarks. */
const TOKENS = 64;
const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const jwk = { ...publicKey.export({ format: 'jwk' }), kid: 'bench', alg: 'ES256', use: 'sig' };
const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** As auth-api writes it. */
function signedToken(): { token: Buffer; signed: Buffer; signature: Buffer; der: Buffer } {
  const iat = Math.floor(Date.now() / 1000);
  const jti = randomBytes(44);
  jti.writeBigUInt64BE(BigInt(Date.now() * 1000));
  const claims = {
    iss: ISSUER,
    sub: crypto.randomUUID(),
    aud: ISSUER,
    exp: iat + 3600,
    iat,
    jti: jti.toString('base64url'),
    client_id: 'latchkey',
    sid: randomBytes(16).toString('base64url'),
    scope: 'account',
    orig_iat: iat,
  };
  const signed = Buffer.from(`${encode({ alg: 'ES256', typ: 'at+jwt', kid: jwk.kid })}.${encode(claims)}`);
  const signature = withLowS(sign('sha256', signed, { key: privateKey, dsaEncoding: 'ieee-p1363' }));
  return {
    token: Buffer.from(`${signed}.${signature.toString('base64url')}`),
    signed,
    signature,
    der: sign('sha256', signed, privateKey),
  };
}

const all = Array.from({ length: TOKENS }, signedToken);
const rules = { issuer: ISSUER, audience: ISSUER, jwks: () => jwk, revocations };
const ours = createVerifier(rules);
// As if something was revoked between any two: each time it is looked up whether the token was.
let changes = 0;
const wary = createVerifier({ ...rules, revocations: { ...revocations, changes: () => (changes += 1) } });
// Keeps one token, and the next one is another.
const forgetful = createVerifier({ ...rules, cacheSize: 1 });
const fastJwt = createFastJwt({
  key: publicKey.export({ format: 'pem', type: 'spki' }).toString(),
  algorithms: ['ES256'],
  allowedIss: ISSUER,
  allowedAud: ISSUER,
  cache: 10_000,
});
// As fast as it comes: all that is asked in one turn goes out as one write.
const redis = new Redis(redisUrl, { enableAutoPipelining: true });

type Signed = (typeof all)[number];
const text = ({ token }: Signed): string => token.toString('latin1');

/** Each verifies all tokens once. */
const ways: Readonly<Record<string, () => Promise<unknown>>> = {
  async seen() {
    for (const one of all) await ours.verify(text(one));
  },
  async seenLookedUp() {
    for (const one of all) await wary.verify(text(one));
  },
  async unseen() {
    for (const one of all) await forgetful.verify(text(one));
  },
  async fastJwt() {
    for (const one of all) fastJwt(text(one));
  },
  /** All in flight at once, as a server has them. */
  fastJwtMget: () =>
    Promise.all(
      all.map(async (one) => {
        const { jti, sid, sub } = fastJwt(text(one)) as Record<string, string>;
        const denied = await redis.mget(`denied:${jti}`, `denied:${sid}`, `denied:${sub}`);
        if (denied.some((value) => value !== null)) throw new Error('nothing is denied here');
      }),
    ),
  /** Of r ‖ s, which is how a JWT is signed. */
  async nodeCrypto() {
    for (const { signed, signature } of all)
      if (!verify('sha256', signed, { key: publicKey, dsaEncoding: 'ieee-p1363' }, signature)) throw new Error('bad');
  },
  /** Of the form that OpenSSL takes without converting it. */
  async nodeCryptoDer() {
    for (const { signed, der } of all) if (!verify('sha256', signed, publicKey, der)) throw new Error('bad');
  },
};

await listen((app) => {
  app.get('/start', async () => start);
  app.get<{ Querystring: { of: string; seconds: string } }>('/rate', async ({ query }) => {
    const way = ways[query.of];
    if (!way) throw new RangeError(`no way ${query.of}`);
    const from = steadyNow();
    let [verified, elapsed] = [0, 0];
    while (elapsed < Number(query.seconds) * 1000) {
      await way();
      // As between requests: revocations are heard of meanwhile.
      await nextTurn();
      verified += TOKENS;
      elapsed = steadyNow() - from;
    }
    return { perSecond: (verified / elapsed) * 1000 };
  });
});

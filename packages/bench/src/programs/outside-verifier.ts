/**
 * Another service's verifier. Arguments: the port of its HTTP side, where auth-api is, where revocations are heard of (a Redis, or the feed with
 * a client's id and secret).
 */
import { setTimeout as delay } from 'node:timers/promises';
import { VerifyError } from '@latchkey/verifier/errors';
import { revocationFeed } from '@latchkey/verifier/feed';
import { revocationsInRedis } from '@latchkey/verifier/redis';
import { createVerifier } from '@latchkey/verifier/verifier';
import { ISSUER, listen, steadyNow, textArgument } from './control.ts';

const [issuerUrl, source] = [textArgument(2), textArgument(3)];
const client = { id: textArgument(4), secret: textArgument(5) };
const verifier = createVerifier({
  issuer: ISSUER,
  audience: ISSUER,
  jwks: `${issuerUrl}/.well-known/jwks.json`,
  revocations: source.startsWith('http')
    ? revocationFeed({ url: source, auth: { client } })
    : revocationsInRedis({ redis: source }),
});
while (!verifier.fresh()) await delay(1);

/** What `/refused` answers: the instant of the steady clock. */
export type Refused = { readonly at: number };

await listen((app) => {
  /** 204 for a good one. */
  app.post<{ Body: { token: string } }>('/good', async ({ body }, reply) => {
    await verifier.verify(body.token);
    return reply.code(204).send();
  });
  /** Answers once the token is refused as revoked; it is tried each millisecond. */
  app.post<{ Body: { token: string } }>('/refused', async ({ body }): Promise<Refused> => {
    for (;;) {
      try {
        await verifier.verify(body.token);
      } catch (error) {
        if (error instanceof VerifyError && error.code === 'token_revoked') return { at: steadyNow() };
        throw error;
      }
      await delay(1);
    }
  });
});

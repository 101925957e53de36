/** A service that checks access tokens itself, in memory, and hears of revocations as they happen. No request asks anybody. */
import { createVerifier } from '@latchkey/verifier';
import { latchkeyVerifier } from '@latchkey/verifier/fastify';
import { revocationFeed } from '@latchkey/verifier/feed';
import fastify from 'fastify';

const { ISSUER = 'http://localhost:3000', CLIENT_ID = '', CLIENT_SECRET = '', PORT = '4000' } = process.env;

const verifier = createVerifier({
  issuer: ISSUER,
  audience: ISSUER,
  jwks: `${ISSUER}/.well-known/jwks.json`,
  revocations: revocationFeed({
    url: `${ISSUER}/v1/revocations`,
    // Scope revocations:read.
    auth: { client: { id: CLIENT_ID, secret: CLIENT_SECRET } },
  }),
});

const app = fastify();
await app.register(latchkeyVerifier, { verifier });

app.get('/orders', { onRequest: app.requireAccessToken({ scope: 'account' }) }, async ({ accessToken }) => ({
  orders: [],
  of: accessToken?.sub,
}));

// Not ready: whoever asks would be told 503.
app.get('/readyz', async (_request, reply) => reply.code(verifier.fresh() ? 200 : 503).send({ lag: verifier.lag() }));

await app.listen({ host: '127.0.0.1', port: Number(PORT) });

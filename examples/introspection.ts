/** A service that asks auth-api about each token (RFC 7662), with a library that knows nothing of Latchkey. */
import fastify from 'fastify';
import { allowInsecureRequests, ClientSecretBasic, discovery, tokenIntrospection } from 'openid-client';

const { ISSUER = 'http://localhost:3000', CLIENT_ID = '', CLIENT_SECRET = '', PORT = '4000' } = process.env;

const issuer = new URL(ISSUER);
// Scope introspect.
const config = await discovery(issuer, CLIENT_ID, undefined, ClientSecretBasic(CLIENT_SECRET), {
  algorithm: 'oauth2',
  // Seconds.
  timeout: 2,
  execute: issuer.protocol === 'http:' ? [allowInsecureRequests] : [],
});

const app = fastify();
/** RFC 6750 section 3. */
const bearer = 'Bearer realm="latchkey"';

app.get('/orders', async ({ headers, log }, reply) => {
  const token = /^Bearer +([^ ]+)$/i.exec(headers.authorization ?? '')?.[1];
  if (token === undefined) return reply.code(401).header('www-authenticate', bearer).send();
  const answer = await tokenIntrospection(config, token).catch((error: unknown) => log.error(error));
  // Whoever can't ask can't know.
  if (!answer) return reply.code(503).header('retry-after', 1).send();
  if (!answer.active) return reply.code(401).header('www-authenticate', `${bearer}, error="invalid_token"`).send();
  if (!answer.scope?.split(' ').includes('account'))
    return reply.code(403).header('www-authenticate', `${bearer}, error="insufficient_scope", scope="account"`).send();
  return { orders: [], of: answer.sub };
});

await app.listen({ host: '127.0.0.1', port: Number(PORT) });

/**
 * A service behind a gateway of infra/gateways, which asks auth-api about each request. It knows nothing of tokens, believes the X-Auth
 * headers, and for that reason listens where only the gateway reaches it.
 */
import fastify from 'fastify';

const { PORT = '4000' } = process.env;

const app = fastify();

app.get('/orders', async ({ headers }) => ({ orders: [], of: headers['x-auth-user'] }));
// The gateway wants the scope reports:read for what is below /reports.
app.get('/reports/orders', async ({ headers }) => ({ orders: [], seen_by: headers['x-auth-user'] }));
app.get('/public/', async () => ({ hello: 'anybody' }));

await app.listen({ host: '127.0.0.1', port: Number(PORT) });

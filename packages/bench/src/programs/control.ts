/** What the programs around the apps have in common: each is a process of its own that is asked over HTTP. */
import fastify, { type FastifyInstance } from 'fastify';

/** `iss` and `aud` of all tokens. */
export const ISSUER = 'https://auth.example.test';

/** Milliseconds of the machine's steady clock, which all processes of one machine share: instants of two of them compare. */
export function steadyNow(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** The n-th argument as a whole number. @throws RangeError */
export function numberArgument(n: number): number {
  const value = Number(process.argv[n + 1]);
  if (!Number.isSafeInteger(value)) {
    throw new RangeError(`argument ${n} of ${process.argv[1]} must be a number`);
  }
  return value;
}

/** The n-th argument; empty where it was left out. */
export function textArgument(n: number): string {
  return process.argv[n + 1] ?? '';
}

/** A plain Fastify on 127.0.0.1, as fast as it comes: no logging. The first argument is its port. `/readyz` answers once it is up. */
export async function listen(addRoutes: (app: FastifyInstance) => void): Promise<void> {
  const app = fastify();
  app.get('/readyz', async () => ({ status: 'ok' }));
  addRoutes(app);
  process.once('SIGTERM', () => process.exit(0));
  await app.listen({ host: '127.0.0.1', port: numberArgument(1) });
}

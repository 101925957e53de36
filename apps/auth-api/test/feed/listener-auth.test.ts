/** Who may listen, when what is known of tokens changes or is lost while they are asked about. */
import { VerifyError, type VerifyErrorCode } from '@latchkey/verifier/errors';
import type { Verifier } from '@latchkey/verifier/verifier';
import fastify from 'fastify';
import { expect, onTestFinished, test } from 'vitest';
import { unavailableDependency } from '../../src/dependency-errors.ts';
import { type BearerAuthOptions, bearerAuth } from '../../src/plugins/bearer-auth.ts';
import { Problem } from '../../src/problems.ts';

/** @returns what a listener with a token is refused with. */
async function refusalOf(verifier: Partial<Verifier>): Promise<Problem> {
  const app = fastify();
  onTestFinished(() => app.close());
  await app.register(bearerAuth, { verifier } as unknown as BearerAuthOptions);
  let refusal: unknown;
  app.get('/', async (request) => {
    refusal = await request.authenticateListener('revocations:read').catch((error: unknown) => error);
  });
  await app.inject({ url: '/', headers: { authorization: 'Bearer token' } });
  if (!(refusal instanceof Problem)) throw refusal;
  return refusal;
}

const refuses = (code: VerifyErrorCode) => async () => {
  throw new VerifyError(code);
};

test('a token that ends between the two times it is asked about is refused as one that has ended', async () => {
  const claims = { sub: 'orders', scope: 'revocations:read', exp: 0 };
  const { code } = await refusalOf({ verifySeen: () => claims as never, read: refuses('token_expired') });
  expect(code).toBe('invalid_token');
});

test('that the revocations are not known is Redis, to whoever reads logs and metrics', async () => {
  const { code, cause } = await refusalOf({ verifySeen: () => undefined, verify: refuses('revocations_unknown') });
  expect([code, unavailableDependency(cause)]).toEqual(['dependency_unavailable', 'redis']);
});

/**
 * `GET /v1/verify` of a token that was verified before: the one request that comes before each request of everybody else. It is answered here,
 * between Node's server and Fastify, whose routing and reply cost as much again as all the rest. Whatever is not simply good
 * is left to the route (routes/verify.ts), which answers the same, and refuses.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AccessTokenClaims } from '@latchkey/verifier/jwt';
import type { Verifier } from '@latchkey/verifier/verifier';
import type { Metrics } from '../metrics.ts';
import { saidOf } from '../routes/verify.ts';
import { bearerToken } from './bearer-auth.ts';
import { requestId } from './request-log.ts';

const URL = '/v1/verify';

export interface VerifySeenOptions {
  verifier: Pick<Verifier, 'verifySeen'>;
  metrics: Metrics;
}

/** @returns whether it has answered. */
export function createVerifySeen({ verifier, metrics }: VerifySeenOptions) {
  const labels = { route: URL, method: 'GET', status: 200 };
  /** The answer's headers by the claims, which are one object for as long as the token is kept. */
  const said = new WeakMap<AccessTokenClaims, readonly string[]>();

  function headersOf(claims: AccessTokenClaims): readonly string[] {
    const known = said.get(claims);
    if (known) return known;
    const headers = ['content-length', '0', ...Object.entries(saidOf(claims)).flat()];
    said.set(claims, headers);
    return headers;
  }

  function seen(token: string): AccessTokenClaims | undefined {
    try {
      return verifier.verifySeen(token);
    } catch {
      return undefined;
    }
  }

  return (request: IncomingMessage, response: ServerResponse): boolean => {
    const { authorization } = request.headers;
    if (request.url !== URL || request.method !== 'GET' || authorization === undefined) return false;
    const began = performance.now();
    const claims = seen(bearerToken(authorization));
    if (!claims) return false;
    response.writeHead(200, ['x-request-id', requestId(request), ...headersOf(claims)]).end();
    metrics.requests.observe(labels, (performance.now() - began) / 1000);
    return true;
  };
}

/**
 * `GET /v1/verify` of a good token: the request that comes before each request to another service. It is answered here, between Node's
 * server and Fastify, whose routing and reply cost as much again as all the rest. A JWT verified before asks nobody; an opaque token asks
 * the store. Anything that is not simply good is left to the route (routes/verify.ts), which gives the same answer, or refuses.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AccessTokenClaims } from '@latchkey/verifier/jwt';
import type { Verifier } from '@latchkey/verifier/verifier';
import { OPAQUE_PREFIX } from '../domain/opaque-token.ts';
import type { Metrics } from '../metrics.ts';
import { bearerToken, type Caller, identityHeaders } from './bearer-auth.ts';
import { requestId } from './request-log.ts';

const URL = '/v1/verify';

/** @returns undefined for any other request. */
function tokenOf({ url, method, headers: { authorization } }: IncomingMessage): string | undefined {
  return url === URL && method === 'GET' && authorization !== undefined ? bearerToken(authorization) : undefined;
}

export interface QuickVerifyOptions {
  verifier: Pick<Verifier, 'verifySeen'>;
  findOpaqueToken: (token: string) => Promise<Caller | undefined>;
  metrics: Metrics;
}

/** @returns `quickVerify`, which answers or lets the route do it, and `findOnce`, by which the route asks for no token a second time. */
export function createQuickVerify({ verifier, findOpaqueToken, metrics }: QuickVerifyOptions) {
  /** What the store said, of requests left to the route. */
  const asked = new WeakMap<IncomingMessage, Promise<Caller | undefined>>();
  const labels = { route: URL, method: 'GET', status: 200 };
  /** The answer's headers by caller, which is one object for as long as it is kept. */
  const said = new WeakMap<Caller, readonly string[]>();

  function headersOf(caller: Caller): readonly string[] {
    const known = said.get(caller);
    if (known) return known;
    const headers = ['content-length', '0', ...Object.entries(identityHeaders(caller)).flat()];
    said.set(caller, headers);
    return headers;
  }

  function seen(token: string): AccessTokenClaims | undefined {
    try {
      return verifier.verifySeen(token);
    } catch {
      return undefined;
    }
  }

  /** @param admit lets in what is not answered at once (admission.ts). */
  function quickVerify(
    request: IncomingMessage,
    response: ServerResponse,
    admit: (go: () => void) => void,
    route: () => void,
  ): void {
    const token = tokenOf(request);
    if (token === undefined) {
      admit(route);
      return;
    }
    const began = performance.now();

    function answer(headers: readonly string[]): void {
      response.writeHead(200, ['x-request-id', requestId(request), ...headers]).end();
      metrics.requests.observe(labels, (performance.now() - began) / 1000);
    }

    function askStore(opaque: string): void {
      const found = findOpaqueToken(opaque);
      const leave = () => {
        asked.set(request, found);
        route();
      };
      found.then((caller) => (caller ? answer(headersOf(caller)) : leave()), leave);
    }

    if (token.startsWith(OPAQUE_PREFIX)) {
      admit(() => askStore(token));
      return;
    }
    const claims = seen(token);
    if (claims) answer(headersOf(claims));
    else admit(route);
  }

  return {
    quickVerify,
    findOnce: (token: string, request: IncomingMessage) => asked.get(request) ?? findOpaqueToken(token),
  };
}

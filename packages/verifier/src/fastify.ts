/** The verifier as a Fastify plugin: `request.accessToken`, and a hook for the routes that need one. */
import type { FastifyInstance, FastifyReply, FastifyRequest, onRequestAsyncHookHandler } from 'fastify';
import { VerifyError } from './errors.ts';
import type { AccessTokenClaims } from './jwt.ts';
import type { Verifier, VerifyOptions } from './verifier.ts';

declare module 'fastify' {
  interface FastifyInstance {
    /** An `onRequest` hook that lets in requests with a good access token that has these scopes. */
    requireAccessToken(options?: VerifyOptions): onRequestAsyncHookHandler;
  }
  interface FastifyRequest {
    /** What the access token says; null on routes that do not require one. */
    accessToken: AccessTokenClaims | null;
  }
}

export interface VerifierPluginOptions {
  verifier: Verifier;
}

/** Seconds after which trying again may help: reconnecting takes at most one. */
const RETRY_AFTER = 1;
/** RFC 6750 section 2.1. */
const BEARER = /^Bearer +([^ ]+)$/i;

/** RFC 6750 section 3: at least one parameter, and no error code where no token was sent. */
function challenge(error: VerifyError | undefined, scope: string | undefined): string {
  const bearer = 'Bearer realm="latchkey"';
  if (!error) return bearer;
  if (error.code === 'insufficient_scope') return `${bearer}, error="insufficient_scope", scope="${scope}"`;
  return `${bearer}, error="invalid_token", error_description="${error.message}"`;
}

function refuse(reply: FastifyReply, error: VerifyError | undefined, scope: string | undefined): FastifyReply {
  const status = error?.status ?? 401;
  if (status === 503) reply.header('retry-after', RETRY_AFTER);
  else reply.header('www-authenticate', challenge(error, scope));
  // RFC 9457
  const problem = {
    status,
    code: error?.code ?? 'missing_token',
    title: error?.message ?? 'An access token is needed',
  };
  return reply.code(status).type('application/problem+json').send(problem);
}

async function verifierOfApp(app: FastifyInstance, { verifier }: VerifierPluginOptions): Promise<void> {
  app.decorateRequest('accessToken', null);
  app.decorate(
    'requireAccessToken',
    (options: VerifyOptions = {}) =>
      async (request: FastifyRequest, reply: FastifyReply) => {
        const token = BEARER.exec(request.headers.authorization ?? '')?.[1];
        if (token === undefined) return refuse(reply, undefined, options.scope);
        try {
          request.accessToken = await verifier.verify(token, options);
        } catch (error) {
          if (!(error instanceof VerifyError)) throw error;
          return refuse(reply, error, options.scope);
        }
      },
  );
  app.addHook('onClose', async () => verifier.close());
}

/** Register it where its routes are, or above; the verifier is closed with the app. */
export const latchkeyVerifier = Object.assign(verifierOfApp, {
  // What fastify-plugin does: the decorators are for the app that registers it, not for a context of their own.
  [Symbol.for('skip-override')]: true,
  [Symbol.for('fastify.display-name')]: '@latchkey/verifier',
});

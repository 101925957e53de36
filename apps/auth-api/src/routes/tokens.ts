/** Login and refresh. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import type { IssuedTokens, Login } from '../domain/login.ts';
import type { RateLimits } from '../rate-limits.ts';
import { device, requestContext } from './request-context.ts';
import { answers, DeviceName, Email, oneOf, Password, TokenResponse } from './schemas.ts';

const body = ({ accessToken, expiresIn, refresh, session }: IssuedTokens, firstSession: boolean) => ({
  access_token: accessToken,
  token_type: 'Bearer' as const,
  expires_in: expiresIn,
  ...(refresh && { refresh_token: refresh.token, refresh_expires_in: refresh.expiresIn }),
  session: { id: session.id, device_name: session.deviceName, created_at: session.createdAt.toISOString() },
  first_session: firstSession,
});

export interface TokenRoutesOptions {
  login: Login;
  rateLimits: RateLimits;
}

export const tokenRoutes: FastifyPluginAsyncTypebox<TokenRoutesOptions> = async (app, { login, rateLimits }) => {
  // RFC 6749 section 5.1: a token response is never cached.
  app.addHook('onSend', (_request, reply, _payload, done) => {
    reply.header('cache-control', 'no-store');
    done();
  });

  app.post(
    '/tokens',
    {
      schema: {
        operationId: 'login',
        tags: ['Tokens'],
        summary: 'Log in: opens a session',
        body: Type.Object(
          {
            email: Email,
            password: Password,
            device_name: Type.Optional(DeviceName),
            token_format: Type.Optional(oneOf(['jwt', 'opaque'])),
          },
          { additionalProperties: false },
        ),
        response: answers(
          { 200: TokenResponse },
          'invalid_credentials',
          'account_not_activated',
          'account_suspended',
          'rate_limited',
        ),
      },
    },
    async (request) => {
      const { email, password, device_name: deviceName, token_format: format = 'jwt' } = request.body;
      await rateLimits.consume('loginPerIp', request.ip);
      await rateLimits.consume('loginPerAccount', email);
      const { firstSession, ...tokens } = await login.login(
        email,
        password,
        format,
        device(request, deviceName),
        requestContext(request),
      );
      await rateLimits.reset('loginPerAccount', email);
      return body(tokens, firstSession);
    },
  );

  app.post(
    '/tokens/refresh',
    {
      schema: {
        operationId: 'refresh',
        tags: ['Tokens'],
        summary: 'The next token pair of a session',
        description: 'Safe to repeat: every call with the same token within REFRESH_GRACE gets the same successor.',
        // The length of the longest token: a client that sends its access token is told that it is no refresh token.
        body: Type.Object(
          { refresh_token: Type.String({ minLength: 1, maxLength: 4096 }) },
          { additionalProperties: false },
        ),
        response: answers(
          { 200: TokenResponse },
          'invalid_refresh_token',
          'refresh_token_reused',
          'session_expired',
          'session_revoked',
        ),
      },
    },
    async (request) => body(await login.refresh(request.body.refresh_token, requestContext(request)), false),
  );
};

/**
 * auth-api, whole: what production serves and what every test starts. Plugins and routes in the order in which they apply; what stands in
 * front of them is in http-server.ts, what they stand on in services.ts.
 */
import { isUtf8 } from 'node:buffer';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import fastify, { errorCodes, type FastifyPluginAsync, LogController } from 'fastify';
import { drain } from './drain.ts';
import { createHttpServer } from './http-server.ts';
import { NotReady } from './not-ready.ts';
import { bearerAuth } from './plugins/bearer-auth.ts';
import { openapi } from './plugins/openapi.ts';
import {
  answerClientError,
  answerFrameworkError,
  BODY_LIMIT,
  invalidBody,
  problemAnswers,
} from './plugins/problem-answers.ts';
import { createQuickVerify } from './plugins/quick-verify.ts';
import { requestId, requestLog } from './plugins/request-log.ts';
import { requestSpans } from './plugins/request-spans.ts';
import { sharedSerializers } from './plugins/shared-serializers.ts';
import { accountRoutes } from './routes/accounts.ts';
import { adminRoutes } from './routes/admin.ts';
import { emailChangeRoutes } from './routes/email-changes.ts';
import { meRoutes } from './routes/me.ts';
import { oauthRoutes } from './routes/oauth.ts';
import { operationRoutes } from './routes/operations.ts';
import { pageRoutes } from './routes/pages.ts';
import { passwordResetRoutes } from './routes/password-resets.ts';
import { revocationRoutes } from './routes/revocations.ts';
import { sessionRoutes } from './routes/sessions.ts';
import { tokenRoutes } from './routes/tokens.ts';
import { verifyRoutes } from './routes/verify.ts';
import { wellKnownRoutes } from './routes/well-known.ts';
import { createServices, type ServicesOptions } from './services.ts';

/** Milliseconds connections have to end when the app closes, each with its answer; then they are cut. */
const FINISH_WITHIN = 5000;

export interface AppOptions extends ServicesOptions {
  /** Whether the process has been told to stop: then it is not ready, and serves on. */
  stopping?: () => boolean;
}

/**
 * Builds the app; it listens when told to. Nothing has to be up: what is down is named by `/readyz` and refused by the requests that
 * need it, until it is back.
 */
export async function buildApp({ stopping = () => false, ...options }: AppOptions) {
  const { env, logger, tracing } = options;
  const services = createServices(options);
  const { metrics, admission, verifier, revocationCopy, opaqueTokens } = services;
  const { quickVerify, findOnce } = createQuickVerify({ verifier, findOpaqueToken: opaqueTokens.find, metrics });

  const app = fastify({
    loggerInstance: logger,
    // plugins/request-log.ts writes the one line a request gets.
    logController: new LogController({ disableRequestLogging: true }),
    // The few lines there are name their request themselves: a logger of its own for each would be a tenth of the cost of verifying.
    childLoggerFactory: (parent) => parent,
    genReqId: requestId,
    bodyLimit: BODY_LIMIT,
    serverFactory: (handler) =>
      createHttpServer({
        handler,
        quickVerify,
        admit: admission.admit,
        onDrop: () => metrics.droppedConnections.inc(),
      }),
    frameworkErrors: answerFrameworkError,
    clientErrorHandler: answerClientError,
    trustProxy: env.TRUSTED_PROXIES.length > 0 ? env.TRUSTED_PROXIES : false,
    // Bad input is refused, never repaired: nothing is coerced, dropped or left to chance.
    ajv: {
      customOptions: { allErrors: true, verbose: true, coerceTypes: false, removeAdditional: false, useDefaults: true },
    },
    schemaController: { compilersFactory: { buildSerializer: sharedSerializers } },
    routerOptions: { maxParamLength: 256 },
    // A request that arrives while the app closes is still answered.
    return503OnClosing: false,
  }).withTypeProvider<TypeBoxTypeProvider>();

  // What applies to every request
  // JSON is the one language of the API; an empty body is none, whatever its type says.
  app.removeAllContentTypeParsers();
  const parseJson = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body: Buffer, done) => {
    if (body.length === 0) done(null, undefined);
    // RFC 8259 section 8.1. Read all the same, two passwords could become one.
    else if (isUtf8(body)) void parseJson(request, body.toString(), done);
    else done(invalidBody('is not UTF-8'));
  });
  app.addContentTypeParser('*', { parseAs: 'string' }, ({ headers }, body, done) => {
    if (body === '') done(null, undefined);
    else done(new errorCodes.FST_ERR_CTP_INVALID_MEDIA_TYPE(headers['content-type']));
  });
  if (tracing) await app.register(requestSpans, { tracing });
  await app.register(requestLog, { metrics });
  await app.register(problemAnswers, { metrics });
  await app.register(openapi, { publicUrl: env.PUBLIC_URL });
  await app.register(bearerAuth, {
    verifier,
    copy: revocationCopy,
    findOpaqueToken: findOnce,
  });

  // The routes
  const { feed, signingKeys, schema, rateLimits, registration, activation, passwordReset, emailChange } = services;
  const { users, account, login, sessions, clients, operators, failedMails } = services;
  await app.register(verifyRoutes, { prefix: '/v1' });
  await app.register(revocationRoutes, { prefix: '/v1', feed });
  await app.register(wellKnownRoutes, { signingKeys });
  // What may touch the database does only while that is as this build needs it.
  const databaseRoutes: FastifyPluginAsync = async (inDatabase) => {
    inDatabase.addHook('onRequest', (_request, _reply, done) => {
      if (schema.fits()) done();
      else schema.assertFits().then(() => done(), done);
    });
    await inDatabase.register(accountRoutes, { prefix: '/v1', registration, activation, rateLimits });
    await inDatabase.register(meRoutes, { prefix: '/v1', users, account, rateLimits });
    await inDatabase.register(passwordResetRoutes, { prefix: '/v1', passwordReset, rateLimits });
    await inDatabase.register(emailChangeRoutes, { prefix: '/v1', emailChange, rateLimits });
    await inDatabase.register(tokenRoutes, { prefix: '/v1', login, rateLimits });
    await inDatabase.register(sessionRoutes, { prefix: '/v1', sessions });
    await inDatabase.register(oauthRoutes, { clients, operators, issuer: env.PUBLIC_URL });
    await inDatabase.register(adminRoutes, { prefix: '/v1/admin', operators, failedMails });
    await inDatabase.register(pageRoutes, {
      admission,
      activation,
      passwordReset,
      emailChange,
      rateLimits,
      publicUrl: env.PUBLIC_URL,
    });
  };
  await app.register(databaseRoutes);
  await app.register(operationRoutes, {
    metrics,
    checks: {
      ...services.checks,
      staying: async () => {
        if (stopping()) throw new NotReady('told to stop: serves on until load balancers have left');
      },
    },
  });

  app.addHook('preClose', async () => {
    setTimeout(() => app.server.closeAllConnections(), FINISH_WITHIN).unref();
    await drain(app.server, Math.min(env.SHUTDOWN_DELAY_MS, FINISH_WITHIN));
    // What is kept alive now would keep the app from closing: from now on each connection ends with the answer it waits for.
    app.server.keepAliveTimeout = 1;
  });

  app.addHook('onReady', async () => services.start());
  app.addHook('onClose', async () => services.close());

  if (env.RATE_LIMITS === 'off') logger.warn('RATE_LIMITS=off: nothing is limited here, another layer has to');
  return app;
}

/**
 * auth-api, whole: what production serves and what every test starts. Plugins and routes in the order in which they apply.
 */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import { connectDatabase } from '@latchkey/shared/database';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { createRevocationCopy } from '@latchkey/verifier/revocation-copy';
import fastify, { LogController } from 'fastify';
import type { Logger } from 'pino';
import { createActivation } from './domain/activation.ts';
import { emailKey } from './domain/email-address.ts';
import { createHousekeeping } from './domain/housekeeping.ts';
import { createKeyring } from './domain/keyring.ts';
import { createLogin } from './domain/login.ts';
import { createMailRelay, type MailRelayOptions } from './domain/mail-relay.ts';
import { createPasswords } from './domain/passwords.ts';
import { createRegistration } from './domain/registration.ts';
import { createSessions } from './domain/sessions.ts';
import { createSigningKeys } from './domain/signing-keys.ts';
import type { Env } from './env.ts';
import { createMetrics } from './metrics.ts';
import { NotReady } from './not-ready.ts';
import { bearerAuth } from './plugins/bearer-auth.ts';
import { openapi } from './plugins/openapi.ts';
import { answerClientError, answerFrameworkError, problemAnswers } from './plugins/problem-answers.ts';
import { requestId, requestLog } from './plugins/request-log.ts';
import { createRateLimits } from './rate-limits.ts';
import { accountRoutes } from './routes/accounts.ts';
import { meRoutes } from './routes/me.ts';
import { operationRoutes } from './routes/operations.ts';
import { pageRoutes } from './routes/pages.ts';
import { sessionRoutes } from './routes/sessions.ts';
import { tokenRoutes } from './routes/tokens.ts';
import { verifyRoutes } from './routes/verify.ts';
import { wellKnownRoutes } from './routes/well-known.ts';
import { createActivationKeyStore } from './store/activation-keys.ts';
import { createMailQueue } from './store/mail-queue.ts';
import { createOutbox } from './store/outbox.ts';
import { createRevocationLog } from './store/revocation-log.ts';
import { createSessionStore } from './store/sessions.ts';
import { createSigningKeyStore } from './store/signing-keys.ts';
import { createUserStore } from './store/users.ts';

/** Contract: bodies over 16 KiB are refused. */
const BODY_LIMIT = 16 * 1024;
/**
 * Milliseconds a client may take to send its headers, and all of its request: nobody holds a connection by being slow. The first must be
 * below the second (Node swaps them if not), and Node looks as often as the third says.
 */
const HEADERS_TIMEOUT = 5000;
const REQUEST_TIMEOUT = 10_000;
const TIMEOUT_CHECK = 1000;
/** Seconds a registration is kept once its first link could no longer be renewed: time to ask for another by address. */
const KEEP_UNCONFIRMED = 30 * 24 * 60 * 60;
/** Milliseconds requests under way have to finish when the app closes; then their connections are cut. */
const FINISH_WITHIN = 5000;

export interface AppOptions {
  env: Env;
  logger: Logger;
  /** Prefix of every Redis key; tests share one Redis by giving each suite its own. */
  namespace?: string;
  /** How soon the relay looks for jobs the queue has lost. */
  relay?: Pick<MailRelayOptions, 'lostAfter' | 'searchEvery'>;
}

/**
 * Builds the app; it listens when told to. Nothing has to be up: what is down is named by `/readyz` and refused by the requests that
 * need it, until it is back.
 */
export async function buildApp({ env, logger, namespace, relay: relayOptions }: AppOptions) {
  const app = fastify({
    loggerInstance: logger,
    // plugins/request-log.ts writes the one line a request gets.
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'request_id' }),
    genReqId: requestId,
    bodyLimit: BODY_LIMIT,
    requestTimeout: REQUEST_TIMEOUT,
    http: {
      headersTimeout: HEADERS_TIMEOUT,
      requestTimeout: REQUEST_TIMEOUT,
      connectionsCheckingInterval: TIMEOUT_CHECK,
    },
    frameworkErrors: answerFrameworkError,
    clientErrorHandler: answerClientError,
    trustProxy: env.TRUSTED_PROXIES.length > 0 ? env.TRUSTED_PROXIES : false,
    // Bad input is refused, never repaired: nothing is coerced, dropped or left to chance.
    ajv: {
      customOptions: { allErrors: true, verbose: true, coerceTypes: false, removeAdditional: false, useDefaults: true },
    },
    routerOptions: { maxParamLength: 256 },
    // A request that arrives while the app closes is still answered.
    return503OnClosing: false,
  }).withTypeProvider<TypeBoxTypeProvider>();

  // What the routes stand on
  const metrics = createMetrics();
  const reportLost = (dependency: 'postgresql' | 'redis') => (error: Error) => {
    metrics.dependencyErrors.inc({ dependency });
    logger.warn({ err: error, dependency }, 'connection trouble');
  };
  const keys = redisKeys(namespace);
  const db = connectDatabase(env.DATABASE_URL, reportLost('postgresql'));
  const redis = connectRedis(env.REDIS_URL, 'store', reportLost('redis'));
  const queueConnection = connectRedis(env.REDIS_URL, 'queueProducer', reportLost('redis'));

  const revocationCopy = createRevocationCopy({
    redis: connectRedis(env.REDIS_URL, 'queueWorker', reportLost('redis')),
    stream: keys.revocations,
    lagMax: env.REVOCATION_LAG_MAX_MS,
    onError: reportLost('redis'),
  });
  const revocations = createRevocationLog(redis, keys, env.ACCESS_TOKEN_TTL, revocationCopy);
  const keyring = createKeyring(env.MASTER_KEY);
  const signingKeys = createSigningKeys(createSigningKeyStore(db), keyring, env.SIGNING_ALG);
  const passwords = createPasswords();
  const users = createUserStore(db);
  const sessionStore = createSessionStore(redis, keys, env);
  const mailQueue = createMailQueue(queueConnection, keys, reportLost('redis'));
  const relay = createMailRelay({ outbox: createOutbox(db), queue: mailQueue, logger, ...relayOptions });
  const housekeeping = createHousekeeping({
    users,
    logger,
    unconfirmedAfter: env.ACTIVATION_KEY_TTL + env.ACTIVATION_RENEWAL_TTL + KEEP_UNCONFIRMED,
  });
  const rateLimits = createRateLimits(redis, keys, env.RATE_LIMITS);

  const allowMail = (email: string) => rateLimits.consume('mailPerRecipient', emailKey(email));
  const onMailOwed = (superseded: readonly string[]) => {
    relay.kick();
    if (superseded.length > 0) mailQueue.remove(superseded).catch(reportLost('redis'));
  };
  const registration = createRegistration({ users, passwords, allowMail, onMailOwed });
  const activation = createActivation({ keys: createActivationKeyStore(redis, keys), users, allowMail, onMailOwed });
  const login = createLogin({ users, sessions: sessionStore, revocations, passwords, signingKeys, keyring, env });
  const sessions = createSessions(sessionStore, revocations);

  metrics.gauge(
    'latchkey_revocation_lag_seconds',
    'Since the revocation copy was surely up to date',
    () => revocationCopy.lag() / 1000,
  );
  metrics.gauge('latchkey_revoked_sessions', 'Sessions in the revocation copy', () => revocationCopy.size());
  metrics.gauge('latchkey_password_queue_length', 'Hashes waiting for a thread', () => passwords.queued());

  // What applies to every request
  // JSON is the one language of the API; an empty body is none, whatever its type says.
  app.removeAllContentTypeParsers();
  const parseJson = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (body === '') done(null, undefined);
    else void parseJson(request, String(body), done);
  });
  await app.register(requestLog, { metrics });
  await app.register(problemAnswers, { metrics });
  await app.register(openapi, { publicUrl: env.PUBLIC_URL });
  await app.register(bearerAuth, {
    signingKeys,
    revocations: revocationCopy,
    issuer: env.PUBLIC_URL,
    audience: env.TOKEN_AUDIENCE,
  });

  // The routes
  await app.register(accountRoutes, { prefix: '/v1', registration, activation, rateLimits });
  await app.register(meRoutes, { prefix: '/v1', users });
  await app.register(tokenRoutes, { prefix: '/v1', login, rateLimits });
  await app.register(sessionRoutes, { prefix: '/v1', sessions });
  await app.register(verifyRoutes, { prefix: '/v1' });
  await app.register(wellKnownRoutes, { signingKeys });
  await app.register(pageRoutes, { activation, rateLimits, publicUrl: env.PUBLIC_URL });
  await app.register(operationRoutes, {
    metrics,
    checks: {
      postgresql: () => db.$queryRaw`SELECT 1`,
      migrations: () => users.migrated(),
      signing_keys: () => signingKeys.ensure(),
      redis: () => redis.ping(),
      revocations: async () => {
        if (!revocationCopy.fresh()) throw new NotReady('the revocation log has not been heard of lately');
      },
    },
  });

  // Connections kept alive would keep the app from closing: from now on each ends with the answer it waits for.
  app.addHook('preClose', async () => {
    app.server.keepAliveTimeout = 1;
    setTimeout(() => app.server.closeAllConnections(), FINISH_WITHIN).unref();
  });

  app.addHook('onReady', async () => {
    revocationCopy.start();
    relay.start();
    // In the background: a service that starts before its database must still start.
    housekeeping.start();
    signingKeys.ensure().catch((error: unknown) => logger.error({ err: error }, 'signing keys are not loaded yet'));
  });
  app.addHook('onClose', async () => {
    housekeeping.stop();
    await relay.close();
    revocationCopy.close();
    await Promise.allSettled([mailQueue.close(), passwords.close(), db.$disconnect()]);
    redis.disconnect();
    queueConnection.disconnect();
  });

  if (env.RATE_LIMITS === 'off') logger.warn('RATE_LIMITS=off: nothing is limited here, another layer has to');
  return app;
}

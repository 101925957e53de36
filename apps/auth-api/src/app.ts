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
import { createAccount } from './domain/account.ts';
import { createActivation } from './domain/activation.ts';
import { createAudit } from './domain/audit.ts';
import { createClients } from './domain/clients.ts';
import { emailKey } from './domain/email-address.ts';
import { createEmailChange } from './domain/email-change.ts';
import { createIntrospection } from './domain/introspection.ts';
import { createKeyring } from './domain/keyring.ts';
import { createLogin } from './domain/login.ts';
import { createMailRelay, type MailRelayOptions } from './domain/mail-relay.ts';
import { createOpaqueTokens } from './domain/opaque-tokens.ts';
import { createOperators } from './domain/operators.ts';
import { createPasswordReset } from './domain/password-reset.ts';
import { createPasswords } from './domain/passwords.ts';
import { createRegistration } from './domain/registration.ts';
import { createRevocation } from './domain/revocation.ts';
import { createSessions } from './domain/sessions.ts';
import { createSigningKeys } from './domain/signing-keys.ts';
import type { Env } from './env.ts';
import { createMetrics } from './metrics.ts';
import { NotReady } from './not-ready.ts';
import { bearerAuth } from './plugins/bearer-auth.ts';
import { openapi } from './plugins/openapi.ts';
import { problemAnswers } from './plugins/problem-answers.ts';
import { requestId, requestLog } from './plugins/request-log.ts';
import { createRateLimits } from './rate-limits.ts';
import { accountRoutes } from './routes/accounts.ts';
import { adminRoutes } from './routes/admin.ts';
import { emailChangeRoutes } from './routes/email-changes.ts';
import { meRoutes } from './routes/me.ts';
import { oauthRoutes } from './routes/oauth.ts';
import { operationRoutes } from './routes/operations.ts';
import { pageRoutes } from './routes/pages.ts';
import { passwordResetRoutes } from './routes/password-resets.ts';
import { sessionRoutes } from './routes/sessions.ts';
import { tokenRoutes } from './routes/tokens.ts';
import { verifyRoutes } from './routes/verify.ts';
import { wellKnownRoutes } from './routes/well-known.ts';
import { createAccountChanges } from './store/account-changes.ts';
import { createAuditStore } from './store/audit.ts';
import { createClientStore } from './store/clients.ts';
import { createDirectory } from './store/directory.ts';
import { createHighWaterStore } from './store/high-water.ts';
import { createMailKeyStore } from './store/mail-keys.ts';
import { createMailQueue } from './store/mail-queue.ts';
import { createOutbox } from './store/outbox.ts';
import { createEpochs, createRevocationLog } from './store/revocation-log.ts';
import { createSessionStore } from './store/sessions.ts';
import { createSigningKeyStore } from './store/signing-keys.ts';
import { createUserStore } from './store/users.ts';

/** Contract: bodies over 16 KiB are refused. */
const BODY_LIMIT = 16 * 1024;
/** Milliseconds a client may take to send a request, headers and body: nobody holds a connection by being slow. */
const REQUEST_TIMEOUT = 10_000;

/** Milliseconds between two notes of how far the revocation log was read. */
const HIGH_WATER_INTERVAL = 1000;

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

  const epochs = createEpochs(redis, keys);
  const highWater = createHighWaterStore(db);
  const revocationCopy = createRevocationCopy({
    redis: connectRedis(env.REDIS_URL, 'queueWorker', reportLost('redis')),
    stream: keys.revocations,
    epochKey: keys.epoch,
    lagMax: env.REVOCATION_LAG_MAX_MS,
    onError: reportLost('redis'),
    async onEpochLost(known) {
      if (await epochs.begin(known))
        logger.warn({ known }, 'this Redis is new or older than what was read of it: everyone has to log in again');
    },
  });
  const revocations = createRevocationLog(redis, keys, env.ACCESS_TOKEN_TTL, revocationCopy);
  const keyring = createKeyring(env.MASTER_KEY);
  const signingKeys = createSigningKeys(createSigningKeyStore(db), keyring, env.SIGNING_ALG);
  const passwords = createPasswords();
  const users = createUserStore(db);
  const audit = createAudit(createAuditStore(db), logger);
  const sessionStore = createSessionStore(redis, keys, env);
  const mailQueue = createMailQueue(queueConnection, keys, reportLost('redis'));
  const relay = createMailRelay({ outbox: createOutbox(db), queue: mailQueue, logger, ...relayOptions });
  const rateLimits = createRateLimits(redis, keys, env.RATE_LIMITS);

  const allowMail = (email: string) => rateLimits.consume('mailPerRecipient', emailKey(email));
  const onMailOwed = () => relay.kick();
  const registration = createRegistration({ users, passwords, allowMail, onMailOwed });
  const activation = createActivation({
    keys: createMailKeyStore(redis, keys.activationKey),
    users,
    allowMail,
    onMailOwed,
  });
  const epochBorn = () => revocationCopy.epoch()?.born ?? Number.POSITIVE_INFINITY;
  const login = createLogin({
    users,
    sessions: sessionStore,
    revocations,
    passwords,
    signingKeys,
    keyring,
    audit,
    env,
    epochBorn,
  });
  const opaqueTokens = createOpaqueTokens(sessionStore);
  const revocation = createRevocation({ sessions: sessionStore, users, log: revocations });
  const sessions = createSessions(sessionStore, revocations, revocation, audit);
  const changes = createAccountChanges(db);
  // Their rows are gone: what is left in the queue would at worst still be mailed.
  const withdrawMails = (ids: readonly string[]) => mailQueue.remove(ids).catch(reportLost('redis'));
  const account = createAccount({
    changes,
    passwords,
    sessions,
    revocation,
    allowPassword: (email) => rateLimits.consume('loginPerAccount', emailKey(email)),
    onPasswordRight: (email) => rateLimits.reset('loginPerAccount', emailKey(email)),
    allowMail,
    onMailOwed,
    withdrawMails,
  });
  const passwordReset = createPasswordReset({
    keys: createMailKeyStore(redis, keys.passwordResetKey),
    changes,
    passwords,
    revocation,
    allowMail,
    onMailOwed,
  });
  const emailChange = createEmailChange({
    keys: createMailKeyStore(redis, keys.emailChangeKey),
    changes,
    users,
    onMailOwed,
  });

  const clients = createClients({ store: createClientStore(db, redis), log: revocations, signingKeys, env });
  const introspection = createIntrospection({
    sessions: sessionStore,
    clients,
    opaqueTokens,
    revocation,
    log: revocations,
    copy: revocationCopy,
    signingKeys,
    keyring,
    env,
  });
  const operators = createOperators({
    users: createDirectory(db),
    sessions: sessionStore,
    log: revocations,
    revocation,
    clients,
    introspection,
    audit,
    withdrawMails,
  });

  metrics.gauge(
    'latchkey_revocation_lag_seconds',
    'Since the revocation copy was surely up to date',
    () => revocationCopy.lag() / 1000,
  );
  metrics.gauge('latchkey_revoked_sessions', 'Sessions in the revocation copy', () => revocationCopy.size());
  metrics.gauge('latchkey_password_queue_length', 'Hashes waiting for a thread', () => passwords.queued());

  // What applies to every request
  await app.register(requestLog, { metrics });
  await app.register(problemAnswers, { metrics });
  await app.register(openapi, { publicUrl: env.PUBLIC_URL });
  await app.register(bearerAuth, {
    signingKeys,
    revocations: revocationCopy,
    findOpaqueToken: opaqueTokens.find,
    issuer: env.PUBLIC_URL,
    audience: env.TOKEN_AUDIENCE,
  });

  // The routes
  await app.register(accountRoutes, { prefix: '/v1', registration, activation, rateLimits });
  await app.register(meRoutes, { prefix: '/v1', users, account, rateLimits });
  await app.register(passwordResetRoutes, { prefix: '/v1', passwordReset, rateLimits });
  await app.register(emailChangeRoutes, { prefix: '/v1', emailChange, rateLimits });
  await app.register(tokenRoutes, { prefix: '/v1', login, rateLimits });
  await app.register(sessionRoutes, { prefix: '/v1', sessions });
  await app.register(verifyRoutes, { prefix: '/v1' });
  await app.register(oauthRoutes, { clients, operators, issuer: env.PUBLIC_URL });
  await app.register(adminRoutes, { prefix: '/v1/admin', operators });
  await app.register(wellKnownRoutes, { signingKeys });
  await app.register(pageRoutes, {
    activation,
    passwordReset,
    emailChange,
    rateLimits,
    publicUrl: env.PUBLIC_URL,
  });
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
  });

  /** The copy starts once PostgreSQL has said how far the log had been read; until then every token is refused. */
  function followRevocations(): void {
    highWater.read().then(
      (known) => {
        revocationCopy.start(known);
        markTimer = setInterval(() => {
          const epoch = revocationCopy.epoch();
          if (epoch)
            highWater.raise({ epochId: epoch.id, position: revocationCopy.position() }).catch(reportLost('postgresql'));
        }, HIGH_WATER_INTERVAL);
      },
      (error: unknown) => {
        logger.error({ err: error }, 'how far the revocation log was read is not known yet');
        markTimer = setTimeout(followRevocations, HIGH_WATER_INTERVAL);
      },
    );
  }
  let markTimer: NodeJS.Timeout | undefined;

  app.addHook('onReady', async () => {
    followRevocations();
    relay.start();
    // In the background: a service that starts before its database must still start.
    signingKeys.ensure().catch((error: unknown) => logger.error({ err: error }, 'signing keys are not loaded yet'));
  });
  app.addHook('onClose', async () => {
    clearInterval(markTimer);
    await relay.close();
    revocationCopy.close();
    await audit.close();
    await Promise.allSettled([mailQueue.close(), passwords.close(), db.$disconnect()]);
    redis.disconnect();
    queueConnection.disconnect();
  });

  if (env.RATE_LIMITS === 'off') logger.warn('RATE_LIMITS=off: nothing is limited here, another layer has to');
  return app;
}

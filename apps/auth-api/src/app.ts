/**
 * auth-api, whole: what production serves and what every test starts. Plugins and routes in the order in which they apply.
 */
import { isUtf8 } from 'node:buffer';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import { connectDatabase } from '@latchkey/shared/database';
import { connectRedis, onServerChange, type RedisProfile } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import type { Tracing } from '@latchkey/shared/tracing';
import { createRevocationCopy } from '@latchkey/verifier/revocation-copy';
import { createVerifier } from '@latchkey/verifier/verifier';
import fastify, { errorCodes, type FastifyPluginAsync, LogController } from 'fastify';
import type { Logger } from 'pino';
import { createAdmission } from './admission.ts';
import { createAccount } from './domain/account.ts';
import { createActivation } from './domain/activation.ts';
import { createAudit } from './domain/audit.ts';
import { createClients } from './domain/clients.ts';
import { createEmailChange } from './domain/email-change.ts';
import { createFailedMails } from './domain/failed-mails.ts';
import { createHousekeeping } from './domain/housekeeping.ts';
import { createIntrospection } from './domain/introspection.ts';
import { createKeyring } from './domain/keyring.ts';
import { createLogFollower } from './domain/log-follower.ts';
import { createLogReplay } from './domain/log-replay.ts';
import { createLogin } from './domain/login.ts';
import { createMailRelay, type MailRelayOptions } from './domain/mail-relay.ts';
import { createOpaqueTokens } from './domain/opaque-tokens.ts';
import { createOperators } from './domain/operators.ts';
import { createPasswordReset } from './domain/password-reset.ts';
import { createPasswords, LONGEST_WAIT } from './domain/passwords.ts';
import { createRegistration } from './domain/registration.ts';
import { createRevocation } from './domain/revocation.ts';
import { createRevocationFeed } from './domain/revocation-feed.ts';
import { createSchemaWatch } from './domain/schema-watch.ts';
import { createSessions } from './domain/sessions.ts';
import { createSigningKeys, keyLives, type SigningKeysOptions } from './domain/signing-keys.ts';
import type { Env } from './env.ts';
import { letGo } from './let-go.ts';
import { createMetrics } from './metrics.ts';
import { NotReady } from './not-ready.ts';
import { measureOutbox } from './outbox-metrics.ts';
import { bearerAuth } from './plugins/bearer-auth.ts';
import { openapi } from './plugins/openapi.ts';
import {
  answerAtOnce,
  answerClientError,
  answerFrameworkError,
  invalidBody,
  problemAnswers,
} from './plugins/problem-answers.ts';
import { createQuickVerify } from './plugins/quick-verify.ts';
import { requestId, requestLog } from './plugins/request-log.ts';
import { requestSpans } from './plugins/request-spans.ts';
import { sharedSerializers } from './plugins/shared-serializers.ts';
import { Problem } from './problems.ts';
import { createRateLimits } from './rate-limits.ts';
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
import { createAccountChanges } from './store/account-changes.ts';
import { createAuditStore } from './store/audit.ts';
import { createClientStore } from './store/clients.ts';
import { createDirectory } from './store/directory.ts';
import { createHighWaterStore } from './store/high-water.ts';
import { knownMigrations } from './store/known-migrations.ts';
import { createMailKeyStore } from './store/mail-keys.ts';
import { createMailQueue } from './store/mail-queue.ts';
import { createOutbox } from './store/outbox.ts';
import { createEpochs, createRevocationLog } from './store/revocation-log.ts';
import { createSessionStore } from './store/sessions.ts';
import { createSigningKeyStore } from './store/signing-keys.ts';
import { createUserStore } from './store/users.ts';

/** Bytes of a body at most: passwords of 256 characters and every form fit many times over. */
const BODY_LIMIT = 16 * 1024;
/**
 * Milliseconds a client may take to send its headers, and all of its request: nobody holds a connection by being slow. The first must be
 * below the second (Node swaps them if not), and Node looks as often as the third says.
 */
const HEADERS_TIMEOUT = 5000;
const REQUEST_TIMEOUT = 10_000;
const TIMEOUT_CHECK = 1000;
/**
 * Milliseconds without a byte on a connection that has a request: its answer stays in memory for as long as its client does not take it. A change
 * of password waits twice for a thread that hashes, and is answered.
 */
const IDLE_TIMEOUT = 2 * LONGEST_WAIT + 5000;
/** Connections at once; behind a load balancer there are hundreds. What is on top is closed unanswered. */
const MOST_CONNECTIONS = 10_000;
/** Milliseconds an idle connection is kept: longer than load balancers keep theirs, so that they close first (Fastify's default). */
const KEEP_ALIVE_TIMEOUT = 72_000;
/** Seconds a registration is kept once its first link could no longer be renewed: time to ask for another by address. */
const KEEP_UNCONFIRMED = 30 * 24 * 60 * 60;
/** Milliseconds connections have to end when the app closes, each with its answer; then they are cut. */
const FINISH_WITHIN = 5000;

/** RFC 9112 section 3.2. */
const NO_HOST = new Problem('invalid_request', { errors: [{ pointer: '/headers/host', detail: 'is required' }] });

export interface AppOptions {
  env: Env;
  logger: Logger;
  /** Whether the process has been told to stop: then it is not ready, and serves on. */
  stopping?: () => boolean;
  /** Undefined: traces are off. */
  tracing?: Tracing | undefined;
  /** Prefix of every Redis key; tests share one Redis by giving each suite its own. */
  namespace?: string;
  /** How soon the relay looks for jobs the queue has lost. */
  relay?: Pick<MailRelayOptions, 'lostAfter' | 'searchEvery'>;
  /** How soon an instance learns that another one has changed the keys. */
  signingKeys?: Pick<SigningKeysOptions, 'readEvery'>;
  /** How many times longer than in production a store's answer may take: for tests that do not ask how fast the machine is. */
  patience?: number;
}

/**
 * Builds the app; it listens when told to. Nothing has to be up: what is down is named by `/readyz` and refused by the requests that
 * need it, until it is back.
 */
export async function buildApp({
  env,
  logger,
  tracing,
  namespace,
  stopping = () => false,
  patience = 1,
  ...given
}: AppOptions) {
  const app = fastify({
    loggerInstance: logger,
    // plugins/request-log.ts writes the one line a request gets.
    logController: new LogController({ disableRequestLogging: true }),
    // The few lines there are name their request themselves: a logger of its own for each would be a tenth of the cost of verifying.
    childLoggerFactory: (parent) => parent,
    genReqId: requestId,
    bodyLimit: BODY_LIMIT,
    requestTimeout: REQUEST_TIMEOUT,
    serverFactory(handler) {
      const listener = (request: IncomingMessage, response: ServerResponse) => {
        if (request.headers.host === undefined && request.httpVersion === '1.1') {
          answerAtOnce(NO_HOST, request, response);
          return;
        }
        // A closing app tells its connections so, which Fastify does.
        const route = () => handler(request, response);
        const admit = (go: () => void) => admission.admit(request, response, go);
        if (server.listening) quickVerify(request, response, admit, route);
        else route();
      };
      const server = createServer(
        {
          headersTimeout: HEADERS_TIMEOUT,
          requestTimeout: REQUEST_TIMEOUT,
          connectionsCheckingInterval: TIMEOUT_CHECK,
          keepAliveTimeout: KEEP_ALIVE_TIMEOUT,
          // Node's own refusals say nothing.
          requireHostHeader: false,
        },
        listener,
      );
      // Whatever else than 100-continue somebody expects (RFC 9110 section 10.1.1) is answered as if it was not there.
      server.on('checkExpectation', listener);
      server.timeout = IDLE_TIMEOUT;
      server.maxConnections = MOST_CONNECTIONS;
      server.on('drop', () => metrics.droppedConnections.inc());
      return server;
    },
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

  // What the routes stand on
  const metrics = createMetrics();
  const reportLost = (dependency: 'postgresql' | 'redis') => (error: Error) => {
    metrics.dependencyErrors.inc({ dependency });
    logger.warn({ err: error, dependency }, 'connection trouble');
  };
  const keys = redisKeys(namespace);
  const db = connectDatabase(env.DATABASE_URL, reportLost('postgresql'), { patience });
  const connect = (profile: RedisProfile) => connectRedis(env.REDIS_URL, profile, reportLost('redis'), patience);
  const redis = connect('store');
  const queueConnection = connect('queueProducer');

  const epochs = createEpochs(redis, keys);
  const revocationCopy = createRevocationCopy({
    connect: () => connect('follower'),
    stream: keys.revocations,
    epochKey: keys.epoch,
    lagMax: env.REVOCATION_LAG_MAX_MS,
    onError: reportLost('redis'),
    async onEpochLost(found, knownUntil, last) {
      const began = await epochs.begin(found, (knownUntil + 1) * 1000, last);
      if (began)
        logger.warn({ found }, 'this Redis is new or older than what was read of it: everyone has to log in again');
      return began;
    },
    onEntry: (position, revocation) => feed.note(position, revocation),
  });
  const feed = createRevocationFeed({ copy: revocationCopy, lagMax: env.REVOCATION_LAG_MAX_MS });
  const revocationLog = createRevocationLog(redis, keys, env.ACCESS_TOKEN_TTL, revocationCopy, patience);
  const follower = createLogFollower({
    copy: revocationCopy,
    highWater: createHighWaterStore(db),
    announceLife: revocationLog.announceLife,
    logger,
    onError: reportLost('postgresql'),
  });
  const keyring = createKeyring(env.MASTER_KEY);
  const lives = keyLives(env.ACCESS_TOKEN_TTL);
  const signingKeys = createSigningKeys({
    store: createSigningKeyStore(db, lives),
    keyring,
    alg: env.SIGNING_ALG,
    denyKey: (kid) => revocationLog.denyKey(kid, lives.deniedFor),
    copy: revocationCopy,
    logger,
    ...given.signingKeys,
  });
  const verifier = createVerifier({
    issuer: env.PUBLIC_URL,
    audience: env.TOKEN_AUDIENCE,
    jwks: signingKeys.publicJwk,
    revocations: revocationCopy,
    // A token issued while ACCESS_TOKEN_TTL was longer must not outlive what the log says of it.
    maxTokenAge: env.ACCESS_TOKEN_TTL,
  });
  const schema = createSchemaWatch({ known: () => knownMigrations(db), logger });
  const passwords = createPasswords();
  const admission = createAdmission({ metrics, logger, passwordsFull: passwords.full });
  const users = createUserStore(db);
  const audit = createAudit(createAuditStore(db), logger);
  const sessionStore = createSessionStore(redis, keys, env);
  const replay = createLogReplay({ log: revocationLog, sessions: sessionStore, logger, onError: reportLost('redis') });
  // Behind a connection made anew may be another Redis than before.
  onServerChange(redis, () => {
    revocationCopy.doubt();
    if (redis.isCluster) replay.start();
  });
  const mailQueue = createMailQueue(queueConnection, keys, reportLost('redis'), tracing);
  const outbox = createOutbox(db);
  const relay = createMailRelay({ outbox, allowed: schema.demand, queue: mailQueue, logger, ...given.relay });
  const failedMails = createFailedMails({ queue: mailQueue, outbox, audit, kick: relay.kick });
  const housekeeping = createHousekeeping({
    users,
    allowed: schema.demand,
    logger,
    withdrawMails: mailQueue.remove,
    unconfirmedAfter: env.ACTIVATION_KEY_TTL + env.ACTIVATION_RENEWAL_TTL + KEEP_UNCONFIRMED,
  });
  const rateLimits = createRateLimits(redis, keys, env.RATE_LIMITS, keyring.rateLimitMac);

  const allowMail = (email: string) => rateLimits.consume('mailPerRecipient', email);
  const onMailOwed = relay.kick;
  const registration = createRegistration({ users, passwords, allowMail, onMailOwed });
  const activation = createActivation({
    keys: createMailKeyStore(redis, keys.activationKey),
    users,
    allowMail,
    onMailOwed,
  });
  const login = createLogin({
    users,
    sessions: sessionStore,
    log: revocationLog,
    passwords,
    signingKeys,
    keyring,
    audit,
    env,
    copy: revocationCopy,
  });
  const opaqueTokens = createOpaqueTokens(sessionStore, revocationCopy);
  const { quickVerify, findOnce } = createQuickVerify({ verifier, findOpaqueToken: opaqueTokens.find, metrics });
  const revocation = createRevocation({
    sessions: sessionStore,
    users,
    log: revocationLog,
  });
  const sessions = createSessions({
    store: sessionStore,
    log: revocationLog,
    revocation,
    audit,
    copy: revocationCopy,
  });
  const changes = createAccountChanges(db);
  const account = createAccount({
    changes,
    passwords,
    sessions,
    revocation,
    audit,
    allowPassword: (userId) => rateLimits.consume('passwordPerUser', userId),
    onPasswordRight: (userId) => rateLimits.reset('passwordPerUser', userId),
    allowMail,
    onMailOwed,
    withdrawMails: mailQueue.remove,
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
    onMailOwed,
  });

  const clients = createClients({
    store: createClientStore(db, redis),
    log: revocationLog,
    signingKeys,
    audit,
    copy: revocationCopy,
    env,
  });
  const introspection = createIntrospection({
    sessions: sessionStore,
    clients,
    opaqueTokens,
    revocation,
    log: revocationLog,
    copy: revocationCopy,
    verifier,
    keyring,
    env,
  });
  const operators = createOperators({
    users: createDirectory(db),
    sessions: sessionStore,
    listSessions: sessions.list,
    log: revocationLog,
    revocation,
    clients,
    introspection,
    signingKeys,
    audit,
    withdrawMails: mailQueue.remove,
  });

  measureOutbox(metrics.registry, outbox.backlog);
  metrics.gauge(
    'latchkey_revocation_lag_seconds',
    'Since the revocation copy was surely up to date',
    () => revocationCopy.lag() / 1000,
  );
  metrics.gauge(
    'latchkey_revocation_lag_max_seconds',
    'At that lag every token is refused',
    () => env.REVOCATION_LAG_MAX_MS / 1000,
  );
  metrics.gauge('latchkey_revoked_sessions', 'Sessions in the revocation copy', () => revocationCopy.size());
  metrics.gauge('latchkey_revocation_listeners', 'Verifiers on the revocation feed', () => feed.listeners());
  metrics.gauge('latchkey_password_queue_length', 'Hashes waiting for a thread', () => passwords.queued());
  metrics.gauge('latchkey_password_queue_limit', 'Hashes that may wait for a thread', () => passwords.queueLimit);

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
  await app.register(verifyRoutes, { prefix: '/v1' });
  await app.register(revocationRoutes, { prefix: '/v1', feed });
  await app.register(wellKnownRoutes, { signingKeys });
  // What may touch the database does only while that is as this build needs it.
  const databaseRoutes: FastifyPluginAsync = async (inDatabase) => {
    inDatabase.addHook('onRequest', (_request, _reply, done) => {
      if (schema.fits()) done();
      else schema.demand().then(() => done(), done);
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
      postgresql: () => db.$queryRaw`SELECT 1`,
      migrations: () => schema.check(),
      signing_keys: () => signingKeys.ensure(),
      // On Cluster by the node everything depends on.
      redis: () => redis.exists(keys.epoch),
      revocations: async () => {
        if (!revocationCopy.knowsRedis()) throw new NotReady('the revocation log has not been heard of lately');
      },
      staying: async () => {
        if (stopping()) throw new NotReady('told to stop: serves on until load balancers have left');
      },
    },
  });

  app.addHook('preClose', async () => {
    setTimeout(() => app.server.closeAllConnections(), FINISH_WITHIN).unref();
    await letGo(app.server, Math.min(env.SHUTDOWN_DELAY_MS, FINISH_WITHIN));
    // What is kept alive now would keep the app from closing: from now on each connection ends with the answer it waits for.
    app.server.keepAliveTimeout = 1;
  });

  app.addHook('onReady', async () => {
    follower.start();
    relay.start();
    // In the background: a service that starts before its database must still start.
    schema.start();
    housekeeping.start();
    signingKeys.start();
  });
  app.addHook('onClose', async () => {
    schema.stop();
    await housekeeping.stop();
    replay.stop();
    signingKeys.stop();
    passwords.close();
    admission.stop();
    await follower.close();
    await relay.close();
    await audit.close();
    await Promise.allSettled([mailQueue.close(), db.$disconnect()]);
    redis.disconnect();
    queueConnection.disconnect();
  });

  if (env.RATE_LIMITS === 'off') logger.warn('RATE_LIMITS=off: nothing is limited here, another layer has to');
  return app;
}

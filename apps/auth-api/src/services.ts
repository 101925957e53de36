/** What the routes stand on: the stores and the domain over them, each built after what it is built on. Nothing here knows a route. */
import { connectDatabase } from '@latchkey/shared/database';
import { connectRedis, onServerChange, type RedisProfile } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import type { Tracing } from '@latchkey/shared/tracing';
import { createRevocationCopy } from '@latchkey/verifier/revocation-copy';
import { createVerifier } from '@latchkey/verifier/verifier';
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
import { createPasswords } from './domain/passwords.ts';
import { createRegistration } from './domain/registration.ts';
import { createRevocation } from './domain/revocation.ts';
import { createRevocationFeed } from './domain/revocation-feed.ts';
import { createSchemaWatch } from './domain/schema-watch.ts';
import { createSessions } from './domain/sessions.ts';
import { createSigningKeys, keyLives, type SigningKeysOptions } from './domain/signing-keys.ts';
import type { Env } from './env.ts';
import { createMetrics } from './metrics.ts';
import { type DependencyName, NotReady } from './not-ready.ts';
import { measureOutbox } from './outbox-metrics.ts';
import { createRateLimits } from './rate-limits.ts';
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

/** Seconds a registration is kept once its first link could no longer be renewed: time to ask for another by address. */
const KEEP_UNCONFIRMED = 30 * 24 * 60 * 60;

export interface ServicesOptions {
  env: Env;
  logger: Logger;
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

/** Builds them; nothing has to be up. What goes on in the background begins with `start` and ends with `close`. */
export function createServices({ env, logger, tracing, namespace, patience = 1, ...given }: ServicesOptions) {
  const metrics = createMetrics();
  const reportLost = (dependency: DependencyName) => (error: Error) => {
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
    // The feed reads the copy that tells it: this is called once both are there.
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
  const relay = createMailRelay({ outbox, allowed: schema.assertFits, queue: mailQueue, logger, ...given.relay });
  const failedMails = createFailedMails({ queue: mailQueue, outbox, audit, kick: relay.kick });
  const housekeeping = createHousekeeping({
    users,
    allowed: schema.assertFits,
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

  return {
    metrics,
    admission,
    verifier,
    revocationCopy,
    opaqueTokens,
    feed,
    signingKeys,
    schema,
    rateLimits,
    registration,
    activation,
    users,
    account,
    passwordReset,
    emailChange,
    login,
    sessions,
    clients,
    operators,
    failedMails,

    /** What `/readyz` asks. */
    checks: {
      postgresql: () => db.$queryRaw`SELECT 1`,
      migrations: () => schema.check(),
      signing_keys: () => signingKeys.ensure(),
      // On Cluster by the node everything depends on.
      redis: () => redis.exists(keys.epoch),
      revocations: async () => {
        if (!revocationCopy.knowsRedis()) throw new NotReady('the revocation log has not been heard of lately');
      },
    },

    start(): void {
      follower.start();
      relay.start();
      // In the background: a service that starts before its database must still start.
      schema.start();
      housekeeping.start();
      signingKeys.start();
    },

    async close(): Promise<void> {
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
    },
  };
}

/** The environment of mailer-worker: every variable, its check and its default (contract, "Environment"). */
import {
  count,
  hostName,
  LOG_LEVELS,
  mailbox,
  oneOf,
  port,
  publicUrl,
  readEnvironment,
  redisUrl,
  seconds,
  smtpUrl,
} from '@latchkey/shared/environment';

export type Env = ReturnType<typeof readEnv>;

/** @throws {InvalidEnvironment} listing every missing or wrong variable. */
export function readEnv(source: Record<string, string | undefined>) {
  return readEnvironment(
    'mailer-worker',
    {
      REDIS_URL: redisUrl(),
      SMTP_URL: smtpUrl(),
      MAIL_FROM: mailbox(),
      PUBLIC_URL: publicUrl(),
      HOST: hostName({ default: '0.0.0.0' }),
      PORT: port({ default: 3001 }),
      LOG_LEVEL: oneOf(...LOG_LEVELS)({ default: 'info' }),
      ACTIVATION_KEY_TTL: seconds({ default: 900 }),
      ACTIVATION_RENEWAL_TTL: seconds({ default: 604_800 }),
      WORKER_CONCURRENCY: count({ default: 10 }),
    },
    source,
  );
}

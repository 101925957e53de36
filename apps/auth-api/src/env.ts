/** The environment of auth-api: every variable, its check and its default; .env.example says what each means. */
import {
  base64Key,
  cidrs,
  count,
  hostName,
  LOG_LEVELS,
  mailedKeyVariables,
  milliseconds,
  millisecondsOrZero,
  oneOf,
  port,
  postgresUrl,
  publicUrl,
  readEnvironment,
  redisUrl,
  seconds,
  secondsOrNone,
  secondsOrZero,
  text,
  trueOrFalse,
} from '@latchkey/shared/environment';
import { tracingVariables } from '@latchkey/shared/tracing';

export type Env = ReturnType<typeof readEnv>;

/** @throws {InvalidEnvironment} listing every missing or wrong variable. */
export function readEnv(source: Record<string, string | undefined>) {
  const env = readEnvironment(
    'auth-api',
    {
      DATABASE_URL: postgresUrl(),
      REDIS_URL: redisUrl(),
      PUBLIC_URL: publicUrl(),
      MASTER_KEY: base64Key(),
      HOST: hostName({ default: '0.0.0.0' }),
      PORT: port({ default: 3000 }),
      LOG_LEVEL: oneOf(...LOG_LEVELS)({ default: 'info' }),
      TOKEN_AUDIENCE: text({ default: '' }),
      SIGNING_ALG: oneOf('ES256', 'EdDSA', 'RS256')({ default: 'ES256' }),
      ...mailedKeyVariables,
      ACCESS_TOKEN_TTL: seconds({ default: 600 }),
      REFRESH_TOKEN_TTL: seconds({ default: 1_209_600 }),
      SESSION_MAX_AGE: seconds({ default: 2_592_000 }),
      REFRESH_GRACE: secondsOrZero({ default: 30 }),
      OPAQUE_TOKEN_TTL: secondsOrNone({ default: 2_592_000 }),
      RESET_TOKEN_TTL_ON_USE: trueOrFalse({ default: true }),
      OVERWRITE_NONE_TTL: trueOrFalse({ default: true }),
      MAX_SESSIONS_PER_USER: count({ default: 100 }),
      RATE_LIMITS: oneOf('on', 'off')({ default: 'on' }),
      REVOCATION_LAG_MAX_MS: milliseconds({ default: 2000 }),
      TRUSTED_PROXIES: cidrs({ default: [] }),
      STARTUP_WAIT_MAX_MS: millisecondsOrZero({ default: 5000 }),
      SHUTDOWN_DELAY_MS: millisecondsOrZero({ default: 3000 }),
      ...tracingVariables,
    },
    source,
  );
  return {
    ...env,
    TOKEN_AUDIENCE: env.TOKEN_AUDIENCE || env.PUBLIC_URL,
    OPAQUE_TOKEN_TTL: env.OPAQUE_TOKEN_TTL === 'none' ? null : env.OPAQUE_TOKEN_TTL,
  };
}

/** The environment of mailer-worker: every variable, its check and its default; .env.example says what each means. */
import {
  address,
  color,
  count,
  domainName,
  hostName,
  httpsUrl,
  LOG_LEVELS,
  mailbox,
  mailedKeyVariables,
  oneOf,
  port,
  publicUrl,
  readEnvironment,
  redisUrl,
  rsaPrivateKey,
  smtpUrl,
  text,
} from '@latchkey/shared/environment';
import { tracingVariables } from '@latchkey/shared/tracing';
import type { Dkim } from './smtp.ts';
import type { Theme } from './theme.ts';

export type Env = ReturnType<typeof readEnv>;

/** How mails look. */
export const themeOf = (env: Env): Theme => ({
  name: env.MAIL_THEME_NAME,
  color: env.MAIL_THEME_COLOR,
  logoUrl: env.MAIL_THEME_LOGO_URL,
  supportAddress: env.MAIL_SUPPORT_ADDRESS,
});

/** @throws {InvalidEnvironment} listing every missing or wrong variable. */
export function readEnv(source: Record<string, string | undefined>) {
  // All of DKIM or none: with one given, the others are required.
  const signs = ['DKIM_DOMAIN', 'DKIM_SELECTOR', 'DKIM_PRIVATE_KEY'].some((name) => (source[name] ?? '') !== '');
  const dkim = signs ? {} : { default: undefined };
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
      ...mailedKeyVariables,
      WORKER_CONCURRENCY: count({ default: 10 }),
      MAIL_THEME_NAME: text({ default: undefined }),
      MAIL_THEME_COLOR: color({ default: undefined }),
      MAIL_THEME_LOGO_URL: httpsUrl({ default: undefined }),
      MAIL_SUPPORT_ADDRESS: address({ default: undefined }),
      BOARD_API_URL: publicUrl({ default: undefined }),
      MAIL_DOMAIN_RATE: count({ default: 500 }),
      DKIM_DOMAIN: domainName(dkim),
      DKIM_SELECTOR: domainName(dkim),
      DKIM_PRIVATE_KEY: rsaPrivateKey(dkim),
      ...tracingVariables,
    },
    source,
  );
}

/** What signs the mails; undefined: nothing does. */
export function dkimOf({ DKIM_DOMAIN, DKIM_SELECTOR, DKIM_PRIVATE_KEY }: Env): Dkim | undefined {
  if (DKIM_DOMAIN === undefined || DKIM_SELECTOR === undefined || DKIM_PRIVATE_KEY === undefined) return undefined;
  return { domain: DKIM_DOMAIN, selector: DKIM_SELECTOR, privateKey: DKIM_PRIVATE_KEY };
}

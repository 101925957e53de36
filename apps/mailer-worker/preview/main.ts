/** `pnpm --filter mailer-worker preview`: the mails in a browser, with the theme of the environment. Sends nothing, needs nothing. */
import { InvalidEnvironment } from '@latchkey/shared/environment';
import { readEnv, themeOf } from '../src/env.ts';
import { createMails } from '../src/mails.ts';
import { createPreview } from './pages.ts';

/** A port of its own: the worker may be running. */
const DEFAULTS = {
  PUBLIC_URL: 'http://localhost:3000',
  PORT: '3002',
  // Required of the worker, and used by nothing here.
  REDIS_URL: 'redis://localhost',
  SMTP_URL: 'smtp://localhost',
  MAIL_FROM: 'nobody@localhost',
};

try {
  const env = readEnv({ ...DEFAULTS, ...process.env });
  const app = createPreview(createMails(env.PUBLIC_URL, env.ACTIVATION_KEY_TTL, themeOf(env)));
  const address = await app.listen({ host: '127.0.0.1', port: env.PORT });
  process.stdout.write(`Every mail: ${address}\n`);
} catch (error) {
  if (!(error instanceof InvalidEnvironment)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}

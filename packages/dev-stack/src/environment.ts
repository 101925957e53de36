/** The one place in src that reads the environment, and the names, defaults and checks of what `npm start` is told by it. */
import { StackFailure } from './stack-failure.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** What `npm start` and `npm run tour` are told by their environment. */
export type StackSettings = {
  /** Used instead of the embedded part, each. */
  readonly databaseUrl: string | undefined;
  readonly redisUrl: string | undefined;
  readonly smtpUrl: string | undefined;
  readonly apiPort: number;
  readonly workerPort: number;
  readonly inboxPort: number;
  /** Base of mailed links and the token issuer. */
  readonly publicUrl: string;
  /** Address the apps and the inbox listen on; undefined: the apps' own default, and the inbox on 127.0.0.1. */
  readonly host: string | undefined;
  readonly devClientId: string;
  readonly devClientSecret: string | undefined;
  /** Everything, to be passed on to the apps. */
  readonly passedOn: Environment;
};

/** A copy of the environment this process was started with. */
export function inheritedEnvironment(): Environment {
  return { ...process.env };
}

/**
 * Reads the settings of `npm start` (contract, "Commands"). An empty value counts as not set.
 *
 * @throws StackFailure naming every wrong variable at once.
 */
export function readStackSettings(env: Environment): StackSettings {
  const problems: string[] = [];
  const text = (name: string): string | undefined => (env[name] === '' ? undefined : env[name]);
  const port = (name: string, byDefault: number): number => {
    const value = text(name);
    if (value === undefined) {
      return byDefault;
    }
    const number = /^\d{1,5}$/.test(value) ? Number(value) : 0;
    if (number < 1 || number > 65_535) {
      problems.push(`${name} must be a port (1 to 65535)`);
    }
    return number;
  };
  const apiPort = port('API_PORT', 3000);
  const workerPort = port('WORKER_PORT', 3001);
  const inboxPort = port('INBOX_PORT', 8025);
  if (new Set([apiPort, workerPort, inboxPort]).size < 3) {
    problems.push('API_PORT, WORKER_PORT and INBOX_PORT must be three different ports');
  }
  const publicUrl = text('PUBLIC_URL') ?? `http://localhost:${apiPort}`;
  if (!URL.canParse(publicUrl)) {
    problems.push('PUBLIC_URL must be a URL');
  }
  if (problems.length > 0) {
    throw new StackFailure(`The environment is wrong:\n${problems.map((problem) => `  - ${problem}`).join('\n')}`);
  }
  return {
    databaseUrl: text('DATABASE_URL'),
    redisUrl: text('REDIS_URL'),
    smtpUrl: text('SMTP_URL'),
    apiPort,
    workerPort,
    inboxPort,
    publicUrl,
    host: text('HOST'),
    devClientId: text('DEV_CLIENT_ID') ?? 'dev',
    devClientSecret: text('DEV_CLIENT_SECRET'),
    passedOn: env,
  };
}

/**
 * The reader of the environment: each app lists its variables in one `env.ts` and reads them here, once, before the first connection.
 */
import { createPrivateKey } from 'node:crypto';
import { isIP } from 'node:net';
import { cleanEnv, makeValidator, type ValidatorSpec } from 'envalid';
import { parseRedisUrl } from './redis-url.ts';

/** The environment is wrong. The message lists every problem by name and what is expected; never a value. */
export class InvalidEnvironment extends Error {
  override readonly name = 'InvalidEnvironment';
}

/** What the validators of this file throw: the expectation, in words. */
class Expected extends Error {}

const validator = <T>(expectation: string, parse: (raw: string) => T | undefined) =>
  makeValidator<T>((raw: string) => {
    const value = parse(raw);
    if (value === undefined) throw new Expected(expectation);
    return value;
  });

function parseUrl(raw: string, protocols: readonly string[]): URL | undefined {
  const url = URL.parse(raw);
  return url && protocols.includes(url.protocol) && url.hostname !== '' ? url : undefined;
}

const asInteger = (raw: string, min: number, max: number): number | undefined =>
  /^\d{1,15}$/.test(raw) && Number(raw) >= min && Number(raw) <= max ? Number(raw) : undefined;

/** 10 years. A life of four days or more that was given in milliseconds is caught by it; a shorter one can't be told from seconds. */
const MAX_SECONDS = 315_360_000;

export const postgresUrl = validator('a URL postgresql://user@host:port/database', (raw) =>
  parseUrl(raw, ['postgresql:', 'postgres:']) ? raw : undefined,
);
/** One server, Redis Cluster or Sentinel: redis-url.ts. */
export const redisUrl = makeValidator<string>((raw: string) => {
  try {
    parseRedisUrl(raw);
  } catch (error) {
    throw new Expected(error instanceof Error ? error.message : undefined);
  }
  return raw;
});
export const smtpUrl = validator('a URL smtp://host:port or smtps://host:port', (raw) =>
  parseUrl(raw, ['smtp:', 'smtps:']) ? raw : undefined,
);
/** An http(s) base without user, query or fragment, empty ones too; the trailing slash goes. */
export const publicUrl = validator('an http:// or https:// URL without user, query or fragment', (raw) => {
  const url = parseUrl(raw, ['http:', 'https:']);
  const plain = url && url.username + url.password === '' && !/[?#]/.test(url.href);
  return plain ? url.href.replace(/\/+$/, '') : undefined;
});
export const base64Key = validator('32 bytes in base64 (openssl rand -base64 32)', (raw) => {
  if (!/^[A-Za-z0-9+/_-]{43}=?$/.test(raw)) return undefined;
  const bytes = Buffer.from(raw, 'base64');
  return bytes.length === 32 ? bytes : undefined;
});
export const seconds = validator(`a whole number of seconds from 1 to ${MAX_SECONDS}`, (raw) =>
  asInteger(raw, 1, MAX_SECONDS),
);
/** Both apps read them: the worker gives keys this life, the API forgets registrations by it. */
export const mailedKeyVariables = {
  ACTIVATION_KEY_TTL: seconds({ default: 900 }),
  ACTIVATION_RENEWAL_TTL: seconds({ default: 604_800 }),
};
export const secondsOrZero = validator(`a whole number of seconds from 0 to ${MAX_SECONDS}`, (raw) =>
  asInteger(raw, 0, MAX_SECONDS),
);
/** Seconds, or `none`: for ever. (Not null: envalid takes that for a variable that is missing.) */
export const secondsOrNone = validator<number | 'none'>(
  `a whole number of seconds from 1 to ${MAX_SECONDS}, or none`,
  (raw) => (raw === 'none' ? raw : asInteger(raw, 1, MAX_SECONDS)),
);
export const trueOrFalse = validator('true or false', (raw) =>
  raw === 'true' ? true : raw === 'false' ? false : undefined,
);
export const milliseconds = validator('a whole number of milliseconds from 100 to 600000', (raw) =>
  asInteger(raw, 100, 600_000),
);
export const millisecondsOrZero = validator('a whole number of milliseconds from 0 to 600000', (raw) =>
  asInteger(raw, 0, 600_000),
);
export const fraction = validator('a number from 0 to 1', (raw) =>
  /^(?:[01](?:\.0*)?|0?\.\d+)$/.test(raw) ? Number(raw) : undefined,
);
export const port = validator('a port from 0 to 65535', (raw) => asInteger(raw, 0, 65_535));
export const count = validator('a whole number from 1 to 100000', (raw) => asInteger(raw, 1, 100_000));
export const hostName = validator('a host name or address', (raw) => (/^[\w.:-]+$/.test(raw) ? raw : undefined));
/** A domain name, or the selector of a DKIM key, which is one too (RFC 6376 section 3.1). */
export const domainName = validator('a domain name', (raw) =>
  /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/i.test(raw)
    ? raw
    : undefined,
);
/** RFC 8301 section 3.2: signers use at least 1024 bits, and should use 2048. PEM, with line ends as they are or written `\n`. */
export const rsaPrivateKey = validator('an RSA private key in PEM, 1024 bits or more', (raw) => {
  try {
    const pem = raw.replaceAll('\\n', '\n');
    const { asymmetricKeyType, asymmetricKeyDetails } = createPrivateKey(pem);
    return asymmetricKeyType === 'rsa' && (asymmetricKeyDetails?.modulusLength ?? 0) >= 1024 ? pem : undefined;
  } catch {
    return undefined;
  }
});
export const mailbox = validator('an address, or a name and an address: Name <user@example.com>', (raw) =>
  /^(?:[^\r\n<>]*<[^\s<>@]+@[^\s<>@]+>|[^\s<>@]+@[^\s<>@]+)$/.test(raw) ? raw : undefined,
);
export const address = validator('an address: user@example.com', (raw) =>
  /^[^\s\p{C}<>()[\]\\,;:"@?&%#]+@[a-z0-9.-]+$/iu.test(raw) && raw.length <= 254 ? raw : undefined,
);
/** Of something that others load: over TLS, and with no credentials in it. */
export const httpsUrl = validator('an https:// URL', (raw) => {
  const url = parseUrl(raw, ['https:']);
  return url && url.username === '' && url.password === '' ? url.href : undefined;
});
export const color = validator('a colour #rrggbb', (raw) =>
  /^#[0-9a-f]{6}$/i.test(raw) ? raw.toLowerCase() : undefined,
);
export const text = validator('text without control characters', (raw) =>
  /^[^\p{Cc}]{1,200}$/u.test(raw) ? raw : undefined,
);
export const oneOf = <const T extends string>(...allowed: readonly T[]) =>
  validator<T>(`one of ${allowed.join(', ')}`, (raw) => allowed.find((value) => value === raw));

function isRange(item: string): boolean {
  const [address = '', prefix, ...rest] = item.split('/');
  const bits = { 0: -1, 4: 32, 6: 128 }[isIP(address)] ?? -1;
  return bits > 0 && rest.length === 0 && (prefix === undefined || asInteger(prefix, 0, bits) !== undefined);
}

/** IP prefixes in CIDR notation, or plain addresses, separated by commas; the empty string is none. */
export const cidrs = validator('addresses or CIDR ranges separated by commas', (raw) => {
  const list = raw
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');
  return list.every((item) => isRange(item)) ? list : undefined;
});

export const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;

/**
 * Reads and checks.
 * @throws {InvalidEnvironment} listing every missing or wrong variable.
 */
export function readEnvironment<T>(
  app: string,
  specs: { [Name in keyof T]: ValidatorSpec<T[Name]> },
  source: Record<string, string | undefined>,
): T {
  // An empty variable is an unset one: compose files and shells write `NAME=` for "not given".
  const given = Object.fromEntries(Object.entries(source).filter(([, value]) => value !== undefined && value !== ''));
  const read = cleanEnv(given, specs, {
    reporter: ({ errors }) => {
      const problems = Object.entries(errors).map(([name, error]) =>
        error instanceof Expected ? `  ${name} must be ${error.message}` : `  ${name} is required but not set`,
      );
      if (problems.length > 0) {
        throw new InvalidEnvironment(
          `${app} cannot start, its environment is wrong:\n${problems.join('\n')}\nSee .env.example.`,
        );
      }
    },
  });
  return Object.fromEntries(Object.keys(specs).map((name) => [name, read[name as keyof typeof read]])) as T;
}

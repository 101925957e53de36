/**
 * The one logger: JSON lines with pino, and the one redaction. Nothing that opens an account may reach a log line, whatever a
 * caller hands in, so it works on two levels: values under a secret's name are dropped wherever they are nested, and what
 * looks like a credential is cut out of the finished line.
 */
import { type DestinationStream, type Logger, pino } from 'pino';

const CENSORED = '[redacted]';

/** Names under which a value is a secret, compared without case, `-` and `_`. */
const SECRET_NAME =
  /^(?:.*password|.*passwd|passwordhash|.*secret|.*token|authorization|proxyauthorization|cookie|setcookie|masterkey|activationkey|key|.*apikey|privatekey|sealedprivatekey|jwk|pwd|passphrase|credentials?|otp|pin)$/;

/** Names the first rule would catch but that are harmless and needed. */
const HARMLESS_NAME = /^(?:tokenformat|tokentype)$/;

/** What a credential looks like, wherever it stands. */
const CREDENTIALS: readonly [RegExp, string][] = [
  // JWT: three base64url parts, the first a JSON object.
  [/\beyJ[\w-]+\.[\w-]+\.[\w-]*/g, CENSORED],
  // Our own opaque tokens all start with lk and a letter.
  [/\blk[a-z]_[\w-]{16,}/g, CENSORED],
  [/\b(Bearer|Basic)(\s+|%20)[\w.~+/=-]+/gi, `$1 ${CENSORED}`],
  // A key in the path of a mailed link or of the API behind it (32 base62 characters).
  [
    /(activate|activations|reset-password|password-resets|change-email|email-changes)(\/|%2F)[A-Za-z0-9]{16,}/gi,
    `$1/${CENSORED}`,
  ],
  // Credentials inside a URL.
  [/(\b[a-z][a-z0-9+.-]*:\/\/)[^\s/@"\\]+@/gi, `$1${CENSORED}@`],
];

/** A copy of `value` without secrets; cycles and depth are bounded because errors can carry whole object graphs. */
function withoutSecrets(value: unknown, depth = 0): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (depth > 6) return '[deep]';
  if (Array.isArray(value)) return value.slice(0, 100).map((item) => withoutSecrets(item, depth + 1));
  if (value instanceof Error) return describeError(value, depth);
  if (value instanceof Date) return value.toISOString();
  if (ArrayBuffer.isView(value)) return '[bytes]';
  const copy: Record<string, unknown> = {};
  for (const [name, item] of Object.entries(value)) {
    copy[name] = isSecretName(name) && item !== undefined && item !== null ? CENSORED : withoutSecrets(item, depth + 1);
  }
  return copy;
}

function isSecretName(name: string): boolean {
  const plain = name.toLowerCase().replaceAll(/[-_]/g, '');
  return SECRET_NAME.test(plain) && !HARMLESS_NAME.test(plain);
}

function describeError(error: Error, depth: number): Record<string, unknown> {
  const { name, message, stack, cause } = error;
  return {
    type: name,
    message,
    ...('code' in error && { code: error.code }),
    ...(stack !== undefined && { stack }),
    ...(cause !== undefined && { cause: withoutSecrets(cause, depth + 1) }),
  };
}

/** A member of the finished line whose value is text. */
const TEXT_MEMBER = /"([\w-]+)":"(?:[^"\\]|\\.)*"/g;

/** Cuts credentials out of a finished line: by name once more, for a child's bindings are written as they are given, and by their looks. */
function scrub(line: string): string {
  let clean = line.replaceAll(TEXT_MEMBER, (member, name: string) =>
    isSecretName(name) ? `"${name}":"${CENSORED}"` : member,
  );
  for (const [pattern, replacement] of CREDENTIALS) clean = clean.replaceAll(pattern, replacement);
  return clean;
}

/**
 * @param service `auth-api` or `mailer-worker`: in every line.
 * @param level pino level.
 * @param destination where lines go; standard output if left out.
 */
export function createLogger(service: string, level: string, destination?: DestinationStream): Logger {
  return pino(
    {
      level,
      base: { service },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: {
        log: (fields) => withoutSecrets(fields) as Record<string, unknown>,
      },
      // The formatter has already described errors; pino's own serializer would only see plain objects.
      serializers: { err: (error: unknown) => (error instanceof Error ? describeError(error, 0) : error) },
      hooks: { streamWrite: scrub },
    },
    destination ?? pino.destination({ sync: false, minLength: 0 }),
  );
}

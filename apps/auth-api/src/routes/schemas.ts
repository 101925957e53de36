/** What requests and answers look like. Validation, serialisation and the OpenAPI document are all made from these. */
import {
  EMAIL_PATTERN,
  LOCALE_PATTERN,
  LONGEST_DISPLAY_NAME,
  PRINTABLE_PATTERN,
} from '@latchkey/shared/account-fields';
import { type Static, type TObject, type TSchema, type TSchemaOptions, Type } from 'typebox';
import { type ProblemCode, statusesOf } from '../problems.ts';

export const Nullable = <T extends TSchema>(schema: T, options: TSchemaOptions = {}) =>
  Type.Union([schema, Type.Null()], options);

export const oneOf = <const T extends string>(values: readonly T[]) =>
  Type.Unsafe<T>(Type.Union(values.map((value) => Type.Literal(value))));

export const Email = Type.String({
  pattern: EMAIL_PATTERN,
  maxLength: 254,
  description: 'an e-mail address (RFC 5321, ASCII, at most 254 characters)',
  examples: ['ada@example.com'],
});

const anyPassword = {
  minLength: 1,
  // So that its length adds nothing to the cost of argon2id.
  maxLength: 256,
  pattern: '^[^\\u0000\\uD800-\\uDFFF]*$',
  description: 'a password of whole characters, null not among them',
  format: 'password',
} as const;
export const Password = Type.String(anyPassword);
/** One of fewer than 8 characters is refused as `password_too_weak`. */
export const NewPassword = Type.String({
  ...anyPassword,
  description: 'a password of 8 or more whole characters, null not among them',
  examples: ['correct horse battery staple'],
});
export const DisplayName = Type.String({
  minLength: 1,
  maxLength: LONGEST_DISPLAY_NAME,
  pattern: PRINTABLE_PATTERN,
  description: 'text without control characters',
  examples: ['Ada Lovelace'],
});
export const DeviceName = Type.String({
  minLength: 1,
  maxLength: 100,
  pattern: PRINTABLE_PATTERN,
  description: 'text without control characters',
  examples: ['Pixel 9'],
});
export const Locale = Type.String({
  pattern: LOCALE_PATTERN,
  description: 'a BCP 47 language tag',
  examples: ['de', 'en-GB'],
});
/** Any text: people mangle links, and are told so. */
export const KeyParams = Type.Object({
  key: Type.String({ description: '32 base62 characters, from the mailed link' }),
});
export const Instant = Type.String({ format: 'date-time' });
const Seconds = Type.Integer({ minimum: 0 });

export const UserStatus = oneOf(['pending', 'active', 'suspended']);

const Session = Type.Object({
  id: Type.String(),
  device_name: Nullable(Type.String()),
  created_at: Instant,
});

export const TokenResponse = Type.Object({
  access_token: Type.String(),
  token_type: Type.Literal('Bearer'),
  expires_in: Nullable(Seconds),
  refresh_token: Type.Optional(Type.String()),
  refresh_expires_in: Type.Optional(Seconds),
  session: Session,
  first_session: Type.Boolean(),
});

/** A body that may be left out; plugins/openapi.ts says so. */
export const Omittable = <Body extends TObject>(body: Body) =>
  Type.Unsafe<Static<Body> | null>({ ...body, type: ['object', 'null'] });

/** A call that takes no body: none, or an empty object. */
export const NoBody = Omittable(Type.Object({}, { additionalProperties: false }));

export const NoContent = Type.Null({ description: 'Done' });

/** RFC 9457. */
export const problemSchema = (codes: readonly ProblemCode[]) =>
  Type.Object(
    {
      type: Type.String(),
      title: Type.String(),
      status: Type.Integer(),
      code: oneOf(codes),
      detail: Type.Optional(Type.String()),
      errors: Type.Optional(
        Type.Array(Type.Object({ pointer: Type.String({ description: 'RFC 6901' }), detail: Type.String() })),
      ),
      until: Type.Optional(Instant),
      request_id: Type.String(),
    },
    { description: `RFC 9457 problem: ${codes.join(', ')}` },
  );

/** What any route may answer: Fastify's own refusals, a bug, too much at once, a dependency that is down. */
const EVERYWHERE = [
  'invalid_request',
  'body_too_large',
  'unsupported_media_type',
  'internal_error',
  'overloaded',
  'dependency_unavailable',
] as const;

/**
 * The `response` of a route: its answers and every problem it can refuse with, each under its status.
 * Together with {@link EVERYWHERE} this is all it may send; a test sees to it.
 */
export function answers(success: Record<number, TSchema>, ...codes: ProblemCode[]): Record<number, unknown> {
  const problems = [...statusesOf([...new Set([...codes, ...EVERYWHERE])])].map(
    ([status, group]) =>
      [status, { content: { 'application/problem+json': { schema: problemSchema(group) } } }] as const,
  );
  return { ...Object.fromEntries(problems), ...success };
}

/** What `request.authenticate()` and its like can refuse with. */
export const UNAUTHENTICATED = [
  'missing_token',
  'invalid_token',
  'session_revoked',
  'insufficient_scope',
] as const satisfies ProblemCode[];

/** What the operators' routes have in common. */
import { UUID_PATTERN } from '@latchkey/shared/uuid';
import { Type } from 'typebox';

/** One spelling and no other: PostgreSQL would take more of them for the same user than the sessions and the revocation log know. */
export const UserId = Type.String({
  pattern: UUID_PATTERN,
  description: 'the id of a user: a UUID in lower case',
});

/** Entries of a page. A query is text. */
export const Limit = Type.Optional(
  Type.String({ pattern: '^([1-9][0-9]?|1[0-9][0-9]|200)$', description: 'a number from 1 to 200; 50 if left out' }),
);
const DEFAULT_LIMIT = 50;

export const instant = (date: Date | null): string | null => date?.toISOString() ?? null;

export const limitOf = ({ limit }: { limit?: string }): number => (limit === undefined ? DEFAULT_LIMIT : Number(limit));

/** All users, as operators look at them. */

import { emailKey } from '@latchkey/shared/account-fields';
import type { Database } from '@latchkey/shared/database';
import { Prisma } from '@latchkey/shared/generated/prisma/client';
import type { AuditEvent } from './audit.ts';
import { eraseUser } from './credential-change.ts';

type ShownStatus = 'pending' | 'active' | 'suspended';

export interface DirectoryEntry {
  id: string;
  email: string;
  /** Suspended, whatever it was before, as long as the suspension lasts. */
  status: ShownStatus;
  displayName: string | null;
  locale: string;
  createdAt: Date;
  activatedAt: Date | null;
  tokensValidFrom: Date | null;
  suspendedUntil: Date | null;
  suspensionReason: string | null;
}

export interface DirectoryFilter {
  email?: string | undefined;
  status?: ShownStatus | undefined;
  /** Of the page before. */
  cursor?: Cursor | undefined;
  limit: number;
}

/** The last entry of a page: microseconds since the epoch at which it was created, as text, and its id. */
export interface Cursor {
  createdAt: string;
  id: string;
}

export type Directory = ReturnType<typeof createDirectory>;

const STATUS = Prisma.sql`CASE WHEN suspended_until > now() THEN 'suspended' ELSE status::text END`;
const MICROSECONDS = Prisma.sql`(extract(epoch FROM created_at) * 1000000)::bigint`;
const ENTRY = Prisma.sql`id, email, ${STATUS} AS status, display_name AS "displayName", locale, created_at AS "createdAt",
  activated_at AS "activatedAt", tokens_valid_from AS "tokensValidFrom",
  CASE WHEN suspended_until > now() THEN suspended_until END AS "suspendedUntil",
  CASE WHEN suspended_until > now() THEN suspension_reason END AS "suspensionReason"`;

export function createDirectory(db: Database) {
  return {
    async find(id: string): Promise<DirectoryEntry | undefined> {
      const [entry] = await db.$queryRaw<DirectoryEntry[]>`SELECT ${ENTRY} FROM users WHERE id = ${id}::uuid`;
      return entry;
    },

    /** The newest first. @returns also the cursor of the next page, if there is one. */
    async page({ email, status, cursor, limit }: DirectoryFilter): Promise<{ users: DirectoryEntry[]; next?: Cursor }> {
      const conditions = [
        Prisma.sql`true`,
        ...(email === undefined ? [] : [Prisma.sql`email_key = ${emailKey(email)}`]),
        ...(status === undefined ? [] : [Prisma.sql`${STATUS} = ${status}`]),
        ...(cursor === undefined
          ? []
          : [
              Prisma.sql`(created_at, id) < (timestamptz 'epoch' + ${cursor.createdAt}::bigint * interval '1 microsecond', ${cursor.id}::uuid)`,
            ]),
      ];
      const rows = await db.$queryRaw<(DirectoryEntry & { position: string })[]>`
        SELECT ${ENTRY}, ${MICROSECONDS}::text AS position FROM users WHERE ${Prisma.join(conditions, ' AND ')}
        ORDER BY created_at DESC, id DESC LIMIT ${limit + 1}`;
      const users = rows.slice(0, limit);
      const last = rows.length > limit ? users.at(-1) : undefined;
      return { users, ...(last && { next: { createdAt: last.position, id: last.id } }) };
    },

    /** {@link eraseUser}, whatever the password is. */
    erase: (userId: string, event: AuditEvent, inRedis: Parameters<typeof eraseUser>[2]): Promise<boolean> =>
      eraseUser(db, { userId, event }, inRedis),
  };
}

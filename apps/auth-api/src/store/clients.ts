/** Clients: machine callers with an id, a secret and scopes. */

import type { Database } from '@latchkey/shared/database';
import type { RedisConnection } from '@latchkey/shared/redis-connections';
import { type AuditEvent, auditInsert } from './audit.ts';
import type { Microseconds } from './sessions.ts';

export interface ClientRecord {
  id: string;
  scopes: string[];
  createdAt: Date;
  revokedAt: Date | null;
}

/** With the SHA-256 of its secret. */
export type StoredClient = ClientRecord & { secretHash: Uint8Array };

export type ClientStore = ReturnType<typeof createClientStore>;

export function createClientStore(db: Database, redis: RedisConnection) {
  return {
    /** Now by the clock of Redis, which orders issue and revocation. */
    async clock(): Promise<Microseconds> {
      const [seconds, microseconds] = await redis.time();
      return Number(seconds) * 1_000_000 + Number(microseconds);
    },

    /** @returns undefined for an id nobody has. */
    async find(id: string): Promise<StoredClient | undefined> {
      return (await db.client.findUnique({ where: { id } })) ?? undefined;
    },

    /** The oldest first. */
    async list(): Promise<ClientRecord[]> {
      return db.client.findMany({
        select: { id: true, scopes: true, createdAt: true, revokedAt: true },
        orderBy: [{ createdAt: 'asc' }, { id: 'asc' }],
      });
    },

    /** Revokes and records it in one statement; one revoked before keeps its instant. @returns whether there is such a client. */
    async revoke(id: string, event: AuditEvent): Promise<boolean> {
      const [revoked] = await db.$queryRaw<{ id: string }[]>`
        WITH revoked AS (
          UPDATE clients SET revoked_at = coalesce(revoked_at, now()) WHERE id = ${id} RETURNING id
        ), audited AS (
          ${auditInsert(event)} WHERE EXISTS (SELECT FROM revoked)
        )
        SELECT id FROM revoked`;
      return revoked !== undefined;
    },
  };
}

/**
 * Signing keys in PostgreSQL; the private part only sealed. Every instant is PostgreSQL's, and keys change in one transaction at a time: what
 * it decides by is read under a lock, so that several instances, or two commands at once, make one change.
 */
import type { Database } from '@latchkey/shared/database';
import type { Prisma } from '@latchkey/shared/generated/prisma/client';
import type { SealedKey } from '../domain/key-pair.ts';
import { type AuditEvent, auditInsert } from './audit.ts';

type State = 'next' | 'current' | 'retiring' | 'revoked';

export interface StoredSigningKey extends SealedKey {
  state: State;
  /** `next`: it may sign. `current`: it is old. `retiring`: all it signed has expired. `revoked`: verifiers must still be told. */
  due: boolean;
}

/** A key as operators see it. */
export interface SigningKeyRecord {
  kid: string;
  alg: string;
  state: State;
  createdAt: Date;
  signsFrom: Date | null;
  expiresAt: Date | null;
  revokedAt: Date | null;
}

/** Seconds each state lasts. */
export interface KeyLives {
  /** From when a key is published until everybody knows it. */
  knownAfter: number;
  /** From when a key signs until another one should. */
  rotateAfter: number;
  /** From when a key stops signing until nothing it signed is good any more. */
  retiresFor: number;
  /** From when a key is revoked until nobody can hold it, or a token by it, any more. */
  deniedFor: number;
}

export type RotationOutcome =
  | { status: 'rotated'; kid: string; retiring: string }
  /** The next key can't sign before `signsFrom`. */
  | { status: 'too_young'; signsFrom: Date }
  /** The current key is younger than asked for. */
  | { status: 'not_due' };

export type SigningKeyStore = ReturnType<typeof createSigningKeyStore>;

export function createSigningKeyStore(db: Database, lives: KeyLives) {
  const change = <T>(steps: (tx: Prisma.TransactionClient) => Promise<T>): Promise<T> =>
    db.$transaction(async (tx) => {
      await tx.$executeRaw`SELECT pg_advisory_xact_lock(hashtextextended('signing_keys', 0))`;
      return steps(tx);
    });

  /** `clock_timestamp()`: `now()` is when the transaction began, before it waited for its turn. */
  const addNext = (tx: Prisma.TransactionClient, key: SealedKey) => tx.$executeRaw`
    INSERT INTO signing_keys (kid, alg, public_jwk, sealed_private_key, state, created_at, signs_from)
    SELECT ${key.kid}, ${key.alg}, ${JSON.stringify(key.publicJwk)}::jsonb, ${key.sealedPrivateKey}, 'next', now,
      now + make_interval(secs => ${lives.knownAfter})
    FROM clock_timestamp() AS now WHERE NOT EXISTS (SELECT FROM signing_keys WHERE state = 'next')`;

  /** The next key signs from now on, if there is one. */
  const promoteNext = (tx: Prisma.TransactionClient) =>
    tx.$executeRaw`UPDATE signing_keys SET state = 'current', signs_from = clock_timestamp() WHERE state = 'next'`;

  async function fill(tx: Prisma.TransactionClient, [first, next]: readonly [SealedKey, SealedKey]): Promise<void> {
    const [{ empty } = { empty: false }] = await tx.$queryRaw<{ empty: boolean }[]>`
      SELECT NOT EXISTS (SELECT FROM signing_keys) AS empty`;
    await tx.$executeRaw`
      INSERT INTO signing_keys (kid, alg, public_jwk, sealed_private_key, state, signs_from)
      SELECT ${first.kid}, ${first.alg}, ${JSON.stringify(first.publicJwk)}::jsonb, ${first.sealedPrivateKey}, 'current', clock_timestamp()
      WHERE NOT EXISTS (SELECT FROM signing_keys WHERE state = 'current')
      ON CONFLICT DO NOTHING`;
    await addNext(tx, next);
    // No verifier has ever seen a set of keys without it.
    if (empty) await tx.$executeRaw`UPDATE signing_keys SET signs_from = created_at WHERE kid = ${next.kid}`;
  }

  return {
    /** Those that sign, did or will; and the revoked ones that verifiers must still be told of. The newest first. */
    async read(): Promise<StoredSigningKey[]> {
      const rows = await db.$queryRaw<StoredSigningKey[]>`
        SELECT kid, alg, public_jwk AS "publicJwk", sealed_private_key AS "sealedPrivateKey", state::text, CASE state
          WHEN 'next' THEN signs_from <= now()
          WHEN 'current' THEN coalesce(signs_from, created_at) <= now() - make_interval(secs => ${lives.rotateAfter})
          WHEN 'retiring' THEN expires_at <= now()
          ELSE revoked_at > now() - make_interval(secs => ${lives.deniedFor})
        END AS due
        FROM signing_keys ORDER BY created_at DESC, kid`;
      return rows.filter(({ state, due }) => state !== 'revoked' || due);
    },

    /** All that are there, the newest first. */
    list: (): Promise<SigningKeyRecord[]> =>
      db.signingKey.findMany({
        omit: { publicJwk: true, sealedPrivateKey: true },
        orderBy: [{ createdAt: 'desc' }, { kid: 'asc' }],
      }),

    /** Adds the current and the next key, each if there is none. Of the very first two, the next may sign at once. */
    fill: (fresh: readonly [SealedKey, SealedKey]): Promise<void> => change((tx) => fill(tx, fresh)),

    /** Replaces a next key of another algorithm, which has never signed. @returns whether it did. */
    replaceNext: (fresh: SealedKey): Promise<boolean> =>
      change(async (tx) => {
        const replaced = await tx.$executeRaw`DELETE FROM signing_keys WHERE state = 'next' AND alg <> ${fresh.alg}`;
        await addNext(tx, fresh);
        return replaced > 0;
      }),

    /**
     * The next key signs, the current one retires, `fresh` is the next: and it is recorded, all in one. A next key of another algorithm than
     * `fresh` is replaced by it instead.
     * @param when `asked`: by an operator; `due`: only if the current key is old.
     */
    rotate: (fresh: SealedKey, when: 'asked' | 'due', event: AuditEvent): Promise<RotationOutcome> =>
      change(async (tx) => {
        const [found] = await tx.$queryRaw<
          { kid: string; old: boolean; alg: string; ripe: boolean; signsFrom: Date }[]
        >`
          SELECT current.kid, next.alg, next.signs_from AS "signsFrom", next.signs_from <= clock_timestamp() AS ripe,
            coalesce(current.signs_from, current.created_at) <= clock_timestamp() - make_interval(secs => ${lives.rotateAfter}) AS old
          FROM signing_keys AS current, signing_keys AS next WHERE current.state = 'current' AND next.state = 'next'`;
        if (!found) throw new Error('there is no signing key to rotate to');
        if (when === 'due' && !found.old) return { status: 'not_due' };
        if (!found.ripe) return { status: 'too_young', signsFrom: found.signsFrom };
        if (found.alg !== fresh.alg) {
          await tx.$executeRaw`DELETE FROM signing_keys WHERE state = 'next'`;
          await addNext(tx, fresh);
          const [next] = await tx.$queryRaw<{ signsFrom: Date }[]>`
            SELECT signs_from AS "signsFrom" FROM signing_keys WHERE state = 'next'`;
          return { status: 'too_young', signsFrom: next?.signsFrom ?? found.signsFrom };
        }
        const { kid: retiring } = found;
        await tx.$executeRaw`
          UPDATE signing_keys SET state = 'retiring', sealed_private_key = '',
            expires_at = clock_timestamp() + make_interval(secs => ${lives.retiresFor}) WHERE kid = ${retiring}`;
        await promoteNext(tx);
        await addNext(tx, fresh);
        const [current] = await tx.$queryRaw<{ kid: string }[]>`SELECT kid FROM signing_keys WHERE state = 'current'`;
        const kid = current?.kid ?? '';
        await tx.$executeRaw(auditInsert({ ...event, details: { kid, retiring } }));
        return { status: 'rotated', kid, retiring };
      }),

    /**
     * Revokes a key and records it; if it was the current one the next one signs at once, and if it was the next one there is another. One
     * revoked before stays as it is. @returns whether there is such a key.
     */
    revoke: (kid: string, fresh: readonly [SealedKey, SealedKey], event: AuditEvent): Promise<boolean> =>
      change(async (tx) => {
        const [found] = await tx.$queryRaw<{ state: State }[]>`
          SELECT state::text FROM signing_keys WHERE kid = ${kid}`;
        if (!found) return false;
        await tx.$executeRaw(auditInsert({ ...event, details: { kid } }));
        if (found.state === 'revoked') return true;
        await tx.$executeRaw`
          UPDATE signing_keys SET state = 'revoked', revoked_at = clock_timestamp(), sealed_private_key = '' WHERE kid = ${kid}`;
        if (found.state === 'current') await promoteNext(tx);
        await fill(tx, fresh);
        return true;
      }),

    /** Forgets the retired keys of which nothing is good any more. */
    forget: (): Promise<number> =>
      db.$executeRaw`DELETE FROM signing_keys WHERE state = 'retiring' AND expires_at <= now()`,
  };
}

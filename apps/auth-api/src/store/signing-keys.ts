/** Signing keys in PostgreSQL; the private part only sealed. */
import type { Database } from '@latchkey/shared/database';
import type { SigningAlgorithm } from '../domain/signing-keys.ts';

export interface StoredSigningKey {
  kid: string;
  alg: SigningAlgorithm;
  publicJwk: Record<string, string>;
  sealedPrivateKey: Uint8Array;
  state: 'next' | 'current' | 'retiring' | 'revoked';
}

export type SigningKeyStore = ReturnType<typeof createSigningKeyStore>;

export function createSigningKeyStore(db: Database) {
  return {
    /** All but the revoked. */
    async usable(): Promise<StoredSigningKey[]> {
      const rows = await db.signingKey.findMany({
        where: { state: { not: 'revoked' } },
        orderBy: { createdAt: 'desc' },
      });
      return rows.map((row) => ({
        ...row,
        alg: row.alg as SigningAlgorithm,
        publicJwk: row.publicJwk as Record<string, string>,
      }));
    },

    /** Adds the first current key; of several instances that start at once, one adds and the others find it. */
    async addCurrentIfNone({ kid, alg, publicJwk, sealedPrivateKey }: Omit<StoredSigningKey, 'state'>): Promise<void> {
      await db.$executeRaw`
        INSERT INTO signing_keys (kid, alg, public_jwk, sealed_private_key, state)
        VALUES (${kid}, ${alg}, ${JSON.stringify(publicJwk)}::jsonb, ${sealedPrivateKey}, 'current')
        ON CONFLICT DO NOTHING`;
    },
  };
}

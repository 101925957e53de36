/** The keys derived from MASTER_KEY, one per purpose, so that no two uses share one (RFC 5869). */
import { createCipheriv, createDecipheriv, createHmac, createSecretKey, hkdfSync, randomBytes } from 'node:crypto';

export type Keyring = ReturnType<typeof createKeyring>;

/** @param masterKey 32 bytes; never leaves the process. */
export function createKeyring(masterKey: Buffer) {
  const derive = (purpose: string) => Buffer.from(hkdfSync('sha256', masterKey, '', `latchkey ${purpose} v1`, 32));
  // As a key object: given as bytes, Node would prepare the key anew for each MAC, at five times the cost.
  const refreshTokenKey = createSecretKey(derive('refresh token'));
  const rateLimitKey = createSecretKey(derive('rate limit'));
  const sealingKey = derive('signing key seal');

  return {
    /** HMAC-SHA-256 of a refresh token's content. */
    refreshTokenMac: (content: Uint8Array): Buffer => createHmac('sha256', refreshTokenKey).update(content).digest(),

    /** HMAC-SHA-256 of what a rate limit counts, as its key in Redis names it. */
    rateLimitMac: (subject: string): string => createHmac('sha256', rateLimitKey).update(subject).digest('base64url'),

    /** AES-256-GCM: nonce ‖ ciphertext ‖ tag. @param context binds the seal to its place: unsealing elsewhere fails. */
    seal(plaintext: Uint8Array, context: string): Buffer {
      const nonce = randomBytes(12);
      const cipher = createCipheriv('aes-256-gcm', sealingKey, nonce).setAAD(Buffer.from(context));
      return Buffer.concat([nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
    },

    /** @throws when MASTER_KEY is another one than sealed, or the bytes were changed. */
    unseal(sealed: Uint8Array, context: string): Buffer {
      const bytes = Buffer.from(sealed);
      const decipher = createDecipheriv('aes-256-gcm', sealingKey, bytes.subarray(0, 12))
        .setAAD(Buffer.from(context))
        .setAuthTag(bytes.subarray(-16));
      return Buffer.concat([decipher.update(bytes.subarray(12, -16)), decipher.final()]);
    },
  };
}

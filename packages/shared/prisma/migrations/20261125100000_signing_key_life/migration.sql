-- AlterTable
ALTER TABLE "signing_keys" ADD COLUMN "signs_from" TIMESTAMPTZ(6),
ADD COLUMN "expires_at" TIMESTAMPTZ(6),
ADD COLUMN "revoked_at" TIMESTAMPTZ(6);

-- What the Prisma schema language cannot say: partial unique indexes.
-- One key waits at a time.
CREATE UNIQUE INDEX "signing_keys_one_next" ON "signing_keys"("state") WHERE "state" = 'next';

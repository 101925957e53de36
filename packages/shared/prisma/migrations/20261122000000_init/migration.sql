-- CreateEnum
CREATE TYPE "user_status" AS ENUM ('pending', 'active');

-- CreateEnum
CREATE TYPE "signing_key_state" AS ENUM ('next', 'current', 'retiring', 'revoked');

-- CreateTable
CREATE TABLE "users" (
    "id" UUID NOT NULL,
    "email" TEXT NOT NULL,
    "email_key" TEXT NOT NULL,
    "status" "user_status" NOT NULL DEFAULT 'pending',
    "password_hash" TEXT NOT NULL,
    "display_name" TEXT,
    "locale" TEXT NOT NULL,
    "activation_attempt" INTEGER NOT NULL DEFAULT 1,
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "activated_at" TIMESTAMPTZ(6),

    CONSTRAINT "users_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "mail_outbox" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "payload" JSONB NOT NULL,
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "published_at" TIMESTAMPTZ(6),

    CONSTRAINT "mail_outbox_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "signing_keys" (
    "kid" TEXT NOT NULL,
    "alg" TEXT NOT NULL,
    "public_jwk" JSONB NOT NULL,
    "sealed_private_key" BYTEA NOT NULL,
    "state" "signing_key_state" NOT NULL,
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "signing_keys_pkey" PRIMARY KEY ("kid")
);

-- CreateTable
CREATE TABLE "clients" (
    "id" TEXT NOT NULL,
    "secret_hash" BYTEA NOT NULL,
    "scopes" TEXT[],
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "revoked_at" TIMESTAMPTZ(6),

    CONSTRAINT "clients_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE INDEX "users_email_key_created_at_idx" ON "users"("email_key", "created_at");

-- CreateIndex
CREATE INDEX "mail_outbox_published_at_created_at_idx" ON "mail_outbox"("published_at", "created_at");


-- What the Prisma schema language cannot say: partial unique indexes.
-- One account per address, however many registrations wait for it.
CREATE UNIQUE INDEX "users_email_key_activated" ON "users"("email_key") WHERE "status" <> 'pending';
-- One key signs at a time.
CREATE UNIQUE INDEX "signing_keys_one_current" ON "signing_keys"("state") WHERE "state" = 'current';

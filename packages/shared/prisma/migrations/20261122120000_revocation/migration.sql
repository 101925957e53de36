-- AlterTable
ALTER TABLE "users" ADD COLUMN "tokens_valid_from" TIMESTAMPTZ(6),
ADD COLUMN "login_closed_until" TIMESTAMPTZ(6),
ADD COLUMN "suspended_until" TIMESTAMPTZ(6),
ADD COLUMN "suspension_reason" TEXT;

-- CreateTable
CREATE TABLE "revocation_high_water" (
    "id" INTEGER NOT NULL DEFAULT 1,
    "epoch_id" TEXT NOT NULL,
    "position" TEXT NOT NULL,

    CONSTRAINT "revocation_high_water_pkey" PRIMARY KEY ("id")
);

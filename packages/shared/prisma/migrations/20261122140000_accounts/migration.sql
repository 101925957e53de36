-- AlterTable
ALTER TABLE "users" ADD COLUMN "password_reset_attempt" INTEGER NOT NULL DEFAULT 0,
ADD COLUMN "password_reset_spent" INTEGER NOT NULL DEFAULT 0,
ADD COLUMN "email_change_attempt" INTEGER NOT NULL DEFAULT 0,
ADD COLUMN "email_change_spent" INTEGER NOT NULL DEFAULT 0,
ADD COLUMN "new_email" TEXT;

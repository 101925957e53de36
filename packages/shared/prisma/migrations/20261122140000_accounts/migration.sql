-- AlterTable
ALTER TABLE "users" ADD COLUMN "password_reset_attempt" INTEGER NOT NULL DEFAULT 0,
ADD COLUMN "password_reset_spent" INTEGER NOT NULL DEFAULT 0,
ADD COLUMN "email_change_attempt" INTEGER NOT NULL DEFAULT 0,
ADD COLUMN "email_change_spent" INTEGER NOT NULL DEFAULT 0,
ADD COLUMN "new_email" TEXT;

-- What the Prisma schema language cannot say.
-- A password is changed, or an account deleted, in a transaction that ends the sessions before it commits. Who does so holds this lock of the
-- account until then (store/credential-change.ts).
CREATE FUNCTION "account_lock"(account UUID) RETURNS BIGINT LANGUAGE sql IMMUTABLE AS $$
  SELECT hashtextextended(account::text, 0)
$$;

-- The password hash once what is under way has been decided; NULL: the account is gone, or closed. A login asks for it after it has opened its session.
-- (plpgsql, VOLATILE: the second statement sees what was committed while the first one waited. The lock is no row lock, so nothing is written.)
CREATE FUNCTION "settled_password_hash"(account UUID) RETURNS TEXT LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared("account_lock"(account));
  RETURN (
    SELECT password_hash FROM "users"
    WHERE id = account AND coalesce(greatest(suspended_until, login_closed_until), now()) <= now()
  );
END
$$;

-- Whether hashes of another system are left ('!': no password at all).
CREATE INDEX "users_foreign_password_hash" ON "users"("id") WHERE "password_hash" NOT LIKE '$argon2id$%' AND "password_hash" <> '!';

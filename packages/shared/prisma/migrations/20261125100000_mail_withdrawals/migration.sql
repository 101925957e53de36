-- Mails that are owed no more and that the queue may still hold.
CREATE TABLE "mail_withdrawals" (
    "id" UUID NOT NULL,

    CONSTRAINT "mail_withdrawals_pkey" PRIMARY KEY ("id")
);

-- Whoever is activated, or changes something, finds the mails that are dead by that, of whatever kind.
CREATE INDEX "mail_outbox_user" ON "mail_outbox"(("payload" ->> 'user_id')) WHERE "payload" ? 'attempt';

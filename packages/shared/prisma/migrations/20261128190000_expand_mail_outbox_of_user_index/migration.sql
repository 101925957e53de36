-- All the mails a user is owed, those with a key ("mail_outbox_user") and the notices, however many are owed to others: who is deleted waits for it.
CREATE INDEX CONCURRENTLY "mail_outbox_of_user" ON "mail_outbox"(("payload" ->> 'user_id'));

-- The oldest registrations nobody confirmed, however many accounts are older than they.
CREATE INDEX CONCURRENTLY "users_unconfirmed" ON "users"("created_at") WHERE "status" = 'pending';

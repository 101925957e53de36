-- What "audit_event_erased" would change: what is left to be forgotten of a user, however much was forgotten before.
CREATE INDEX CONCURRENTLY "audit_events_personal" ON "audit_events"("user_id")
WHERE actor_type IN ('user', 'system') AND (ip IS NOT NULL OR user_agent IS NOT NULL) OR details ?| ARRAY['email', 'device_name', 'reason'];

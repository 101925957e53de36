-- Takes what is personal out of so many of a user's events at most (NULL: of all that are left), and returns of how many: as many as were
-- wanted, and there may be more. (The other "audit_forget", of the release before, writes all of them anew, and no statement may take that long.)
-- It looks through nothing but the index of what is left: whom the planner knows to have many events, it would seek in the table from its
-- beginning on, past all that are erased.
CREATE FUNCTION "audit_forget"(forgotten UUID, most INT) RETURNS INT LANGUAGE plpgsql
SET latchkey.audit_forgets = 'on' SET lock_timeout = '1s' SET enable_seqscan = 'off' SET enable_bitmapscan = 'off' AS $$
DECLARE
  part BIGINT[];
BEGIN
  -- Two who forget the same user take turns: so neither does again what the other has done, nor waits for an event in another order. The
  -- wait ends before the client gives up, as that of "audit_spare_the_gone".
  PERFORM pg_advisory_xact_lock(hashtextextended('audit_forget ' || forgotten, 0));
  part := ARRAY(
    SELECT id FROM "audit_events"
    WHERE user_id = forgotten
      AND (actor_type IN ('user', 'system') AND (ip IS NOT NULL OR user_agent IS NOT NULL) OR details ?| ARRAY['email', 'device_name', 'reason'])
    LIMIT most
  );
  UPDATE "audit_events" AS event
  SET (ip, user_agent, details) = (SELECT erased.ip, erased.user_agent, erased.details FROM "audit_event_erased"(event) AS erased)
  WHERE id = ANY(part);
  RETURN cardinality(part);
END
$$;

-- CreateEnum
CREATE TYPE "audit_actor" AS ENUM ('user', 'client', 'operator', 'system');

-- CreateTable
CREATE TABLE "audit_events" (
    "id" BIGSERIAL NOT NULL,
    "event_id" UUID NOT NULL DEFAULT gen_random_uuid(),
    "at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "type" TEXT NOT NULL,
    "actor_type" "audit_actor" NOT NULL,
    "actor_id" TEXT,
    "user_id" UUID,
    "ip" TEXT,
    "user_agent" TEXT,
    "request_id" TEXT,
    "details" JSONB NOT NULL DEFAULT '{}',

    CONSTRAINT "audit_events_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE UNIQUE INDEX "audit_events_event_id_key" ON "audit_events"("event_id");

-- CreateIndex
CREATE INDEX "audit_events_user_id_id_idx" ON "audit_events"("user_id", "id");

-- CreateIndex
CREATE INDEX "audit_events_type_id_idx" ON "audit_events"("type", "id");

-- CreateIndex
CREATE INDEX "users_created_at_id_idx" ON "users"("created_at", "id");


-- What the Prisma schema language cannot say: the table only grows.
-- An event without what is personal in it: the address and browser of a person who acted, and details that may name one.
CREATE FUNCTION "audit_event_erased"(event "audit_events") RETURNS "audit_events" LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF event.actor_type IN ('user', 'system') THEN
    event.ip := NULL;
    event.user_agent := NULL;
  END IF;
  event.details := event.details - ARRAY['email', 'device_name', 'reason'];
  RETURN event;
END
$$;

-- The one way to change an event: takes what is personal out of a deleted user's.
CREATE FUNCTION "audit_forget"(forgotten UUID) RETURNS VOID LANGUAGE plpgsql SET latchkey.audit_forgets = 'on' AS $$
BEGIN
  UPDATE "audit_events" AS event
  SET ip = erased.ip, user_agent = erased.user_agent, details = erased.details
  FROM "audit_events" AS source, LATERAL "audit_event_erased"(source) AS erased
  WHERE event.id = source.id AND source.user_id = forgotten;
END
$$;

CREATE FUNCTION "audit_refuse"() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' AND current_setting('latchkey.audit_forgets', true) = 'on' AND NEW = "audit_event_erased"(OLD) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'audit_events is append-only: % refused', TG_OP USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER "audit_events_append_only" BEFORE UPDATE OR DELETE ON "audit_events"
FOR EACH ROW EXECUTE FUNCTION "audit_refuse"();
CREATE TRIGGER "audit_events_not_emptied" BEFORE TRUNCATE ON "audit_events"
FOR EACH STATEMENT EXECUTE FUNCTION "audit_refuse"();

-- Nothing personal of somebody who is gone: an event that comes after the deletion is recorded without. FOR KEY SHARE waits for a deletion
-- under way; one that comes later waits for this event to be committed, and then erases it (audit_forget). The wait ends before the client
-- gives up (packages/shared/src/database.ts): statements nobody waits for any more must not pile up.
CREATE FUNCTION "audit_spare_the_gone"() RETURNS TRIGGER LANGUAGE plpgsql SET lock_timeout = '1s' AS $$
BEGIN
  IF NEW.user_id IS NOT NULL THEN
    PERFORM FROM "users" WHERE id = NEW.user_id FOR KEY SHARE;
    IF NOT FOUND THEN
      NEW := "audit_event_erased"(NEW);
    END IF;
  END IF;
  RETURN NEW;
END
$$;

CREATE TRIGGER "audit_events_spare_the_gone" BEFORE INSERT ON "audit_events"
FOR EACH ROW EXECUTE FUNCTION "audit_spare_the_gone"();

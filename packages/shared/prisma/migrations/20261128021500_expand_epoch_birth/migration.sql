ALTER TABLE "revocation_high_water" ADD COLUMN "born" BIGINT NOT NULL DEFAULT 0;

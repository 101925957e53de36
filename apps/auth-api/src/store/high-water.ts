/** How far this service has read the revocation log, kept where Redis's own loss does not reach. */
import type { Database } from '@latchkey/shared/database';
import type { HighWater } from '@latchkey/verifier/revocation-copy';

export type HighWaterStore = ReturnType<typeof createHighWaterStore>;

export function createHighWaterStore(db: Database) {
  return {
    async read(): Promise<HighWater | undefined> {
      return (
        (await db.revocationHighWater.findUnique({ where: { id: 1 }, select: { epochId: true, position: true } })) ??
        undefined
      );
    },

    /** Raises the mark; within an epoch it never falls. Stream ids are compared as their two numbers. */
    async raise({ epochId, position }: HighWater): Promise<void> {
      await db.$executeRaw`
        INSERT INTO revocation_high_water (id, epoch_id, position) VALUES (1, ${epochId}, ${position})
        ON CONFLICT (id) DO UPDATE SET epoch_id = excluded.epoch_id, position = excluded.position
        WHERE revocation_high_water.epoch_id <> excluded.epoch_id
          OR string_to_array(revocation_high_water.position, '-')::bigint[] < string_to_array(excluded.position, '-')::bigint[]`;
    },
  };
}

/** How far this service has read the revocation log, kept where Redis's own loss does not reach. */
import type { Database } from '@latchkey/shared/database';
import type { HighWater } from '@latchkey/verifier/revocation-copy';

export type HighWaterStore = ReturnType<typeof createHighWaterStore>;

export function createHighWaterStore(db: Database) {
  return {
    async read(): Promise<HighWater | undefined> {
      const mark = await db.revocationHighWater.findUnique({ where: { id: 1 }, omit: { id: true } });
      return mark ? { ...mark, born: Number(mark.born) } : undefined;
    },

    /**
     * Raises the mark; it never falls, nor goes back to an epoch born earlier. Stream ids are compared as their two numbers. The previous
     * release leaves `born` as it was: then it is an earlier epoch's birth, and still a lower bound.
     */
    async raise({ epochId, position, born }: HighWater): Promise<void> {
      await db.$executeRaw`
        INSERT INTO revocation_high_water AS mark (id, epoch_id, position, born)
        VALUES (1, ${epochId}, ${position}, ${BigInt(born)})
        ON CONFLICT (id) DO UPDATE SET epoch_id = excluded.epoch_id, position = excluded.position, born = excluded.born
        WHERE mark.born <= excluded.born AND (mark.epoch_id <> excluded.epoch_id
          OR (string_to_array(mark.position, '-')::bigint[], mark.born)
            < (string_to_array(excluded.position, '-')::bigint[], excluded.born))`;
    },
  };
}

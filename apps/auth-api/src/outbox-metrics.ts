/** What the outbox looks like, for Prometheus: asked of PostgreSQL at each scrape, so every instance says the same. */
import { setTimeout } from 'node:timers/promises';
import { Gauge, type Registry } from 'prom-client';
import type { Backlog } from './store/outbox.ts';

/** Milliseconds: a scrape must not hang on PostgreSQL. */
const WITHIN = 1000;

/** @param backlog rejects when PostgreSQL does not answer, and then the gauges have no value. */
export function measureOutbox(registry: Registry, backlog: () => Promise<Backlog>): void {
  const registers = [registry];
  let asking: Promise<Backlog | undefined> | undefined;
  /** One question for both: prom-client begins all gauges of a scrape at once. */
  function ask(): Promise<Backlog | undefined> {
    asking ??= Promise.race([backlog().catch(() => undefined), setTimeout(WITHIN, undefined, { ref: false })]).finally(
      () => {
        asking = undefined;
      },
    );
    return asking;
  }
  new Gauge({
    name: 'latchkey_mail_outbox_unpublished_age_seconds',
    help: 'Time for which the oldest mail that is not in the queue yet has been owed.',
    registers,
    async collect() {
      const found = await ask();
      if (found === undefined) this.remove();
      else this.set(found.unpublishedAge);
    },
  });
  new Gauge({
    name: 'latchkey_mail_outbox_mails',
    help: 'Mails that are owed: waiting, on their way, or in the failed set.',
    registers,
    async collect() {
      const found = await ask();
      if (found === undefined) this.remove();
      else this.set(found.mails);
    },
  });
}

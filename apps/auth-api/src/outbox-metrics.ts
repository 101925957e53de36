/** What the outbox looks like, for Prometheus: asked of PostgreSQL at each scrape, so every instance says the same. */
import { setTimeout } from 'node:timers/promises';
import { Gauge, type Registry } from 'prom-client';
import type { Backlog } from './store/outbox.ts';

/** Milliseconds: a scrape must not hang on PostgreSQL. */
const WITHIN = 1000;

/** @param backlog rejects when PostgreSQL does not answer, and then the gauges have no value. */
export function measureOutbox(registry: Registry, backlog: () => Promise<Backlog>): void {
  const registers = [registry];
  const age = new Gauge({
    name: 'latchkey_mail_outbox_unpublished_age_seconds',
    help: 'Time for which the oldest mail that is not in the queue yet has been owed.',
    registers,
  });
  new Gauge({
    name: 'latchkey_mail_outbox_mails',
    help: 'Mails that are owed: waiting, on their way, or in the failed set.',
    registers,
    async collect() {
      const late = setTimeout(WITHIN, undefined, { ref: false });
      const found = await Promise.race([backlog().catch(() => undefined), late]);
      if (!found) {
        age.remove();
        this.remove();
        return;
      }
      age.set(found.unpublishedAge);
      this.set(found.mails);
    },
  });
}

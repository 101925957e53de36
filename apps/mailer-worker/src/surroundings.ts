/** What the worker sees around it, for Prometheus: asked at each scrape. */
import { Gauge, type Registry } from 'prom-client';
import { askedOnce } from './asked-once.ts';
import type { Readiness } from './health.ts';

/**
 * @param readiness answers in time, whatever is away.
 * @param reports mails reported as accepted and not yet acknowledged; rejects when Redis does not answer.
 */
export function measureSurroundings(
  registry: Registry,
  readiness: () => Promise<Readiness>,
  reports: () => Promise<number>,
): void {
  const registers = [registry];
  const state = askedOnce(readiness);
  new Gauge({
    name: 'latchkey_mail_redis_may_evict',
    help: '1 when Redis may throw queued mails away.',
    registers,
    async collect() {
      const { warnings } = await state();
      this.set(warnings.length > 0 ? 1 : 0);
    },
  });
  new Gauge({
    name: 'latchkey_mail_dependency_up',
    help: '1 when it answers.',
    labelNames: ['dependency'],
    registers,
    async collect() {
      const { checks } = await state();
      for (const [dependency, check] of Object.entries(checks)) this.set({ dependency }, check === 'up' ? 1 : 0);
    },
  });
  new Gauge({
    name: 'latchkey_mail_reports_waiting',
    help: 'Mails a mail server has accepted and whose outbox row still stands.',
    registers,
    async collect() {
      const waiting = await reports().catch(() => undefined);
      if (waiting === undefined) this.remove();
      else this.set(waiting);
    },
  });
}

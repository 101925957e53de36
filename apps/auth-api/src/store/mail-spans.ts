/** The span between a mail that is owed and its job: so the trace of a request goes on in the worker. */
import type { Tracing } from '@latchkey/shared/tracing';
import type { OwedMail } from './outbox.ts';

type Add = (mails: readonly OwedMail[]) => Promise<void>;

/**
 * Has each mail that is handed to the queue be a span of the trace its request was in, however late and by whichever instance, and its job a
 * child of that span.
 */
export const traced =
  (tracing: Tracing, queue: string, add: Add): Add =>
  async (mails) => {
    const spans = mails.map(({ id, payload }) =>
      tracing.begin(`add ${queue}`, 'PRODUCER', payload.traceparent, {
        'messaging.system': 'bullmq',
        'messaging.operation.name': 'add',
        'messaging.operation.type': 'send',
        'messaging.destination.name': queue,
        'messaging.message.id': id,
      }),
    );
    const end = (error?: string) => spans.forEach((span) => void span.end({}, error));
    try {
      await add(
        mails.map((mail, at) => ({ ...mail, payload: { ...mail.payload, traceparent: spans[at]?.traceparent } })),
      );
      end();
    } catch (error) {
      end(error instanceof Error ? error.name : 'unknown');
      throw error;
    }
  };

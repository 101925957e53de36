/** Mail from its row in the outbox to the sink, against nodemailer's pool alone; and how long one mail takes on an idle machine. */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { StackFailure } from '@latchkey/dev-stack/stack-failure';
import { PASSWORD } from '../accounts.ts';
import { steadyNow } from '../programs/control.ts';
import type { Accepted } from '../programs/mail-sink.ts';
import type { Row } from '../report.ts';
import { compare, type Sample, spread } from '../rounds.ts';
import { ask, type Program, type Stand } from '../stand.ts';

const ROUNDS = 3;
/** Mails of a measurement, per second it may take: between what the worker and what the bare pool send on two cores. */
const MAILS_PER_SECOND = 1200;
/** Mails sent one at a time, per second of a measurement. */
const SINGLE_MAILS_PER_SECOND = 50;
/** Milliseconds in which a round's mails must have arrived, and the outbox must have been emptied: far more than it takes. */
const PATIENCE = 60_000;
const POLL = 20;
/** By so much the mails of the two may differ in length. */
const SAME_LENGTH = 0.1;
/** Domains the recipients are spread over: one would be paced (MAIL_DOMAIN_RATE), and so many people are never of one. */
const DOMAINS = 100;

export async function benchMail(stand: Stand): Promise<Row[]> {
  const sink = await stand.sink();
  await stand.worker();
  const bare = await stand.bareMailer();
  const count = Math.ceil(MAILS_PER_SECOND * stand.seconds);
  const bytes = { bare: Number.NaN, ours: Number.NaN };
  const comparison = await compare(
    stand.rounds(ROUNDS),
    async () => {
      const sent = await accepted(sink, count, () => ask(`${bare.url}/send?count=${count}`));
      bytes.bare = sent.bytes;
      return rateOf(sent, count);
    },
    async () => {
      const sent = await accepted(sink, count, () => oweMails(stand, count));
      bytes.ours = sent.bytes;
      await outboxIsEmpty(stand);
      return rateOf(sent, count);
    },
  );
  await bare.stop();
  if (!(Math.abs(bytes.bare / bytes.ours - 1) <= SAME_LENGTH)) {
    throw new StackFailure(
      `Mails of ${bytes.ours} bytes are not compared with mails of ${bytes.bare}: programs/bare-mailer.ts sends others.`,
    );
  }
  const what = 'outbox to accepted by the mail server';
  return [{ name: 'mail', what, against: 'nodemailer pool', ...comparison }, await singleMails(stand, sink)];
}

/** Resolves when every mail that was owed is accepted and its row gone. @throws StackFailure when that takes too long. */
export async function outboxIsEmpty({ database }: Stand): Promise<void> {
  const deadline = steadyNow() + PATIENCE;
  for (;;) {
    const { rows } = await database.query<{ owed: number }>('SELECT count(*)::int AS owed FROM mail_outbox');
    const owed = rows[0]?.owed ?? 0;
    if (owed === 0) {
      return;
    }
    if (steadyNow() > deadline) {
      throw new StackFailure(`${owed} mails are still owed after ${PATIENCE / 1000} s.`);
    }
    await delay(POLL);
  }
}

/** Has so many mails sent. @returns how the sink accepted them. */
async function accepted(sink: Program, count: number, send: () => Promise<unknown>): Promise<Accepted> {
  const { count: before } = await ask<{ count: number }>(`${sink.url}/count`);
  const [sent] = await Promise.all([acceptance(sink, before + 1, before + count), send()]);
  return sent;
}

/** Mails per second at the sink, from the first to the last: so the wait for the relay's next look at the outbox is no part of it. */
const rateOf = ({ first, last }: Accepted, count: number): Sample => ({
  perSecond: ((count - 1) / (last - first)) * 1000,
});

async function acceptance(sink: Program, from: number, to: number): Promise<Accepted> {
  try {
    return await ask(`${sink.url}/accepted?from=${from}&to=${to}`, { signal: AbortSignal.timeout(PATIENCE) });
  } catch (error) {
    throw error instanceof Error && error.name === 'TimeoutError'
      ? new StackFailure(`Not all of ${to - from + 1} mails have arrived after ${PATIENCE / 1000} s.`)
      : error;
  }
}

/** What so many registrations leave behind, in one transaction (the payload: packages/shared/src/mail-jobs.ts). */
async function oweMails({ database }: Stand, count: number): Promise<void> {
  await database.query(
    `WITH registration AS (
       INSERT INTO users (id, email, email_key, password_hash, locale)
       SELECT id, address, address, 'none', 'en'
       FROM (SELECT id, 'mail-' || id || '@d' || n % ${DOMAINS} || '.example.test' AS address
         FROM (SELECT gen_random_uuid() AS id, n FROM generate_series(1, $1::int) AS n) AS new) AS addressed
       RETURNING id, email, locale, activation_attempt
     )
     INSERT INTO mail_outbox (id, name, payload)
     SELECT gen_random_uuid(), 'activation', jsonb_build_object(
       'v', 1, 'request_id', 'bench', 'user_id', id, 'to', email, 'locale', locale, 'attempt', activation_attempt)
     FROM registration`,
    [count],
  );
}

/** Registrations one at a time, each with nothing else to do: from the 202, which follows the commit at once, to the mail's acceptance. */
async function singleMails(stand: Stand, sink: Program): Promise<Row> {
  const samples = Math.max(10, Math.round(SINGLE_MAILS_PER_SECOND * stand.seconds));
  const { count: before } = await ask<{ count: number }>(`${sink.url}/count`);
  const latencies: number[] = [];
  for (let n = 1; n <= samples; n += 1) {
    await ask(`${stand.api.url}/v1/users`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ email: `single-${randomUUID()}@example.test`, password: PASSWORD }),
    });
    const answered = steadyNow();
    const { last } = await acceptance(sink, before + n, before + n);
    latencies.push(last - answered);
  }
  return {
    name: 'mail_latency',
    what: 'one registration answered to its mail accepted',
    latency: spread(latencies),
  };
}

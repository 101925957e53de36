/**
 * The way of one mail from the commit of its registration to the end of its outbox row, as it can be seen on the wires: what a crash can fall
 * between. Three tracks, because what is on one runs beside what is on the other.
 */
import type { Chunk } from './wire.ts';

export type Link = 'api-postgresql' | 'api-redis' | 'worker-redis' | 'worker-smtp';

interface Step {
  readonly name: string;
  readonly link: Link;
  readonly toServer: boolean;
  /** What the chunk has in it; without it, it is the next one of the connection in this direction. */
  readonly has?: (mail: Followed, text: string) => boolean;
}

/** The mail that is followed. */
export interface Followed {
  readonly to: string;
  id: string | undefined;
}

const hasAddress = ({ to }: Followed, text: string) => text.includes(to);
const hasId = ({ id }: Followed, text: string) => id !== undefined && text.includes(id);
const both =
  (word: string) =>
  ({ id }: Followed, text: string) =>
    id !== undefined && text.includes(id) && text.includes(word);
const says = (word: string) => (_mail: Followed, text: string) => text.includes(word);

const on = (link: Link, toServer: boolean) => (name: string, has?: Step['has']) =>
  ({ name, link, toServer, ...(has && { has }) }) satisfies Step;
const apiSql = on('api-postgresql', true);
const sqlAnswers = on('api-postgresql', false);
const apiRedis = on('api-redis', true);
const redisTellsApi = on('api-redis', false);
const workerRedis = on('worker-redis', true);
const redisTellsWorker = on('worker-redis', false);
const workerSmtp = on('worker-smtp', true);
const smtpAnswers = on('worker-smtp', false);

export const tracks: Readonly<Record<'publish' | 'send' | 'acknowledge', readonly Step[]>> = {
  publish: [
    apiSql('registration and mail committed', hasAddress),
    sqlAnswers('commit answered'),
    sqlAnswers('relay has read the row', hasAddress),
    apiRedis('job added', hasAddress),
    redisTellsApi('job answered'),
    apiSql('row marked published', hasId),
    sqlAnswers('mark answered'),
    apiSql('mark committed'),
    sqlAnswers('commit of the mark answered'),
  ],
  send: [
    redisTellsWorker('job taken', hasAddress),
    workerRedis('ledger asked', both('ledger:')),
    redisTellsWorker('ledger answered'),
    workerRedis('key minted', says(':activation-key:')),
    redisTellsWorker('key answered'),
    workerSmtp('MAIL', says('MAIL FROM')),
    smtpAnswers('MAIL answered'),
    workerSmtp('RCPT', hasAddress),
    smtpAnswers('RCPT answered'),
    workerSmtp('DATA', says('DATA')),
    smtpAnswers('354'),
    workerRedis('data noted', both('sending')),
    redisTellsWorker('note answered'),
    workerSmtp('data', hasAddress),
    // In a chunk of its own, or at the end of another one.
    workerSmtp('final dot', (_mail, text) => `\n${text}`.endsWith('\n.\r\n')),
    smtpAnswers('250'),
    workerRedis('acceptance noted', both('accepted')),
    redisTellsWorker('acceptance answered'),
    workerRedis('job finished', hasId),
    redisTellsWorker('finish answered'),
  ],
  acknowledge: [
    redisTellsApi('report read', hasId),
    apiSql('row deleted', hasId),
    sqlAnswers('deletion answered'),
    apiRedis('report taken back', both('accepted')),
    redisTellsApi('end'),
  ],
};

export type Track = keyof typeof tracks;

/** Follows one mail: tells of each step as it is seen, before it goes on. */
export function follow(mail: Followed, onStep: (track: Track, name: string) => boolean): (chunk: Chunk) => boolean {
  const seen = { publish: 0, send: 0, acknowledge: 0 };
  const connections: Partial<Record<Track, number>> = {};
  const noted = tracks.send.findIndex(({ name }) => name === 'acceptance noted');

  function isNext(track: Track, { link, toServer, connection, text }: Chunk): boolean {
    const step = tracks[track][seen[track]];
    if (step === undefined || step.link !== link || step.toServer !== toServer) return false;
    // The report can be read only once it was written.
    if (track === 'acknowledge' && seen.send <= noted) return false;
    return step.has === undefined ? connection === connections[track] : step.has(mail, text);
  }

  /** Steps of one track in one chunk. @returns whether it is to arrive. */
  function advance(track: Track, chunk: Chunk): boolean {
    let arrives = true;
    // Several steps may be in one chunk; but what is the next of its connection is another chunk.
    for (let more = true; more && isNext(track, chunk); more = tracks[track][seen[track]]?.has !== undefined) {
      const name = tracks[track][seen[track]]?.name ?? '';
      seen[track] += 1;
      connections[track] = chunk.connection;
      if (!onStep(track, name)) arrives = false;
    }
    return arrives;
  }

  return (chunk) => {
    if (chunk.link === 'api-redis' && chunk.toServer && chunk.text.includes(mail.to)) {
      // Jobs are added in batches: this one's id is the last before its address.
      const before = chunk.text.slice(0, chunk.text.indexOf(mail.to));
      mail.id ??= before.match(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g)?.at(-1);
    }
    const verdicts = (['publish', 'send', 'acknowledge'] as const).map((track) => advance(track, chunk));
    return verdicts.every((arrives) => arrives);
  };
}

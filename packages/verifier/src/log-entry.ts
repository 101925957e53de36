/**
 * An entry of the revocation log, which is one field: what it is about, and `until at id` in one text. A client of Redis takes longer to hand
 * over a field than all that is done with it here, and a new verifier reads a million of them (ADR 22).
 *
 * `sid` "until from id user", of a client's token without the user | `sub` "until cutoff id" | `kid` "until 0 id"
 */
import type { Revocation } from './revoked.ts';

type WithoutUntil<Line> = Line extends unknown ? Omit<Line, 'until'> : never;

/** What is to be revoked, before Redis has said until when that matters. */
export type NewRevocation = WithoutUntil<Revocation>;

/** @returns the field's name, and its text but for `until` and a space. */
export function writeEntry(revocation: NewRevocation): [name: string, text: string] {
  if ('keyId' in revocation) return ['kid', `0 ${revocation.keyId}`];
  if ('userId' in revocation) return ['sub', `${revocation.cutoff} ${revocation.userId}`];
  const { sessionId, from, user } = revocation;
  return ['sid', `${from} ${sessionId}${user === undefined ? '' : ` ${user}`}`];
}

const [S, I, D, SPACE, ZERO = 0] = Buffer.from('sid 0');
/** Where the id begins in "until 0 id user": seconds have ten digits until the year 2286. */
export const SESSION_AT = 13;
/** An id of ours has 22 characters. */
const SESSION_END = SESSION_AT + 22;

/** @returns `until`, if the entry is of a whole session with an id of ours; undefined for any other. No string is made. */
export function untilOfSession(name: Uint8Array, text: Uint8Array): number | undefined {
  if (name.length !== 3 || name[0] !== S || name[1] !== I || name[2] !== D) return undefined;
  if (text[10] !== SPACE || text[11] !== ZERO || text[12] !== SPACE) return undefined;
  if (text.length > SESSION_END && text[SESSION_END] !== SPACE) return undefined;
  let until = 0;
  for (let at = 0; at < 10; at += 1) {
    const digit = (text[at] ?? 0) - ZERO;
    if (digit < 0 || digit > 9) return undefined;
    until = 10 * until + digit;
  }
  return until;
}

/**
 * @returns undefined for an entry this release does not understand: a newer one wrote it, for newer readers. Also for one without its numbers,
 *   which compare as false: what is known to be revoked must not be forgotten because of it.
 */
export function readEntry(name: string, text: string): Revocation | undefined {
  const untilEnd = text.indexOf(' ');
  const atEnd = text.indexOf(' ', untilEnd + 1);
  const until = Number(text.slice(0, untilEnd));
  const at = Number(text.slice(untilEnd + 1, atEnd));
  const id = text.slice(atEnd + 1);
  if (Number.isNaN(until) || Number.isNaN(at)) return undefined;
  if (name === 'sid') {
    const idEnd = id.indexOf(' ');
    if (idEnd < 0) return { sessionId: id, from: at, until };
    return { sessionId: id.slice(0, idEnd), from: at, until, user: id.slice(idEnd + 1) };
  }
  if (name === 'sub') return { userId: id, cutoff: at, until };
  if (name === 'kid') return { keyId: id, until };
  return undefined;
}

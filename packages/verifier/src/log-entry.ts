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

const [SPACE = 0, ZERO = 0] = Buffer.from(' 0');
const [SID, SUB] = [Buffer.from('sid'), Buffer.from('sub')];
/** Seconds have ten digits until the year 2286, microseconds sixteen. */
const UNTIL_END = 10;
const [ZERO_END, INSTANT_END] = [UNTIL_END + 2, UNTIL_END + 17];

/** @returns NaN unless all are digits. */
function numberIn(text: Uint8Array, from: number, to: number): number {
  let number = 0;
  for (let at = from; at < to; at += 1) {
    const digit = (text[at] ?? 0) - ZERO;
    if (digit < 0 || digit > 9) return Number.NaN;
    number = 10 * number + digit;
  }
  return number;
}

/** @returns whether it took the id that stands there. */
type TakeBytes = (text: Uint8Array, from: number, to: number, until: number, at: number) => boolean;

/**
 * Hands on an entry of a session or a user, if it has the form nearly all have: no string is made.
 * @returns `until`, if it was taken.
 */
export function takeBytes(
  name: Uint8Array,
  text: Uint8Array,
  takeSession: TakeBytes,
  takeUser: TakeBytes,
): number | undefined {
  const atEnd = text[ZERO_END] === SPACE ? ZERO_END : INSTANT_END;
  if (text[UNTIL_END] !== SPACE || text[atEnd] !== SPACE) return undefined;
  const [until, at, id] = [numberIn(text, 0, UNTIL_END), numberIn(text, UNTIL_END + 1, atEnd), atEnd + 1];
  if (Number.isNaN(until) || Number.isNaN(at)) return undefined;
  const userAt = text.indexOf(SPACE, id);
  if (SID.equals(name)) return takeSession(text, id, userAt < 0 ? text.length : userAt, until, at) ? until : undefined;
  if (SUB.equals(name)) return takeUser(text, id, text.length, until, at) ? until : undefined;
  return undefined;
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

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

/** @returns undefined for an entry this release does not understand: a newer one wrote it, for newer readers. */
export function readEntry(name: string, text: string): Revocation | undefined {
  const untilEnd = text.indexOf(' ');
  const atEnd = text.indexOf(' ', untilEnd + 1);
  const until = Number(text.slice(0, untilEnd));
  const at = Number(text.slice(untilEnd + 1, atEnd));
  const id = text.slice(atEnd + 1);
  if (name === 'sid') {
    const idEnd = id.indexOf(' ');
    if (idEnd < 0) return { sessionId: id, from: at, until };
    return { sessionId: id.slice(0, idEnd), from: at, until, user: id.slice(idEnd + 1) };
  }
  if (name === 'sub') return { userId: id, cutoff: at, until };
  if (name === 'kid') return { keyId: id, until };
  return undefined;
}

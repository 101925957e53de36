/**
 * The revocations for verifiers outside, as server-sent events; what they mean stands in `packages/verifier/src/feed.ts`, which reads them.
 *
 * Everything comes from this instance's own copy of the log: however many listen, Redis has one reader. The newest entries are kept in order,
 * so whoever was away briefly goes on from the entry it read last. Anybody else starts over, with all the copy holds. Each listener is asked
 * for what it takes and never sent ahead: one that is slow costs one event of memory.
 */
import { Readable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import type { RevocationCopy } from '@latchkey/verifier/revocation-copy';
import { type Revocation, writeLine } from '@latchkey/verifier/revoked';

/** Entries kept to go on from: an hour of quiet traffic, seconds of a flood; some 2 MB at most. */
const KEPT = 10_000;
/** Lines per event: some 70 KB, written before anything else is. */
const BATCH = 1000;
/** Milliseconds between two signs of life; fewer if the lag bound asks for it. Each listener's right to listen is asked as often. */
const LONGEST_BEAT = 500;
/** Beats per lag bound: a lost one, and one that is late, are not yet silence. */
const BEATS = 5;
/** Milliseconds a listener may take nothing: its own copy has long stopped to be believed. */
const PATIENCE = 10_000;

/** Which entry of which epoch: what `Last-Event-ID` says. */
const PLACE = /^([0-9A-Za-z-]{1,64})\/([0-9]{1,20}-[0-9]{1,20})$/;

interface Entry {
  position: string;
  /** JSON; undefined for a line only a newer release understands. */
  line: string | undefined;
}

/** How far a listener was told: the number of the next entry, and the position of the one before it. */
interface Place {
  next: number;
  position: string;
}

export interface Listener {
  /** `Last-Event-ID` as it came; undefined: from the start. */
  lastEventId: string | undefined;
  /** Asked again and again: whether it may still listen. */
  mayListen: () => boolean;
}

export type RevocationFeed = ReturnType<typeof createRevocationFeed>;

const event = (name: string, data: string, id?: string): string =>
  `${id === undefined ? '' : `id: ${id}\n`}event: ${name}\ndata: ${data}\n\n`;

/** @param lagMax milliseconds */
export function createRevocationFeed({
  copy,
  lagMax,
  kept = KEPT,
}: {
  copy: RevocationCopy;
  lagMax: number;
  kept?: number;
}) {
  const beat = Math.max(1, Math.min(LONGEST_BEAT, lagMax / BEATS));
  let entries: Entry[] = [];
  /** The number of the first entry that is kept, counted from the start of this instance. */
  let first = 0;
  let epochId: string | undefined;
  let closed = false;
  let woke = Promise.withResolvers<void>();
  const open = new Map<Readable, { takenAt: number }>();
  let beating: NodeJS.Timeout | undefined;

  function wake(): void {
    woke.resolve();
    woke = Promise.withResolvers();
  }

  function beatOnce(): void {
    for (const [stream, { takenAt }] of open) if (performance.now() - takenAt > PATIENCE) stream.destroy();
    wake();
  }

  /** Where to go on; undefined: the entry it had read last is not there, so what came after it may be missing too. */
  function placeOf(lastEventId: string | undefined): number | undefined {
    const [, id, position] = PLACE.exec(lastEventId ?? '') ?? [];
    if (id === undefined || id !== epochId) return undefined;
    const index = entries.findLastIndex((entry) => entry.position === position);
    return index < 0 ? undefined : first + index + 1;
  }

  /** What was noted since, as much as one event holds; moves the place past it. */
  function news(place: Place): string | undefined {
    const batch = entries.slice(place.next - first, place.next - first + BATCH);
    const last = batch.at(-1);
    if (!last) return undefined;
    place.next += batch.length;
    place.position = last.position;
    return `[${batch.flatMap(({ line }) => line ?? []).join()}]`;
  }

  async function* everything(
    place: Place,
    { goesOn, id }: { goesOn: () => boolean; id: () => string },
  ): AsyncGenerator<string> {
    let lines: string[] = [];
    for (const revocation of copy.lines()) {
      lines.push(JSON.stringify(writeLine(revocation)));
      if (lines.length < BATCH) continue;
      yield event('revoked', `[${lines.join()}]`);
      lines = [];
      if (!goesOn()) return;
      // Or more might come meanwhile than is kept, and the listener would have to begin anew, for ever.
      const more = news(place);
      if (more) yield event('revoked', more);
      // A million lines must not keep everybody else waiting.
      await setImmediate();
    }
    if (lines.length > 0) yield event('revoked', `[${lines.join()}]`);
    if (goesOn()) yield event('complete', '{}', id());
  }

  async function* events({ lastEventId, mayListen }: Listener): AsyncGenerator<string> {
    const began = performance.now();
    const epoch = copy.epoch();
    const after = placeOf(lastEventId);
    const place = { next: after ?? first + entries.length, position: copy.position() };
    const id = () => `${epoch?.id}/${place.position}`;
    // Whoever asks again is told why.
    const goesOn = () => !closed && copy.fresh() && copy.epoch() === epoch && place.next >= first && mayListen();
    yield event('start', JSON.stringify({ epoch, resumed: after !== undefined }));
    if (after === undefined) yield* everything(place, { goesOn, id });
    let saidAt = Number.NEGATIVE_INFINITY;
    while (goesOn()) {
      const woken = woke.promise;
      const more = news(place);
      if (more) {
        yield event('revoked', more, id());
        // The listener may have taken its time, and what held until then hold no more.
        continue;
      }
      const now = performance.now();
      // Each beat, though a timer may be early; and in a flood of news not with every line.
      if (now - saidAt >= beat / 2) {
        saidAt = now;
        yield event('alive', JSON.stringify({ at: Math.floor(now - copy.lag() - began) }));
      }
      await woken;
    }
  }

  return {
    /** Told of each entry as the copy reads it. */
    note(position: string, revocation: Revocation | undefined): void {
      if (copy.epoch()?.id !== epochId) {
        epochId = copy.epoch()?.id;
        first += entries.length;
        entries = [];
      }
      entries.push({ position, line: revocation && JSON.stringify(writeLine(revocation)) });
      if (entries.length >= 2 * kept) {
        first += entries.length - kept;
        entries = entries.slice(-kept);
      }
      wake();
    },

    /** Ends by itself: with the app, with the right to listen, when this instance's own copy may not be believed. */
    listen(listener: Listener): Readable {
      const state = { takenAt: performance.now() };
      async function* taken() {
        for await (const text of events(listener)) {
          state.takenAt = performance.now();
          yield text;
          state.takenAt = performance.now();
        }
      }
      const stream = Readable.from(taken());
      open.set(stream, state);
      stream.once('close', () => {
        open.delete(stream);
        if (open.size > 0) return;
        clearInterval(beating);
        beating = undefined;
      });
      beating ??= setInterval(beatOnce, beat);
      return stream;
    },

    /** How many listen, for metrics. */
    listeners: (): number => open.size,

    /** Every stream ends, and none begins. */
    close(): void {
      closed = true;
      wake();
    },
  };
}

/**
 * Ids, each with the second until which it matters and an instant. Those of 128 bits stand in a hash table in one piece of memory, and the
 * garbage collector has nothing to look at; any other in a Map, which takes several times as much (ADR 22).
 *
 * Open addressing, linear probing (Knuth, The Art of Computer Programming, volume 3, section 6.4). What is forgotten leaves a mark until the
 * table is made anew, so that nothing ever moves within a table and whoever goes through one misses nothing that stays.
 */
import type { Spelling } from './id-spelling.ts';

/** 32-bit words of a slot: the id, and its second. */
const WORDS = 5;
const ID_BYTES = 16;

/** What stands in place of a second. */
const FREE = 0;
const FORGOTTEN = 1;
/** The seconds that can be written: until the year 2106. */
const [EARLIEST, LATEST] = [FORGOTTEN + 1, 2 ** 32 - 1];

/** As it can be written. What is no number at all must not be taken for the past: the id is held as long as can be. */
const writable = (until: number): number =>
  Number.isNaN(until) ? LATEST : Math.min(Math.max(Math.ceil(until), EARLIEST), LATEST);

/** Slots of the smallest table; always a power of two. */
const LEAST = 1024;
/** Share of the slots that may be taken, forgotten ones among them: then the table is made anew, with twice the slots its ids need. */
const FULL = 0.75;

interface Table {
  words: Uint32Array<ArrayBuffer>;
  /** One for each slot; not there while all are zero, as those of whole sessions are. */
  instants?: Float64Array;
}

const emptyTable = (slots: number): Table => ({ words: new Uint32Array(slots * WORDS) });

const secondOf = ({ words }: Table, slot: number): number => words[slot * WORDS + WORDS - 1] ?? FREE;
const instantOf = ({ instants }: Table, slot: number): number => instants?.[slot] ?? 0;

/** One of its own: a string cut out of another keeps all of that alive. */
const copyOf = (text: string): string => JSON.parse(JSON.stringify(text));

/** Whether an id with this instant stands for what was issued at that time. */
type Covers = (instant: number, time: number) => boolean;

/** An empty one; it grows by itself. Of two instants of an id it keeps the one that covers the other. */
export function createIdTable(spelling: Spelling, covers: Covers) {
  let table = emptyTable(LEAST);
  let slots = LEAST;
  /** Not free any more. */
  let taken = 0;
  let size = 0;
  /** The slot that is swept next. */
  let cursor = 0;

  /** Ids of any other spelling, and the one that is swept next. */
  const others = new Map<string, { until: number; instant: number }>();
  let otherCursor = others.entries();

  /** The id that is looked for. */
  const bytes = new Uint8Array(ID_BYTES);
  const id = new Uint32Array(bytes.buffer);
  const characters = new Uint8Array(spelling.length);

  /** Reads an id. @returns whether it has 128 bits, spelt as they should be. */
  function read(text: string): boolean {
    if (text.length !== spelling.length) return false;
    // No spelling has the character 255.
    for (let at = 0; at < text.length; at += 1) characters[at] = Math.min(text.charCodeAt(at), 255);
    return spelling.read(characters, 0, bytes);
  }

  function holds(slot: number): boolean {
    const { words } = table;
    const at = slot * WORDS;
    return words[at] === id[0] && words[at + 1] === id[1] && words[at + 2] === id[2] && words[at + 3] === id[3];
  }

  /** Where the id would stand if nothing was in its way. Ids are random as they come; others must not fall into one place either. */
  function home(): number {
    let hash = 0;
    for (let index = 0; index < id.length; index += 1)
      hash = Math.imul(hash ^ (id[index] ?? 0), 0x9e3779b1) ^ (hash >>> 15);
    return (hash ^ (hash >>> 16)) & (slots - 1);
  }

  /** The slot of the id, or the free one where it belongs. */
  function find(): number {
    let slot = home();
    while (secondOf(table, slot) !== FREE && !holds(slot)) slot = (slot + 1) & (slots - 1);
    return slot;
  }

  function write(slot: number, until: number, instant: number): void {
    const at = slot * WORDS;
    for (let index = 0; index < id.length; index += 1) table.words[at + index] = id[index] ?? 0;
    table.words[at + WORDS - 1] = until;
    if (instant !== 0) table.instants ??= new Float64Array(slots);
    if (table.instants) table.instants[slot] = instant;
  }

  function makeAnew(leastSlots: number): void {
    const [before, slotsBefore] = [table, slots];
    slots = LEAST;
    while (slots < leastSlots) slots *= 2;
    table = emptyTable(slots);
    [taken, cursor] = [size, 0];
    for (let slot = 0; slot < slotsBefore; slot += 1) {
      const until = secondOf(before, slot);
      if (until <= FORGOTTEN) continue;
      for (let index = 0; index < id.length; index += 1) id[index] = before.words[slot * WORDS + index] ?? 0;
      write(find(), until, instantOf(before, slot));
    }
  }

  const merged = (known: number, instant: number): number => (covers(known, instant) ? known : instant);

  /** Adds the id that was read. */
  function hold(until: number, instant: number): void {
    if (taken >= slots * FULL) {
      const [first = 0, second = 0, third = 0, fourth = 0] = id;
      makeAnew(2 * (size + 1));
      id.set([first, second, third, fourth]);
    }
    const slot = find();
    const known = secondOf(table, slot);
    if (known === FREE) taken += 1;
    if (known <= FORGOTTEN) size += 1;
    const all = known <= FORGOTTEN ? instant : merged(instantOf(table, slot), instant);
    write(slot, Math.max(known, writable(until)), all);
  }

  function holdOther(text: string, until: number, instant: number): void {
    const known = others.get(text);
    if (known === undefined) {
      others.set(copyOf(text), { until: writable(until), instant });
      return;
    }
    known.until = Math.max(known.until, writable(until));
    known.instant = merged(known.instant, instant);
  }

  function sweepOthers(now: number, count: number): void {
    for (let left = count; left > 0; left -= 1) {
      const next = otherCursor.next();
      if (next.done) {
        otherCursor = others.entries();
        return;
      }
      const [text, { until }] = next.value;
      if (until < now) others.delete(text);
    }
  }

  return {
    add(text: string, until: number, instant: number): void {
      if (read(text)) hold(until, instant);
      else holdOther(text, until, instant);
    },

    /** The same of an id that is bytes already, without a string made. @returns false for one that is not of 128 bits, and is not added. */
    addBytes(text: Uint8Array, from: number, to: number, until: number, instant: number): boolean {
      if (to - from !== spelling.length || !spelling.read(text, from, bytes)) return false;
      hold(until, instant);
      return true;
    },

    /** Whether it holds the id, with an instant that covers this time. */
    has(text: string, time: number): boolean {
      if (read(text)) {
        const slot = find();
        return secondOf(table, slot) > FORGOTTEN && covers(instantOf(table, slot), time);
      }
      const other = others.get(text);
      return other !== undefined && covers(other.instant, time);
    },

    size: (): number => size + others.size,

    /** Forgets what ended before the second `now`, among the next so many slots, and as many of the other ids. */
    sweep(now: number, count: number): void {
      for (let left = Math.min(count, slots); left > 0; left -= 1) {
        const until = secondOf(table, cursor);
        if (until > FORGOTTEN && until < now) {
          table.words[cursor * WORDS + WORDS - 1] = FORGOTTEN;
          size -= 1;
        }
        cursor = (cursor + 1) & (slots - 1);
      }
      sweepOthers(now, count);
    },

    /** All it holds; what is added or forgotten meanwhile may be among them or not. */
    *entries(): Generator<[id: string, until: number, instant: number]> {
      for (const [text, { until, instant }] of others) yield [text, until, instant];
      const [all, allSlots] = [table, slots];
      for (let slot = 0; slot < allSlots; slot += 1) {
        const until = secondOf(all, slot);
        if (until <= FORGOTTEN) continue;
        const bytes = Buffer.from(all.words.buffer, slot * WORDS * 4, ID_BYTES);
        yield [spelling.write(bytes), until, instantOf(all, slot)];
      }
    },
  };
}

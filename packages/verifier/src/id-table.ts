/**
 * Ids of 128 bits, each with the second until which it matters: a hash table in one piece of memory. A million take 42 MB, a Map of strings
 * more than twice that, and the garbage collector has nothing to look at.
 *
 * Open addressing, linear probing (Knuth, The Art of Computer Programming, volume 3, section 6.4). What is forgotten leaves a mark until the
 * table is made anew, so that nothing ever moves within a table and whoever goes through one misses nothing that stays.
 */

/** 32-bit words of a slot: the id, and its second. */
const WORDS = 5;
const ID_BYTES = 16;
/** Base64url of so many bytes. */
const ID_LENGTH = 22;
/** The last character holds two bits of the id; the others are zero. */
const LAST = 'AQgw';

/** The six bits of each character of base64url (RFC 4648 section 5); of any other character -1. */
const BITS = new Int8Array(256).fill(-1);
for (const [bits, character] of [...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'].entries())
  BITS[character.charCodeAt(0)] = bits;

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

export type IdTable = ReturnType<typeof createIdTable>;

/** An empty one; it grows by itself. */
export function createIdTable() {
  let table = new Uint32Array(LEAST * WORDS);
  let slots = LEAST;
  /** Not free any more. */
  let taken = 0;
  let size = 0;
  /** The slot that is swept next. */
  let cursor = 0;

  /** The id that is looked for. */
  const bytes = Buffer.from(new ArrayBuffer(ID_BYTES));
  const id = new Uint32Array(bytes.buffer);

  /** Reads an id. @returns whether it has 128 bits, and no other spelling. */
  const read = (text: string): boolean =>
    text.length === ID_LENGTH &&
    LAST.includes(text.charAt(ID_LENGTH - 1)) &&
    bytes.write(text, 'base64url') === ID_BYTES;

  const bitsAt = (text: Uint8Array, at: number): number => BITS[text[at] ?? 0] ?? -1;

  /** The same where the text is bytes already, without a string made. */
  function readBytes(text: Uint8Array, from: number): boolean {
    let all = 0;
    let at = from;
    for (let byte = 0; byte < ID_BYTES - 1; byte += 3, at += 4) {
      const bits =
        (bitsAt(text, at) << 18) | (bitsAt(text, at + 1) << 12) | (bitsAt(text, at + 2) << 6) | bitsAt(text, at + 3);
      all |= bits;
      bytes[byte] = bits >> 16;
      bytes[byte + 1] = bits >> 8;
      bytes[byte + 2] = bits;
    }
    const last = (bitsAt(text, at) << 6) | bitsAt(text, at + 1);
    bytes[ID_BYTES - 1] = last >> 4;
    // Below zero if any was no character of base64url.
    return (all | last) >= 0 && (last & 15) === 0;
  }

  const secondOf = (slot: number): number => table[slot * WORDS + WORDS - 1] ?? FREE;

  function holds(slot: number): boolean {
    const at = slot * WORDS;
    return table[at] === id[0] && table[at + 1] === id[1] && table[at + 2] === id[2] && table[at + 3] === id[3];
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
    while (secondOf(slot) !== FREE && !holds(slot)) slot = (slot + 1) & (slots - 1);
    return slot;
  }

  function write(slot: number, until: number): void {
    const at = slot * WORDS;
    for (let index = 0; index < id.length; index += 1) table[at + index] = id[index] ?? 0;
    table[at + WORDS - 1] = until;
  }

  function makeAnew(leastSlots: number): void {
    const before = table;
    slots = LEAST;
    while (slots < leastSlots) slots *= 2;
    table = new Uint32Array(slots * WORDS);
    [taken, cursor] = [size, 0];
    for (let word = 0; word < before.length; word += WORDS) {
      const until = before[word + WORDS - 1] ?? FREE;
      if (until <= FORGOTTEN) continue;
      for (let index = 0; index < id.length; index += 1) id[index] = before[word + index] ?? 0;
      write(find(), until);
    }
  }

  /** Adds the id that was read. */
  function hold(until: number): void {
    if (taken >= slots * FULL) {
      const [first = 0, second = 0, third = 0, fourth = 0] = id;
      makeAnew(2 * (size + 1));
      id.set([first, second, third, fourth]);
    }
    const slot = find();
    const known = secondOf(slot);
    if (known === FREE) taken += 1;
    if (known <= FORGOTTEN) size += 1;
    write(slot, Math.max(known, writable(until)));
  }

  return {
    /** @returns false for what is no id of 128 bits, which it can't hold. */
    add(text: string, until: number): boolean {
      if (!read(text)) return false;
      hold(until);
      return true;
    },

    /** The same of the 22 characters from there on. */
    addBytes(text: Uint8Array, from: number, until: number): boolean {
      if (!readBytes(text, from)) return false;
      hold(until);
      return true;
    },

    /** Makes room for so many more at once. */
    expect(ids: number): void {
      if (taken + ids > slots * FULL) makeAnew((size + ids) / FULL);
    },

    has: (text: string): boolean => read(text) && secondOf(find()) > FORGOTTEN,

    size: (): number => size,

    /** Forgets what ended before the second `now`, among the next so many slots. */
    sweep(now: number, count: number): void {
      for (let left = Math.min(count, slots); left > 0; left -= 1) {
        const until = secondOf(cursor);
        if (until > FORGOTTEN && until < now) {
          table[cursor * WORDS + WORDS - 1] = FORGOTTEN;
          size -= 1;
        }
        cursor = (cursor + 1) & (slots - 1);
      }
    },

    /** All it holds; what is added or forgotten meanwhile may be among them or not. */
    *entries(): Generator<[id: string, until: number]> {
      const all = table;
      for (let word = 0; word < all.length; word += WORDS) {
        const until = all[word + WORDS - 1] ?? FREE;
        if (until > FORGOTTEN) yield [Buffer.from(all.buffer, word * 4, ID_BYTES).toString('base64url'), until];
      }
    },
  };
}

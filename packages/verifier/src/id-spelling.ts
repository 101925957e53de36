/** How ids of 128 bits are spelt. Each id has one spelling: two texts are never taken for the same id. */

export interface Spelling {
  /** Characters of an id. */
  length: number;
  /** Reads the id that stands from there on. @returns whether there is one; if not, anything may have been written to `id`. */
  read(text: Uint8Array, from: number, id: Uint8Array): boolean;
  write(id: Buffer): string;
}

/** The value of each character; of any other -1, which makes all it is combined with by `|` negative. */
function valuesOf(characters: string): (character: number | undefined) => number {
  const values = new Int8Array(256).fill(-1);
  for (const [value, character] of [...characters].entries()) values[character.charCodeAt(0)] = value;
  return (character) => values[character ?? 0] ?? -1;
}

const sixBits = valuesOf('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_');
const fourBits = valuesOf('0123456789abcdef');
const DASH = '-'.charCodeAt(0);

/** RFC 4648 section 5, without padding: as our sessions are spelt. */
export const BASE64URL: Spelling = {
  length: 22,
  read(text, from, id) {
    let all = 0;
    let at = from;
    for (let byte = 0; byte < 15; byte += 3, at += 4) {
      const bits =
        (sixBits(text[at]) << 18) |
        (sixBits(text[at + 1]) << 12) |
        (sixBits(text[at + 2]) << 6) |
        sixBits(text[at + 3]);
      all |= bits;
      id[byte] = bits >> 16;
      id[byte + 1] = bits >> 8;
      id[byte + 2] = bits;
    }
    const last = (sixBits(text[at]) << 6) | sixBits(text[at + 1]);
    id[15] = last >> 4;
    // The last character holds two bits of the id; the others are zero.
    return (all | last) >= 0 && (last & 15) === 0;
  },
  write: (id) => id.toString('base64url'),
};

/** RFC 9562 section 4, in lower case: as users are spelt. */
export const UUID: Spelling = {
  length: 36,
  read(text, from, id) {
    let all = 0;
    let at = from;
    for (let byte = 0; byte < 16; byte += 1, at += 2) {
      if (byte === 4 || byte === 6 || byte === 8 || byte === 10) {
        if (text[at] !== DASH) return false;
        at += 1;
      }
      const bits = (fourBits(text[at]) << 4) | fourBits(text[at + 1]);
      all |= bits;
      id[byte] = bits;
    }
    return all >= 0;
  },
  write: (id) => id.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-'),
};

/** Ways to write a token in another way: characters set, put in, left out, flipped, repeated. */
import fc from 'fast-check';

export interface Change {
  how: string;
  at: number;
  to: string;
}

const change = fc.oneof(
  fc.record({ how: fc.constant('set'), at: fc.nat(), to: fc.constantFrom(...'AQgwaz09-_+/=. \n\0é．') }),
  fc.record({ how: fc.constant('insert'), at: fc.nat(), to: fc.constantFrom(...'AQgw-_=.+/ \n\t\0') }),
  fc.record({ how: fc.constant('drop'), at: fc.nat(), to: fc.constant('') }),
  fc.record({ how: fc.constant('flip'), at: fc.nat(), to: fc.constantFrom('\x01', '\x20', '\x02') }),
  fc.record({ how: fc.constant('repeat'), at: fc.nat(), to: fc.constant('') }),
);

/** One to three of them. */
export const changes = fc.array(change, { minLength: 1, maxLength: 3 });

export function changed(token: string, { how, at, to }: Change): string {
  const place = at % token.length;
  const [before, here, after] = [token.slice(0, place), token[place] ?? '', token.slice(place + 1)];
  if (how === 'set') return before + to + after;
  if (how === 'insert') return before + to + here + after;
  if (how === 'drop') return before + after;
  if (how === 'repeat') return before + here + here + after;
  return before + String.fromCharCode(here.charCodeAt(0) ^ to.charCodeAt(0)) + after;
}

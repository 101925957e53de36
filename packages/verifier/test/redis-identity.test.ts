import { expect, test } from 'vitest';
import { type Known, type KnownEntry, missing, NONE, type Seen } from '../src/redis-identity.ts';

const EPOCH = { id: 'known', born: 1_000_000 };
const LATER = { id: 'later', born: 9_000_000_000 };
/** Written in the fifth second, and of use until the sixtieth. */
const [READ, LAST] = [
  { id: '5000-1', until: 60 },
  { id: '5000-2', until: 60 },
];
const known: Known = { epoch: EPOCH, read: READ, last: LAST, highWater: undefined };
const seen: Seen = { epoch: EPOCH, end: '5000-2', hasRead: true, hasLast: true };
const mark = { epochId: EPOCH.id, position: '5000-2', born: EPOCH.born };

test.each<[string, Partial<Known>, Partial<Seen>, KnownEntry | undefined]>([
  ['the one that is known', {}, {}, undefined],
  ['the one that is known, written to since', {}, { end: '9000-0' }, undefined],
  ['a first one', { epoch: undefined, read: NONE, last: NONE }, { hasRead: false, hasLast: false }, undefined],
  [
    'one of which nothing was read yet',
    { read: NONE, last: NONE },
    { end: '0-0', hasRead: false, hasLast: false },
    undefined,
  ],
  ['one whose epoch followed', {}, { epoch: LATER, end: '0-0', hasRead: false, hasLast: false }, undefined],
  ['an emptied one', {}, { epoch: undefined }, NONE],
  ['one whose epoch another followed', { epoch: LATER }, {}, NONE],
  ['one that ends before what was read', {}, { end: '5000-0', hasRead: false, hasLast: false }, READ],
  ['one that ends before what was written', {}, { end: '5000-1', hasLast: false }, LAST],
  ['one that goes on without what was read', {}, { end: '9000-0', hasRead: false }, READ],
  ['one that goes on without what was written', {}, { end: '9000-0', hasLast: false }, LAST],
  ['one that was trimmed of what matters no more', {}, { end: '60000-0', hasRead: false, hasLast: false }, undefined],
  [
    'one that was trimmed to nothing',
    { read: LAST, last: LAST },
    { end: '60000-0', hasRead: false, hasLast: false },
    undefined,
  ],
  ['by the mark: the one that is known', { epoch: undefined, read: NONE, last: NONE, highWater: mark }, {}, undefined],
  [
    'by the mark: one that ends before it',
    { epoch: undefined, read: NONE, last: NONE, highWater: mark },
    { end: '5000-1' },
    { id: '5000-2', until: 0 },
  ],
  [
    'by the mark: one whose epoch followed',
    { epoch: undefined, highWater: mark },
    { epoch: LATER, end: '0-0' },
    undefined,
  ],
  [
    'by the mark: one whose epoch another followed',
    { epoch: undefined, highWater: { ...mark, born: LATER.born } },
    {},
    NONE,
  ],
  [
    'by the mark of a release before, without a birth',
    { epoch: undefined, highWater: { epochId: 'other', position: '5000-2', born: 0 } },
    {},
    NONE,
  ],
])('%s', (_what, more, sight, lacking) => {
  expect(missing({ ...known, ...more }, { ...seen, ...sight })).toEqual(lacking);
});

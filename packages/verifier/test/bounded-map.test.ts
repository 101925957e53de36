import { expect, test } from 'vitest';
import { createBoundedMap } from '../src/bounded-map.ts';

test('with one more than may be, the one that was set longest ago is forgotten', () => {
  const map = createBoundedMap<number>(2);
  map.set('a', 1);
  map.set('b', 2);
  map.set('a', 3);
  map.set('c', 4);
  expect(['a', 'b', 'c'].map(map.get)).toEqual([3, undefined, 4]);
});

test('what is set again takes no other’s place', () => {
  const map = createBoundedMap<number>(2);
  map.set('a', 1);
  map.set('b', 2);
  map.set('b', 3);
  expect(['a', 'b'].map(map.get)).toEqual([1, 3]);
});

test('what was deleted or cleared is gone', () => {
  const map = createBoundedMap<number>(3);
  for (const key of ['a', 'b', 'c']) map.set(key, 1);
  map.delete('a');
  expect(['a', 'b'].map(map.get)).toEqual([undefined, 1]);
  map.clear();
  expect(map.get('b')).toBeUndefined();
});

import { type TSchema, Type } from 'typebox';
import { expect, test } from 'vitest';
import { sharedSerializers } from '../src/plugins/shared-serializers.ts';

const serializer = (schema: TSchema, externalSchemas = {}) =>
  sharedSerializers(externalSchemas)({ method: 'GET', url: '/', httpStatus: '200', schema });

test('an answer is written by its own schema, however like another’s it is', () => {
  const answer = { name: 'ada', secret: 'x', born: 1815 };
  const named = serializer(Type.Object({ name: Type.String() }));
  expect(named(answer)).toBe('{"name":"ada"}');
  expect(serializer(Type.Object({ name: Type.String(), born: Type.Integer() }))(answer)).toBe(
    '{"name":"ada","born":1815}',
  );
  expect(serializer(Type.Object({ name: Type.String() }, { additionalProperties: true }))(answer)).toBe(
    '{"name":"ada","secret":"x","born":1815}',
  );
  const other = (type: string) => ({ other: { $id: 'other', type } });
  const refers = Type.Unsafe({ $ref: 'other' });
  expect([
    serializer(refers, other('string'))(1815),
    serializer(refers, other('integer'))(1815),
    serializer(refers, other('string'))(1815),
  ]).toEqual(['"1815"', '1815', '"1815"']);
  expect(serializer(Type.Object({ name: Type.String() }))).toBe(named);
});

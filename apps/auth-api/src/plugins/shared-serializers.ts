/**
 * Fastify's own serialisers, each made once: routes that answer alike share theirs, and so do the apps of a process. A start asks for more
 * than 600, one for each status of each route, and a tenth of them differ: making them all took half a second of a core.
 */
import serializerSelector from '@fastify/fast-json-stringify-compiler';

const buildOwn = serializerSelector();
const made = new Map<string, ReturnType<ReturnType<typeof buildOwn>>>();

/** Fastify's `buildSerializer`. */
export const sharedSerializers: typeof buildOwn = (externalSchemas, options) => {
  const compile = buildOwn(externalSchemas, options);
  return (route) => {
    // All that the code of a serialiser is made from.
    const key = JSON.stringify([externalSchemas, options, route.schema]);
    let serialize = made.get(key);
    if (serialize === undefined) {
      serialize = compile(route);
      made.set(key, serialize);
    }
    return serialize;
  };
};

/** What is remembered of tokens that were seen: so many at most, whoever sends however many. */

/** @param most entries; with one more, the one that was set longest ago goes. */
export function createBoundedMap<Value>(most: number) {
  const map = new Map<string, Value>();
  return {
    get: (key: string): Value | undefined => map.get(key),
    set(key: string, value: Value): void {
      map.delete(key);
      const oldest = map.size < most ? undefined : map.keys().next().value;
      if (oldest !== undefined) map.delete(oldest);
      map.set(key, value);
    },
    delete: (key: string): boolean => map.delete(key),
    clear: (): void => map.clear(),
  };
}

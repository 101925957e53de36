/**
 * What a migration says of itself by its name, which is all that the database tells a build that does not have it.
 * `expand`: only adds, so older builds go on. `contract`: takes away what no build of its release uses any more, so older ones may not go on.
 * The first ones, which every build knows, say nothing.
 */
export function kindOf(migration: string): 'expand' | 'contract' | undefined {
  const [, kind] = /^\d{14}_(expand|contract)_/.exec(migration) ?? [];
  return kind as 'expand' | 'contract' | undefined;
}

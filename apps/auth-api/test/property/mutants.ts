/** Sources with one fault each. A fault whose text is not there any more stops the test: it has to be put in anew. */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SOURCES } from './system.ts';

export interface Mutant {
  fault: string;
  file: string;
  /** What stands there once, and what is put in its place. */
  change: [from: string, to: string];
}

export const MUTANTS: readonly Mutant[] = [
  {
    fault: 'a refresh token issued at the very instant of the cut-off is good',
    file: 'store/lua/refresh-sessions.lua',
    change: ['tonumber(token_issued) <= gate.cutoff', 'tonumber(token_issued) < gate.cutoff'],
  },
  {
    fault: 'a cut-off does not make logins under way begin anew',
    file: 'store/lua/cut-off-2.lua',
    change: ["'generation', next_generation(gate, now_us))", "'generation', gate.generation)"],
  },
  {
    fault: 'a session may be opened before the cut-off it comes after',
    file: 'store/lua/create-session-4.lua',
    change: ['math.max(now_us, gate.cutoff + 1, born_us)', 'math.max(now_us, born_us)'],
  },
  {
    fault: 'what is evicted stays in the index',
    file: 'store/lua/create-session-4.lua',
    change: ["  redis.call('ZREM', KEYS[2], id)\n", ''],
  },
  {
    fault: 'reuse of a refresh token is told and ends nothing',
    file: 'store/lua/refresh-sessions.lua',
    change: ["return finish('reused')", "return { 'reused' }"],
  },
  {
    fault: 'the use of an opaque token renews the index entry of another device',
    file: 'store/lua/use-opaque-tokens.lua',
    change: [
      "      redis.call('ZADD', sessions_key, math.floor(now_us / 1000) + ttl_ms, session_id)",
      "      for _, id in ipairs(redis.call('ZRANGE', sessions_key, 0, -1)) do redis.call('ZADD', sessions_key, math.floor(now_us / 1000) + ttl_ms, id) end",
    ],
  },
  {
    fault: 'an immortal token becomes mortal although OVERWRITE_NONE_TTL is off',
    file: 'store/lua/use-opaque-tokens.lua',
    change: ['immortal and (ttl_ms < 0 or not overwrite)', 'immortal and ttl_ms < 0'],
  },
  {
    fault: 'denying one access token refuses the older ones of its session too',
    file: 'domain/revocation.ts',
    change: ['log.denySessions(userId, [sessionId], issuedAt)', 'log.denySessions(userId, [sessionId])'],
  },
  {
    fault: 'the access tokens of a session ended by reuse are good',
    file: 'domain/login.ts',
    change: [
      "if (status !== 'cut' && status !== 'gone')",
      "if (status !== 'cut' && status !== 'gone' && status !== 'reused')",
    ],
  },
  {
    fault: 'denying an access token of a session that is gone is left out although nothing refuses it',
    file: 'domain/revocation.ts',
    change: ['ended.length === 0 && expired) return', 'ended.length === 0 && !expired) return'],
  },
  {
    fault: 'what was written to the revocation log stays owed to it',
    file: 'store/revocation-log.ts',
    change: ['if (sessionIds.length > 0) await', 'if (sessionIds.length < 0) await'],
  },
  {
    fault: 'a session whose refresh token is of the very instant of the cut-off lives on',
    file: 'store/lua/cut-off-2.lua',
    change: ['if opened_us <= cutoff_us then', 'if opened_us < cutoff_us then'],
  },
  {
    fault: 'a cut-off after the clock stepped back comes before what was issued',
    file: 'store/lua/cut-off-2.lua',
    change: ['latest_us = math.max(latest_us, tonumber(', 'latest_us = math.max(now_us, 0 * tonumber('],
  },
  {
    fault: 'a session that ends takes with it when it was seen, though the clock stands behind that',
    file: 'store/lua/end-sessions-3.lua',
    change: ['if seen_us > math.max(now_us, gate.last_issued) then', 'if false then'],
  },
  {
    fault: 'logging out the others does not make logins under way begin anew',
    file: 'store/lua/end-sessions-3.lua',
    change: ["'generation', next_generation(gate, now_us))", "'generation', gate.generation)"],
  },
  {
    fault: 'the newest session is evicted',
    file: 'store/lua/create-session-4.lua',
    change: ['return a.created < b.created', 'return a.created > b.created'],
  },
  {
    fault: 'a cut-off is not written to the revocation log',
    file: 'domain/revocation.ts',
    change: ['Promise.allSettled([log.cutOff(userId, cutoff)])', 'Promise.allSettled([Promise.resolve()])'],
  },
];

/** Copies the sources and puts the fault in. @returns the folder of the copy, and what removes it. */
export function mutated({ file, change: [from, to] }: Mutant): { sources: string; remove: () => void } {
  const text = readFileSync(join(SOURCES, file), 'utf8');
  if (text.split(from).length !== 2)
    throw new Error(`${file} does not hold "${from}" once: the mutant has to be put in anew`);
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-mutant-'));
  const sources = join(folder, 'src');
  cpSync(SOURCES, sources, { recursive: true });
  // What the sources import from packages is found as if they stood where they came from.
  symlinkSync(join(SOURCES, '../node_modules'), join(folder, 'node_modules'));
  writeFileSync(
    join(sources, file),
    text.replace(from, () => to),
  );
  return { sources, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

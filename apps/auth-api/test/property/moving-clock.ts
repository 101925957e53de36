/**
 * Time that moves without waiting. The scripts take "now" from Redis itself, so the clock cannot be turned; instead everything the scripts
 * compare with it is: to let an hour pass, every instant and every TTL a user has in Redis is set an hour back. The scripts under test stay
 * as they are, letter by letter.
 *
 * `offset` is how far time was moved in all. Outside of this file every instant is of the moved time, so that it keeps its meaning
 * whatever moves: what goes into the store is turned into Redis's time, what comes out of it back.
 */
import type { RedisConnection } from '@latchkey/shared/redis-connections';
import type { RedisKeys } from '@latchkey/shared/redis-keys';
import type { Gate, Microseconds, SessionStore } from '../../src/store/sessions.ts';

/**
 * KEYS: index, ended, gate, hashes …; ARGV[1]: microseconds (whole milliseconds) to go back; negative: the clock was stepped back. A key
 * whose TTL is over is deleted, as Redis would have done. 0 is no instant but "none".
 */
const MOVE = `
local us = tonumber(ARGV[1])
local ms = us / 1000
local time = redis.call('TIME')
local now_ms = math.floor((time[1] * 1000000 + time[2]) / 1000)
local function text(number) return string.format('%.0f', number) end
local function move_fields(key, ...)
  for _, field in ipairs({...}) do
    local value = tonumber(redis.call('HGET', key, field) or 0)
    if value ~= 0 then redis.call('HSET', key, field, text(value - us)) end
  end
end
for index = 1, 2 do
  local entries = redis.call('ZRANGE', KEYS[index], 0, -1, 'WITHSCORES')
  for at = 1, #entries, 2 do
    if entries[at + 1] ~= 'inf' then redis.call('ZADD', KEYS[index], text(tonumber(entries[at + 1]) - ms), entries[at]) end
  end
end
move_fields(KEYS[3], 'cutoff', 'closed_until', 'suspended_until', 'last_issued', 'generation')
for index = 4, #KEYS do
  move_fields(KEYS[index], 'created', 'seen', 'rotated')
  local earlier = redis.call('HGET', KEYS[index], 'earlier')
  if earlier then
    redis.call('HSET', KEYS[index], 'earlier', (string.gsub(earlier, '=(%d+)', function (at) return '=' .. text(tonumber(at) - us) end)))
  end
end
for _, key in ipairs(KEYS) do
  local until_ms = redis.call('PEXPIRETIME', key)
  if until_ms > 0 then
    if until_ms - ms <= now_ms then redis.call('DEL', key) else redis.call('PEXPIREAT', key, text(until_ms - ms)) end
  end
end`;

/** KEYS as above. Returns {now us, index, ended, gate, gate's PEXPIRETIME, {created, seen, counter, PEXPIRETIME} …} */
const LOOK = `
local time = redis.call('TIME')
local result = { string.format('%.0f', time[1] * 1000000 + time[2]), redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'),
  redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES'), redis.call('HGETALL', KEYS[3]), redis.call('PEXPIRETIME', KEYS[3]) }
for index = 4, #KEYS do
  local hash = redis.call('HMGET', KEYS[index], 'created', 'seen', 'counter')
  result[#result + 1] = { hash[1], hash[2], hash[3], redis.call('PEXPIRETIME', KEYS[index]) }
end
return result`;

/** A session's hash as Redis holds it. */
export interface HashSeen {
  format: 'jwt' | 'opaque';
  counter: number;
  createdAt: Microseconds;
  seenAt: Microseconds;
  /** Milliseconds; Infinity: no TTL. */
  expiresAt: number;
}

/** Everything a user has in Redis. */
export interface Seen {
  now: Microseconds;
  /** Session id → milliseconds; Infinity: never. */
  index: Map<string, number>;
  hashes: Map<string, HashSeen>;
  /** Session id → milliseconds until which its end is owed to the revocation log. */
  owed: Map<string, number>;
  gate: Gate;
  /** What the gate remembers as issued last; 0: nothing. */
  lastIssued: Microseconds;
  generation: string;
  /** Milliseconds; Infinity: no TTL; 0: there is no gate. */
  gateKeptUntil: number;
}

type Found = [created: string | null, seen: string | null, counter: string | null, expiry: number];
type LookReply = [string, string[], string[], string[], number, ...Found[]];

const pairs = (flat: readonly string[]): [string, string][] =>
  Array.from({ length: flat.length / 2 }, (_, at) => [flat[at * 2] ?? '', flat[at * 2 + 1] ?? '']);

export type MovingClock = ReturnType<typeof createMovingClock>;

export function createMovingClock(redis: RedisConnection, keys: RedisKeys) {
  let offset: Microseconds = 0;
  redis.defineCommand('moveTime', { lua: MOVE });
  redis.defineCommand('lookAtUser', { lua: LOOK });
  const call = <Reply>(name: string, ...args: (string | number)[]): Promise<Reply> =>
    (Reflect.get(redis, name) as (...args: (string | number)[]) => Promise<Reply>).call(redis, ...args);

  const keysOf = (userId: string, sessionIds: readonly string[]) => [
    keys.sessions(userId),
    keys.endedSessions(userId),
    keys.gate(userId),
    ...sessionIds.map((id) => keys.session(userId, id)),
  ];
  const out = (us: Microseconds): Microseconds => (us === 0 ? 0 : us + offset);
  const outMs = (ms: number): number => ms + offset / 1000;
  const outExpiry = (ms: number): number => (ms === -1 ? Number.POSITIVE_INFINITY : outMs(ms));
  const outGate = ({ cutoff, closedUntil, suspendedUntil }: Gate): Gate => ({
    cutoff: out(cutoff),
    closedUntil: out(closedUntil),
    suspendedUntil: out(suspendedUntil),
  });
  const scores = (flat: readonly string[]) =>
    new Map(pairs(flat).map(([id, at]) => [id, at === 'inf' ? Number.POSITIVE_INFINITY : outMs(Number(at))] as const));

  function hashesOf(found: readonly Found[], sessionIds: readonly string[]): Map<string, HashSeen> {
    const hashes = new Map<string, HashSeen>();
    for (const [at, [created, seen, counter, expiry]] of found.entries()) {
      if (expiry === -2) continue;
      hashes.set(sessionIds[at] ?? '', {
        format: counter === null ? 'opaque' : 'jwt',
        counter: Number(counter ?? 0),
        createdAt: out(Number(created ?? 0)),
        seenAt: out(Number(seen ?? 0)),
        expiresAt: outExpiry(expiry),
      });
    }
    return hashes;
  }

  return {
    offset: (): Microseconds => offset,

    /** Lets `us` (whole milliseconds; negative: a step back) pass for these users, who are all anybody asks about. */
    async advance(us: Microseconds, users: readonly { id: string; sessionIds: readonly string[] }[]): Promise<void> {
      offset += us;
      await Promise.all(
        users.map(({ id, sessionIds }) => {
          const all = keysOf(id, sessionIds);
          return call('moveTime', all.length, ...all, us);
        }),
      );
    },

    /** @param sessionIds all the user ever had: a hash that should be gone is to be seen. */
    async look(userId: string, sessionIds: readonly string[]): Promise<Seen> {
      const all = keysOf(userId, sessionIds);
      const reply = await call<LookReply>('lookAtUser', all.length, ...all);
      const [now, index, owed, gateFields, gateExpiry, ...found] = reply;
      const gate = Object.fromEntries(pairs(gateFields));
      const hashes = hashesOf(found, sessionIds);
      return {
        now: out(Number(now)),
        index: scores(index),
        owed: scores(owed),
        hashes,
        gate: outGate({
          cutoff: Number(gate.cutoff ?? 0),
          closedUntil: Number(gate.closed_until ?? 0),
          suspendedUntil: Number(gate.suspended_until ?? 0),
        }),
        lastIssued: out(Number(gate.last_issued ?? 0)),
        generation: String(out(Number(gate.generation ?? 0))),
        gateKeptUntil: gateExpiry === -2 ? 0 : outExpiry(gateExpiry),
      };
    },

    forget: (userId: string, sessionIds: readonly string[]) => redis.unlink(...keysOf(userId, sessionIds)),

    /** The same store in moved time. */
    move: (store: SessionStore): SessionStore => ({
      ...store,
      generation: async (userId) => String(out(Number(await store.generation(userId)))),
      async create(userId, sessionId, format, device, { generation, notBefore }) {
        const own = generation === '0' ? generation : String(Number(generation) - offset);
        const bounds = { generation: own, notBefore: notBefore - offset };
        const outcome = await store.create(userId, sessionId, format, device, bounds);
        if (outcome.status === 'ok') return { ...outcome, createdAt: out(outcome.createdAt) };
        return outcome.status === 'closed' ? { ...outcome, until: out(outcome.until) } : outcome;
      },
      async refresh(userId, sessionId, { counter, createdAt, issuedAt }) {
        const token = { counter, createdAt: createdAt - offset, issuedAt: issuedAt - offset };
        const outcome = await store.refresh(userId, sessionId, token);
        if (outcome.status === 'gone' || outcome.status === 'ended') return { ...outcome, now: out(outcome.now) };
        if (outcome.status !== 'ok') return outcome;
        return { ...outcome, rotatedAt: out(outcome.rotatedAt), now: out(outcome.now) };
      },
      async useOpaqueToken(userId, sessionId, notBefore) {
        const found = await store.useOpaqueToken(userId, sessionId, notBefore - offset);
        return (
          found && {
            issuedAt: out(found.issuedAt),
            expiresAt: found.expiresAt === null ? null : outMs(found.expiresAt),
          }
        );
      },
      clock: async () => out(await store.clock()),
      cutOffAt: async (userId) => out(await store.cutOffAt(userId)),
      standing: (userId, sessionId, issuedAt) => store.standing(userId, sessionId, issuedAt - offset),
      async list(userId, notBefore) {
        const records = await store.list(userId, notBefore - offset);
        return records.map((record) => ({
          ...record,
          createdAt: out(record.createdAt),
          lastSeenAt: out(record.lastSeenAt),
          expiresAt: record.expiresAt === null ? null : outMs(record.expiresAt),
        }));
      },
      cutOff: async (userId, at) => outGate(await store.cutOff(userId, at === 'now' ? at : at - offset)),
      suspend: async (userId, until) => outGate(await store.suspend(userId, until === 0 ? 0 : until - offset)),
    }),
  };
}

import { execFile } from 'node:child_process';
import { connect, createServer } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { promisify } from 'node:util';
import { type RunningRedis, startRedis } from '@latchkey/dev-stack/redis';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { createRevocationCopy, type HighWater, type RevocationCopyOptions } from '../src/revocation-copy.ts';

const LAG_MAX = 1000;
let server: RunningRedis;
let writer: Redis;
let stream: string;
let epochKey: string;
let streams = 0;

beforeAll(async () => {
  server = await startRedis({ args: ['--repl-diskless-sync-delay', '0'] });
  writer = new Redis(server.url, { maxRetriesPerRequest: null });
  writer.on('error', () => {});
});
afterAll(async () => {
  writer.disconnect();
  await server.stop();
});
beforeEach(async () => {
  streams += 1;
  stream = `revocations-${streams}`;
  epochKey = `epoch-${streams}`;
  await beginEpoch();
});

const started = Date.now();
const inTenMinutes = () => Math.ceil(started / 1000) + 600;
const revoke = (sessionId: string, until = inTenMinutes()) =>
  writer.xadd(stream, '*', 'sid', `${until} 0 ${sessionId}`);

/** Before it is fresh a copy denies everything: what it denies then proves nothing. */
async function startedCopy() {
  const { copy } = copyOfTheLog();
  copy.start();
  await vi.waitFor(() => expect(copy.fresh()).toBe(true), { timeout: 10_000, interval: 1 });
  return { copy };
}

function epochOf(copy: ReturnType<typeof createRevocationCopy>) {
  const epoch = copy.epoch();
  if (!epoch) throw new Error('no epoch');
  return epoch;
}

/** A token of the running epoch. */
const token = (sessionId: string, userId = 'user', issuedAt = Date.now() * 1000) => ({ sessionId, userId, issuedAt });
const beginEpoch = (born = Date.now() * 1000 - 3_600_000_000, id = `epoch-of-${stream}`) =>
  writer.hset(epochKey, { id, born });

function copyOfTheLog(url = server.url, options: Partial<RevocationCopyOptions> = {}) {
  const redis = new Redis(url, { maxRetriesPerRequest: null, retryStrategy: () => 50, connectTimeout: 500 });
  redis.on('error', () => {});
  const copy = createRevocationCopy({
    connect: () => redis,
    stream,
    epochKey,
    lagMax: LAG_MAX,
    onError: () => {},
    ...options,
  });
  onTestFinished(() => copy.close());
  return { copy };
}

/** One name for several servers: a connection stays where it was made, a new one is led to the server it stands for by then. */
async function nameFor(port: number) {
  const standsFor = { port };
  const name = createServer((near) => {
    const far = connect(standsFor.port, '127.0.0.1');
    for (const [from, to] of [[near, far] as const, [far, near] as const])
      from
        .on('error', () => undefined)
        .on('close', () => to.destroy())
        .pipe(to);
  }).listen(0, '127.0.0.1');
  onTestFinished(() => void name.close());
  await new Promise((resolve) => name.once('listening', resolve));
  const address = name.address();
  return { url: `redis://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`, standsFor };
}

test('nothing is believed before the whole log is copied', async () => {
  const sessions = Array.from({ length: 12_000 }, (_, index) => `s${index}`);
  const pipeline = writer.pipeline();
  for (const session of sessions) pipeline.xadd(stream, '*', 'sid', `${inTenMinutes()} 0 ${session}`);
  await pipeline.exec();
  const { copy } = copyOfTheLog();
  expect(copy.fresh()).toBe(false);
  expect(copy.lag()).toBe(Number.POSITIVE_INFINITY);
  copy.start();
  await vi.waitFor(() => expect(copy.fresh()).toBe(true), { timeout: 10_000, interval: 1 });
  // Believed only now, and now it knows them all.
  expect(sessions.every((session) => copy.denies(token(session)))).toBe(true);
  expect(copy.denies(token('another'))).toBe(false);
});

test('nothing that was read is kept by the answer it came in', async () => {
  const pipeline = writer.pipeline();
  for (let index = 0; index < 4500; index += 1) pipeline.xadd(stream, '*', 'sid', `${inTenMinutes()} 0 s${index}`);
  await pipeline.exec();
  const redis = new Redis(server.url, { maxRetriesPerRequest: null });
  const read = vi.spyOn(redis, 'xreadBuffer');
  const { copy } = copyOfTheLog(server.url, { connect: () => redis });
  copy.start();
  await vi.waitFor(() => expect(copy.fresh()).toBe(true), { timeout: 10_000, interval: 1 });
  expect(copy.size()).toBe(4500);
  const answers = await Promise.all(read.mock.results.slice(0, 3).map(({ value }) => value));
  expect(answers.map((streams) => streams[0][1].length)).toEqual([0, 0, 0]);
});

test('a Redis that is wiped while its log is copied is not believed for an instant', async () => {
  const pipeline = writer.pipeline();
  for (let index = 0; index < 12_000; index += 1) pipeline.xadd(stream, '*', 'sid', `${inTenMinutes()} 0 s${index}`);
  await pipeline.exec();
  let read = 0;
  let lost = false;
  const inTheMiddle = Promise.withResolvers<void>();
  const { copy } = copyOfTheLog(server.url, {
    // Some parts are read, some are still to come.
    onEntry() {
      read += 1;
      if (read !== 3000) return;
      server.freeze();
      inTheMiddle.resolve();
    },
    async onEpochLost() {
      lost = true;
      return true;
    },
  });
  copy.start();
  await inTheMiddle.promise;
  const wiped = writer.del(stream, epochKey);
  server.thaw();
  while (!lost) {
    expect(copy.fresh()).toBe(false);
    await setImmediate();
  }
  await wiped;
  expect(read).toBeLessThan(12_000);
});

test('what is revoked is known as it happens, and a quiet log stays believed', async () => {
  const { copy } = await startedCopy();
  await revoke('phone');
  await vi.waitFor(() => expect(copy.denies(token('phone'))).toBe(true), { timeout: 500, interval: 1 });
  const quietSince = performance.now();
  await vi.waitFor(
    () => {
      expect(copy.fresh()).toBe(true);
      expect(performance.now() - quietSince).toBeGreaterThan(2 * LAG_MAX);
    },
    { timeout: 4 * LAG_MAX },
  );
});

test('a copy that hears nothing is believed no longer than the bound, and after healing has missed nothing', async () => {
  const { copy } = await startedCopy();
  server.freeze();
  try {
    await vi.waitFor(() => expect(copy.fresh()).toBe(false), { timeout: 2 * LAG_MAX });
  } finally {
    server.thaw();
  }
  await revoke('while-away');
  await vi.waitFor(() => expect(copy.denies(token('while-away'))).toBe(true), { timeout: 5000 });
  await vi.waitFor(() => expect(copy.fresh()).toBe(true), { timeout: 5000 });
});

test('a connection that is cut is made again, from where the copy had got to', async () => {
  await revoke('before');
  const { copy } = await startedCopy();
  expect(copy.denies(token('before'))).toBe(true);
  expect(copy.denies(token('after'))).toBe(false);
  await writer.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
  await revoke('after');
  await vi.waitFor(() => expect(copy.denies(token('after'))).toBe(true), { timeout: 5000 });
  expect(copy.denies(token('before'))).toBe(true);
});

test('what onError throws does not end the copy', async () => {
  const warned = vi.spyOn(process, 'emitWarning').mockReturnValue();
  await writer.del(epochKey);
  await writer.set(epochKey, 'in the way');
  const { copy } = copyOfTheLog(server.url, {
    onError() {
      throw new Error('of the listener');
    },
  });
  copy.start();
  await vi.waitFor(() => expect(warned).toHaveBeenCalledWith(new Error('of the listener')));
  await writer.del(epochKey);
  await beginEpoch();
  await vi.waitFor(() => expect(copy.fresh()).toBe(true));
});

test.each(['pipeline', 'xreadBuffer'] as const)(
  'a client that loses a command for good is replaced: %s',
  async (command) => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    onTestFinished(() => void vi.useRealTimers());
    const clients: Redis[] = [];
    const copy = createRevocationCopy({
      connect() {
        const client = new Redis(server.url, { maxRetriesPerRequest: null });
        client.on('error', () => {});
        clients.push(client);
        return client;
      },
      stream,
      epochKey,
      lagMax: LAG_MAX,
      onError: () => {},
    });
    onTestFinished(() => copy.close());
    copy.start();
    await vi.waitFor(() => expect(copy.fresh()).toBe(true), { interval: 1 });
    const never = new Promise<never>(() => {});
    const lost = vi.spyOn(clients[0] as Redis, command);
    // Of a pipeline whatever is added gives the pipeline again, but for what sends it.
    const pipeline: object = new Proxy({}, { get: (_, added) => (added === 'exec' ? () => never : () => pipeline) });
    lost.mockReturnValue((command === 'pipeline' ? pipeline : never) as never);
    await vi.waitFor(() => expect(lost).toHaveBeenCalled());
    await revoke('meanwhile');
    vi.advanceTimersByTime(5000);
    await vi.waitFor(() => expect(copy.denies(token('meanwhile'))).toBe(true), { timeout: 5000 });
    expect(copy.fresh()).toBe(true);
    expect(clients.map(({ status }) => status)).toEqual(['end', 'ready']);
  },
);

test('a client that gives up its connection for good is told to go on, until the copy is closed', async () => {
  const redis = new Redis(server.url, { retryStrategy: () => null });
  redis.on('error', () => {});
  const copy = createRevocationCopy({ connect: () => redis, stream, epochKey, lagMax: LAG_MAX, onError: () => {} });
  onTestFinished(() => copy.close());
  copy.start();
  await vi.waitFor(() => expect(copy.fresh()).toBe(true), { interval: 1 });
  const ended = new Promise<void>((resolve) => redis.once('end', resolve));
  await writer.client('KILL', 'ID', await redis.client('ID'));
  await ended;
  await revoke('after');
  await vi.waitFor(() => expect(copy.denies(token('after'))).toBe(true), { timeout: 5000 });
  await vi.waitFor(() => expect(copy.fresh()).toBe(true), { timeout: 5000 });
  copy.close();
  await vi.waitFor(() => expect(copy.fresh()).toBe(false), { timeout: 2 * LAG_MAX });
  expect(redis.status).toBe('end');
});

test('what can matter no more is forgotten', async () => {
  const { copy } = await startedCopy();
  await revoke('long-gone', Math.floor(Date.now() / 1000) - 3600);
  await revoke('alive');
  await vi.waitFor(() => expect(copy.denies(token('alive'))).toBe(true));
  expect(copy.denies(token('long-gone'))).toBe(false);
  expect(copy.size()).toBe(1);
});

test('a small bound is kept too: four silences of a healthy Redis fit into it', async () => {
  const redis = new Redis(server.url, { maxRetriesPerRequest: null });
  const asked = vi.spyOn(redis, 'xreadBuffer');
  const copy = createRevocationCopy({ connect: () => redis, stream, epochKey, lagMax: 200, onError: () => {} });
  onTestFinished(() => copy.close());
  copy.start();
  await vi.waitFor(() => expect(asked).toHaveBeenCalledWith('COUNT', 2000, 'BLOCK', 50, 'STREAMS', stream, '0-0'));
});

test('a step of the host’s clock makes no revoked token good again', async () => {
  const { copy } = await startedCopy();
  await revoke('phone');
  await vi.waitFor(() => expect(copy.denies(token('phone'))).toBe(true));
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3_600_000 });
  onTestFinished(() => void vi.useRealTimers());
  await revoke('laptop');
  await vi.waitFor(() => expect(copy.denies(token('laptop'))).toBe(true));
  expect(copy.denies(token('phone'))).toBe(true);
});

test('a step of the clock of Redis makes no revoked token good again', async () => {
  const { copy } = await startedCopy();
  await revoke('phone');
  await vi.waitFor(() => expect(copy.denies(token('phone'))).toBe(true));
  await writer.xadd(stream, `${Date.now() + 3_600_000}-0`, 'sid', `${inTenMinutes() + 3600} 0 laptop`);
  await vi.waitFor(() => expect(copy.denies(token('laptop'))).toBe(true));
  expect(copy.denies(token('phone'))).toBe(true);
});

test('after a sleep of the machine, during which the steady clock stands still, nothing is believed before Redis is heard again', async () => {
  const { copy } = await startedCopy();
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + LAG_MAX + 1 });
  onTestFinished(() => void vi.useRealTimers());
  expect([copy.fresh(), copy.knowsRedis(), copy.lag() > LAG_MAX]).toEqual([false, false, true]);
  await vi.waitFor(() => expect(copy.fresh()).toBe(true), { timeout: LAG_MAX, interval: 1 });
});

test('a step of the host’s clock backwards keeps nothing believed for longer', async () => {
  const { copy } = await startedCopy();
  server.freeze();
  onTestFinished(() => server.thaw());
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() - 3_600_000 });
  onTestFinished(() => void vi.useRealTimers());
  expect(copy.fresh()).toBe(true);
  await vi.waitFor(() => expect(copy.fresh()).toBe(false), { timeout: 2 * LAG_MAX });
});

test('a host whose clock is so far behind that it takes dead tokens for good says so, once, and until then forgets nothing', async () => {
  const errors: string[] = [];
  const { copy } = copyOfTheLog(server.url, { onError: ({ message }) => errors.push(message) });
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() - 60_000 + 5000 });
  onTestFinished(() => void vi.useRealTimers());
  copy.start();
  await vi.waitFor(() => expect(copy.fresh()).toBe(true), { timeout: 10_000, interval: 1 });
  expect(errors).toEqual([]);
  vi.setSystemTime(started - 3_600_000);
  // Over for Redis, but not for this host.
  await revoke('phone', Math.floor(started / 1000) - 60);
  await revoke('laptop');
  await vi.waitFor(() => expect([copy.denies(token('phone')), copy.denies(token('laptop'))]).toEqual([true, true]));
  await vi.waitFor(() => expect(errors).toEqual([expect.stringContaining('behind')]));
  vi.useRealTimers();
  await revoke('tablet');
  await vi.waitFor(() => expect(copy.denies(token('phone'))).toBe(false));
  expect(errors.length).toBe(1);
});

test('what this process has written itself is refused at once', async () => {
  const { copy } = await startedCopy();
  expect(copy.denies(token('own'))).toBe(false);
  const id = String(await revoke('another'));
  copy.apply({ sessionId: 'own', from: 0, until: inTenMinutes() }, { id, epoch: epochOf(copy) });
  expect(copy.denies(token('own'))).toBe(true);
});

test('a log without what this process was told is written is an older copy, though nobody had read that', async () => {
  const lost: unknown[] = [];
  const { copy } = copyOfTheLog(server.url, {
    async onEpochLost(found, knownUntil, last) {
      lost.push([found?.id, knownUntil, last.id]);
      return true;
    },
  });
  copy.start();
  await vi.waitFor(() => expect(copy.fresh()).toBe(true), { timeout: 10_000, interval: 1 });
  const ahead = Date.now() + 60_000;
  const entry = { id: `${ahead}-0`, epoch: epochOf(copy) };
  copy.apply({ sessionId: 'own', from: 0, until: inTenMinutes() }, entry);
  await vi.waitFor(() => expect(lost).toContainEqual([entry.epoch.id, ahead, entry.id]));
  expect(copy.fresh()).toBe(false);
  // What another epoch holds is another matter.
  await beginEpoch(Date.now() * 1000, 'next');
  await vi.waitFor(() => expect(copy.fresh()).toBe(true));
  copy.apply({ sessionId: 'late', from: 0, until: inTenMinutes() }, entry);
  lost.length = 0;
  // Before the second is read the Redis has been looked at once more.
  for (const session of ['phone', 'laptop']) {
    await revoke(session);
    await vi.waitFor(() => expect(copy.denies(token(session, 'user', Date.now() * 1000 + 1000))).toBe(true));
  }
  expect([copy.fresh(), lost]).toEqual([true, []]);
});

test('what was written after a question was asked, and told before its answer, makes no other Redis of this one', async () => {
  let lost = 0;
  const { copy } = copyOfTheLog(server.url, {
    async onEpochLost() {
      lost += 1;
      return true;
    },
  });
  copy.start();
  await vi.waitFor(() => expect(copy.fresh()).toBe(true), { timeout: 10_000, interval: 1 });
  for (let round = 0; round < 2000; round += 1) {
    const id = String(await revoke(`own-${round}`));
    copy.apply({ sessionId: `own-${round}`, from: 0, until: inTenMinutes() }, { id, epoch: epochOf(copy) });
  }
  expect(lost).toBe(0);
  expect(copy.fresh()).toBe(true);
});

test('a caller that waits for an entry is told once it was read, and that it was not when that takes too long', async () => {
  const { copy } = await startedCopy();
  await copy.reaches('0-0', LAG_MAX);
  const id = String(await revoke('phone'));
  await copy.reaches(id, LAG_MAX);
  expect(copy.denies(token('phone'))).toBe(true);
  await copy.reaches(id, LAG_MAX);
  await expect(copy.reaches(`${Date.now() + 60_000}-0`, 100)).rejects.toThrow('behind');
});

test('a cut-off refuses what was issued at it and before, to the microsecond, and of that user only', async () => {
  const { copy } = await startedCopy();
  const cutoff = Date.now() * 1000 + 123;
  await writer.xadd(stream, '*', 'sub', `${inTenMinutes()} ${cutoff} ada`);
  await vi.waitFor(() => expect(copy.denies(token('s', 'ada', cutoff))).toBe(true));
  expect(copy.denies(token('s', 'ada', cutoff + 1))).toBe(false);
  expect(copy.denies(token('s', 'bob', cutoff))).toBe(false);
});

test('denying a token refuses what was issued of its session from then on, and not what was before', async () => {
  const { copy } = await startedCopy();
  const issuedAt = Date.now() * 1000;
  await writer.xadd(stream, '*', 'sid', `${inTenMinutes()} ${issuedAt} phone`);
  await vi.waitFor(() => expect(copy.denies(token('phone', 'user', issuedAt))).toBe(true));
  expect(copy.denies(token('phone', 'user', issuedAt + 5))).toBe(true);
  expect(copy.denies(token('phone', 'user', issuedAt - 1))).toBe(false);
});

test('a line of a newer release is passed over', async () => {
  const { copy } = await startedCopy();
  await writer.xadd(stream, '*', 'galaxy', 'm31');
  await revoke('phone');
  await vi.waitFor(() => expect(copy.denies(token('phone'))).toBe(true));
});

test('a wiped Redis is not believed until a new epoch has begun, and then nothing older than it', async () => {
  const { copy } = await startedCopy();
  await revoke('phone');
  await vi.waitFor(() => expect(copy.denies(token('phone'))).toBe(true));
  const old = token('laptop');
  expect(copy.denies(old)).toBe(false);
  await writer.del(stream, epochKey);
  await vi.waitFor(() => expect(copy.fresh()).toBe(false));
  await beginEpoch(Date.now() * 1000, 'another');
  await vi.waitFor(() => expect(copy.fresh()).toBe(true));
  expect(copy.denies(old)).toBe(true);
  expect(copy.denies(token('phone'))).toBe(true);
  expect(copy.denies(token('tablet', 'user', Date.now() * 1000 + 1_000_000))).toBe(false);
});

test('an older copy of the same Redis is not believed: not by a copy that had read on, nor by one that starts with the high-water mark', async () => {
  const first = await startedCopy();
  await revoke('before-the-backup');
  const backup = (await writer.dumpBuffer(stream)) ?? Buffer.alloc(0);
  await revoke('after-the-backup');
  await vi.waitFor(() => expect(first.copy.denies(token('after-the-backup'))).toBe(true));
  const { id: epochId = '', born = 0 } = first.copy.epoch() ?? {};
  const mark = { epochId, born, position: first.copy.position() };
  await writer.restore(stream, 0, backup, 'REPLACE');
  await vi.waitFor(() => expect(first.copy.fresh()).toBe(false));
  const second = copyOfTheLog();
  second.copy.start(mark);
  const unmarked = copyOfTheLog();
  unmarked.copy.start();
  await vi.waitFor(() => expect(unmarked.copy.fresh()).toBe(true));
  expect(second.copy.fresh()).toBe(false);
});

test('an older copy that was written to before anybody looked is not believed either', async () => {
  const { copy } = await startedCopy();
  await revoke('before-the-backup');
  const backup = (await writer.dumpBuffer(stream)) ?? Buffer.alloc(0);
  const lost = String(await revoke('after-the-backup'));
  await vi.waitFor(() => expect(copy.denies(token('after-the-backup'))).toBe(true));
  // A Redis that comes back with other data has cut every connection.
  await writer
    .multi()
    .restore(stream, 0, backup, 'REPLACE')
    .call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    // Not within the same millisecond, or it would have the very id of the entry that is lost.
    .xadd(stream, `${Number(lost.split('-')[0]) + 1}-0`, 'sid', `${inTenMinutes()} 0 another`)
    .exec();
  await vi.waitFor(() => expect(copy.fresh()).toBe(false));
});

test('an epoch that another one followed is never believed again: not by a copy that saw that begin, nor by one that starts with the high-water mark', async () => {
  const now = Date.now();
  const [ended, known] = [
    { id: 'ended', born: (now - 7_200_000) * 1000 },
    { id: 'known', born: now * 1000 },
  ];
  await beginEpoch(ended.born, ended.id);
  /** A copy that may begin an epoch, and what it says when it would. */
  const beginner = (mark?: HighWater) => {
    const lost = vi.fn<NonNullable<RevocationCopyOptions['onEpochLost']>>(async () => true);
    const { copy } = copyOfTheLog(server.url, { onEpochLost: lost });
    copy.start(mark);
    return { copy, lost };
  };
  const saw = beginner();
  const reader = await startedCopy();
  await vi.waitFor(() => expect(saw.copy.epoch()).toEqual(ended));
  await beginEpoch(known.born, known.id);
  for (const { copy } of [saw, reader])
    await vi.waitFor(() => expect([copy.epoch(), copy.fresh()]).toEqual([known, true]));
  expect(saw.lost).not.toHaveBeenCalled();

  // Restored from a copy from before.
  await beginEpoch(ended.born, ended.id);
  const started = [
    beginner({ epochId: known.id, born: known.born, position: '0-0' }),
    // A release before notes no birth, but what was read of an epoch was written after it; and it may have gone back itself.
    beginner({ epochId: known.id, born: 0, position: `${now}-0` }),
    beginner({ epochId: ended.id, born: known.born, position: '0-0' }),
  ];
  for (const { lost } of [saw, ...started]) {
    await vi.waitFor(() => expect(lost).toHaveBeenCalledWith(ended, expect.any(Number), expect.anything()));
    // The next one is born after that millisecond.
    expect(lost.mock.calls[0]?.[1]).toBeGreaterThanOrEqual(now);
  }
  const copies = [saw, reader, ...started].map(({ copy }) => copy);
  await vi.waitFor(() => expect(copies.map((copy) => copy.fresh())).toEqual(copies.map(() => false)));
  expect(copies.every((copy) => copy.denies(token('phone', 'user', known.born - 1)))).toBe(true);
  const unmarked = await startedCopy();
  expect(unmarked.copy.epoch()).toEqual(ended);

  const next = { id: 'next', born: (now + 1) * 1000 };
  await beginEpoch(next.born, next.id);
  for (const copy of copies) await vi.waitFor(() => expect([copy.epoch(), copy.fresh()]).toEqual([next, true]));
});

test('an emptied Redis gets an epoch born after the one that is known, whatever its clock says', async () => {
  const born = (Date.now() + 3_600_000) * 1000;
  await beginEpoch(born, 'ahead');
  const lost = vi.fn(async () => true);
  const { copy } = copyOfTheLog(server.url, { onEpochLost: lost });
  copy.start();
  await vi.waitFor(() => expect(copy.fresh()).toBe(true));
  await writer.del(epochKey);
  await vi.waitFor(() => expect(lost).toHaveBeenCalledWith(undefined, born / 1000, expect.anything()));
});

test('a log that was trimmed past what was read is no older copy: what it lacks has stopped to matter', async () => {
  const { copy } = await startedCopy();
  const id = await revoke('long-gone', Math.floor(started / 1000) - 1);
  await vi.waitFor(() => expect(copy.position()).toBe(id));
  const epoch = copy.epoch();
  await writer.multi().xtrim(stream, 'MAXLEN', 0).xadd(stream, '*', 'sid', `${inTenMinutes()} 0 phone`).exec();
  await vi.waitFor(() => expect(copy.denies(token('phone'))).toBe(true));
  expect(copy.epoch()).toBe(epoch);
  expect(copy.fresh()).toBe(true);
});

test('after a doubt Redis is not asked until it is recognised, and what was copied stays believed', async () => {
  const { copy } = await startedCopy();
  expect(copy.knowsRedis()).toBe(true);
  copy.doubt();
  expect(copy.knowsRedis()).toBe(false);
  expect(copy.fresh()).toBe(true);
  await vi.waitFor(() => expect(copy.knowsRedis()).toBe(true));
});

test('a replica is not believed, however well it is in step; once it is promoted, it is', async () => {
  const replica = await startRedis({ args: ['--replicaof', `127.0.0.1 ${server.port}`] });
  onTestFinished(() => replica.stop());
  const operator = new Redis(replica.url);
  onTestFinished(() => operator.disconnect());
  await vi.waitFor(async () => expect(await operator.info('replication')).toContain('master_link_status:up'), 10_000);
  const said: string[] = [];
  const { copy } = copyOfTheLog(replica.url, { onError: ({ message }) => said.push(message) });
  copy.start();
  await vi.waitFor(
    () => expect(said.filter((message) => message.includes('is a replica')).length).toBeGreaterThan(2),
    10_000,
  );
  expect(copy.fresh()).toBe(false);
  await operator.replicaof('NO', 'ONE');
  await vi.waitFor(() => expect(copy.fresh()).toBe(true), 10_000);
});

test('a copy that finds a replica at its address asks there again, where another server may be by now', async () => {
  const replica = await startRedis({ args: ['--replicaof', `127.0.0.1 ${server.port}`] });
  onTestFinished(() => replica.stop());
  const { url, standsFor } = await nameFor(replica.port);
  const said: string[] = [];
  const { copy } = copyOfTheLog(url, { onError: ({ message }) => said.push(message) });
  copy.start();
  await vi.waitFor(() => expect(said).toContainEqual(expect.stringContaining('is a replica')), 10_000);
  expect(copy.fresh()).toBe(false);
  standsFor.port = server.port;
  await vi.waitFor(() => expect(copy.fresh()).toBe(true), 5000);
});

test('a copy that finds an older log is led to the Redis that has it all, when nothing is lost there, and no epoch ends', async () => {
  const former = await startRedis();
  onTestFinished(() => former.stop());
  const older = new Redis(former.url);
  onTestFinished(() => older.disconnect());
  await older.hset(epochKey, await writer.hgetall(epochKey));
  const { url, standsFor } = await nameFor(former.port);
  let asked = 0;
  const { copy } = copyOfTheLog(url, {
    async onEpochLost() {
      asked += 1;
      return false;
    },
  });
  copy.start();
  await vi.waitFor(() => expect(copy.fresh()).toBe(true), { timeout: 10_000, interval: 1 });
  const id = String(await revoke('phone'));
  standsFor.port = server.port;
  copy.apply({ sessionId: 'phone', from: 0, until: inTenMinutes() }, { id, epoch: epochOf(copy) });
  await vi.waitFor(() => expect([asked > 0, copy.fresh(), copy.position()]).toEqual([true, true, id]), 5000);
  expect(copy.epoch()?.id).toBe(`epoch-of-${stream}`);
});

test('of an earlier epoch that comes back nothing is asked but its birth, though what was noted of it is all there', async () => {
  const ended = { id: `epoch-of-${stream}`, born: Number(await writer.hget(epochKey, 'born')) };
  const position = String(await revoke('phone'));
  const later = Date.now() * 1000;
  // One that saw the next one begin; and one that starts with the mark of a release before, which notes the birth and leaves the rest.
  for (const born of [ended.born, later]) {
    await beginEpoch(ended.born, ended.id);
    const lost = vi.fn<NonNullable<RevocationCopyOptions['onEpochLost']>>(async () => true);
    const { copy } = copyOfTheLog(server.url, { onEpochLost: lost });
    copy.start({ epochId: ended.id, position, born });
    if (born === ended.born) {
      await vi.waitFor(() => expect(copy.fresh()).toBe(true), { timeout: 10_000, interval: 1 });
      await beginEpoch(later, 'next');
      await vi.waitFor(() => expect(copy.epoch()?.id).toBe('next'));
      await beginEpoch(ended.born, ended.id);
    }
    await vi.waitFor(() => expect(lost).toHaveBeenCalledWith(ended, expect.any(Number), { id: '0-0', until: 0 }));
  }
});

test('a log that has what was written, but lacks what was read before, is an older copy all the same', async () => {
  const former = await startRedis();
  onTestFinished(() => former.stop());
  const older = new Redis(former.url);
  onTestFinished(() => older.disconnect());
  await older.hset(epochKey, await writer.hgetall(epochKey));
  const read = String(await older.xadd(stream, '*', 'sid', `${inTenMinutes()} 0 phone`));
  const written = `${Number(read.split('-')[0]) + 1}-0`;
  await writer.xadd(stream, written, 'sid', `${inTenMinutes()} 0 laptop`);
  const { url, standsFor } = await nameFor(former.port);
  const asked: string[] = [];
  const { copy } = copyOfTheLog(url, {
    async onEpochLost(_found, _knownUntil, last) {
      asked.push(last.id);
      return false;
    },
  });
  copy.start();
  await vi.waitFor(() => expect([copy.fresh(), copy.position()]).toEqual([true, read]), {
    timeout: 10_000,
    interval: 1,
  });
  standsFor.port = server.port;
  copy.apply({ sessionId: 'laptop', from: 0, until: inTenMinutes() }, { id: written, epoch: epochOf(copy) });
  await vi.waitFor(() => expect(asked).toContain(read), 5000);
  expect([copy.fresh(), asked[0]]).toEqual([false, written]);
});

test('closed while Redis is away it keeps no process from ending', async () => {
  const program = `
    import { Redis } from 'ioredis';
    import { createRevocationCopy } from ${JSON.stringify(new URL('../src/revocation-copy.ts', import.meta.url).href)};
    const redis = new Redis('redis://127.0.0.1:1', { maxRetriesPerRequest: null });
    redis.on('error', () => undefined);
    const copy = createRevocationCopy({
      connect: () => redis, stream: 'log', epochKey: 'epoch', lagMax: 1000, onError: () => undefined,
    });
    copy.start();
    // What it has asked waits for a connection, and is never answered.
    redis.once('reconnecting', () => copy.close());`;
  // Killed, and so refused, if it does not end by itself.
  const options = { timeout: 20_000, cwd: new URL('..', import.meta.url) };
  await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program], options);
});

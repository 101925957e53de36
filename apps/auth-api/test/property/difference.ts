/** Model and system side by side. */

import type { Holdings } from './known.ts';
import type { Seen } from './moving-clock.ts';
import { isDenied, NEAR, near, opaqueIsGood, refreshAnswer, type Session, type State } from './state.ts';
import { type Lane, LIMITS } from './system.ts';

/** Milliseconds two instants taken in one script may lie apart. */
const SAME = 1000;

function* sessionDifferences(id: string, session: Session, seen: Seen): Generator<string> {
  const hash = seen.hashes.get(id);
  const score = seen.index.get(id);
  if (hash === undefined) yield `session ${id} lives and has no hash`;
  if (score === undefined) yield `session ${id} lives and is not in the index`;
  if (hash === undefined || score === undefined) return;
  const { expiresAt, touched } = session;
  if (touched ? !near(score, expiresAt) : score !== expiresAt)
    yield `session ${id} expires at ${score}, not ${expiresAt}`;
  if (hash.expiresAt !== score && Math.abs(hash.expiresAt - score) > SAME)
    yield `the hash of ${id} expires at ${hash.expiresAt}, its index entry at ${score}`;
  for (const field of ['format', 'counter', 'createdAt'] as const)
    if (hash[field] !== session[field]) yield `${field} of ${id} is ${hash[field]}, not ${session[field]}`;
  if (session.format === 'jwt' && hash.seenAt !== session.newest)
    yield `the newest access token of ${id} is said to be of ${hash.seenAt}, not ${session.newest}`;
}

function* gateDifferences(
  { gate, gateIssued, gateNeededUntil, generation, generationAtLeast }: State,
  seen: Seen,
): Generator<string> {
  if (seen.gateKeptUntil === 0) {
    if (gateNeededUntil > seen.now / 1000) yield `there is no gate, it is needed until ${gateNeededUntil}`;
    return;
  }
  for (const field of ['cutoff', 'closedUntil', 'suspendedUntil'] as const)
    if (seen.gate[field] !== gate[field]) yield `${field} is ${seen.gate[field]}, not ${gate[field]}`;
  if (generation !== undefined && seen.generation !== generation)
    yield `generation is ${seen.generation}, not ${generation}`;
  if (generation === undefined && Number(seen.generation) <= generationAtLeast)
    yield `generation is ${seen.generation}, not above ${generationAtLeast}`;
  if (seen.lastIssued < gateIssued) yield `the gate remembers ${seen.lastIssued} as issued last, not ${gateIssued}`;
  if (seen.gateKeptUntil < gateNeededUntil)
    yield `the gate is kept until ${seen.gateKeptUntil}, needed until ${gateNeededUntil}`;
}

/** What Redis holds of a user against what the model says: no orphan, no zombie, nothing else either. */
export function* storedDifferences(state: State, seen: Seen): Generator<string> {
  const now = seen.now / 1000;
  for (const [id, session] of state.sessions) yield* sessionDifferences(id, session, seen);
  const indexed = [...seen.index].filter(([, expiresAt]) => expiresAt > now).map(([id]) => id);
  for (const id of indexed) if (!state.sessions.has(id)) yield `the index holds ${id}, which has ended`;
  for (const id of seen.hashes.keys())
    if (!state.sessions.has(id)) yield `the hash of ${id}, which has ended, is there`;
  if (indexed.length > LIMITS.sessions) yield `${indexed.length} sessions live`;
  yield* gateDifferences(state, seen);
  yield* owedDifferences(state, seen);
}

function* owedDifferences(state: State, seen: Seen): Generator<string> {
  const now = seen.now / 1000;
  const owed = new Map([...seen.owed].filter(([, until]) => until > now));
  for (const [id, until] of state.owed)
    if (until - NEAR > now && (owed.get(id) ?? 0) < until - NEAR)
      yield `the end of ${id} is owed to the log until ${owed.get(id)}, not ${until}`;
  for (const id of owed.keys())
    if (!state.owed.has(id) && !state.lapsed.has(id)) yield `the end of ${id} is owed to the log and should not be`;
}

/** The state with what was only reckoned replaced by what was seen. */
export function settled(state: State, seen: Seen): State {
  const sessions = new Map<string, Session>();
  for (const [id, session] of state.sessions)
    sessions.set(id, { ...session, expiresAt: seen.index.get(id) ?? session.expiresAt, touched: false });
  const owed = new Map(
    [...seen.owed].map(([id, until]) => [id, Math.min(until, state.owed.get(id) ?? until)] as const),
  );
  // What is forgotten was no longer needed, whatever the clock shows later.
  const gateNeededUntil = seen.gateKeptUntil === 0 ? 0 : state.gateNeededUntil;
  const { gate, lastIssued: gateIssued, generation } = seen;
  return { ...state, sessions, owed, gate, gateIssued, gateNeededUntil, generation };
}

/**
 * What the system says of every token of the user, as far as asking changes nothing: a refresh token or an opaque token that is to be
 * refused is presented; one that is good is used by the commands and at the end of the run.
 * @param told what tokens have answered: who would say the same again is not asked. (What Redis holds is compared every time.)
 */
export async function* answeredDifferences(
  system: Lane,
  { id, refreshTokens, opaque, accessTokens }: Holdings,
  state: State,
  seen: Seen,
  told: Map<string, string>,
): AsyncGenerator<string> {
  const { now } = seen;
  const [first, second] = system.instances;
  if (first === undefined || second === undefined) throw new Error('there are no instances');
  /** @param answer undefined: asking would change something. */
  const news = (name: string, answer: string | undefined): boolean => {
    if (told.get(name) === answer) return false;
    if (answer === undefined) told.delete(name);
    else told.set(name, answer);
    return answer !== undefined;
  };
  const refreshes = [...refreshTokens]
    .map(([name, token]) => ({ name, token, expected: refreshAnswer(state, token, 0, now) }))
    .filter(({ name, expected: { status, quiet } }) => news(name, quiet ? status : undefined));
  const dead = opaque.filter((sessionId) => news(sessionId, opaqueIsGood(state, sessionId, now) ? undefined : 'gone'));
  const [listed, answers, uses] = await Promise.all([
    second.store.list(id, system.born()),
    Promise.all(refreshes.map(({ token }) => first.store.refresh(id, token.sessionId, token))),
    Promise.all(dead.map((sessionId) => second.store.useOpaqueToken(id, sessionId, system.born()))),
  ]);
  for (const [index, { token, expected }] of refreshes.entries())
    if (answers[index]?.status !== expected.status && !state.lapsed.has(token.sessionId))
      yield `refresh token ${token.counter} of ${token.sessionId} is ${answers[index]?.status}, not ${expected.status}`;
  for (const [index, sessionId] of dead.entries())
    if (uses[index] !== undefined) yield `the opaque token of ${sessionId} is dead and was accepted`;
  yield* listDifferences(state, seen, listed);
  yield* accessDifferences(system, id, accessTokens, state, now);
}

function* accessDifferences(
  { copies }: Lane,
  userId: string,
  accessTokens: Holdings['accessTokens'],
  state: State,
  now: number,
): Generator<string> {
  // Past its own life an access token is refused whatever the log says.
  const alive = accessTokens.filter(({ issuedAt }) => issuedAt / 1000 + LIMITS.accessLife * 1000 > now / 1000);
  for (const token of alive) {
    if (state.lapsed.has(token.sessionId)) continue;
    const denied = copies.own.denies({ userId, ...token });
    if (denied !== isDenied(state, token))
      yield `the access token ${JSON.stringify(token)} is ${denied ? '' : 'not '}refused`;
  }
}

/** The latest used first. */
function* listDifferences(
  { sessions }: State,
  { hashes }: Seen,
  listed: Awaited<ReturnType<Lane['instances'][0]['store']['list']>>,
): Generator<string> {
  if (listed.length !== sessions.size) yield `${listed.length} sessions are listed of ${sessions.size}`;
  let before = Number.POSITIVE_INFINITY;
  for (const { id, format, createdAt, lastSeenAt, expiresAt } of listed) {
    const session = sessions.get(id);
    const expiry = expiresAt ?? Number.POSITIVE_INFINITY;
    if (
      session === undefined ||
      session.format !== format ||
      session.createdAt !== createdAt ||
      session.expiresAt !== expiry ||
      lastSeenAt !== hashes.get(id)?.seenAt
    )
      yield `session ${id} is listed as ${format} of ${createdAt}, seen at ${lastSeenAt}, until ${expiry}`;
    if (lastSeenAt > before) yield `session ${id} is listed after one that was used earlier`;
    before = lastSeenAt;
  }
}

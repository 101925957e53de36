/** Does what is planned to the system, and tells what the system answered as events of the model. */
import { createJti, readJti } from '../../src/domain/token-identity.ts';
import type { Gate, Microseconds, RefreshOutcome, SessionStore } from '../../src/store/sessions.ts';
import type { Plan } from './known.ts';
import type { Event } from './state.ts';
import type { Lane } from './system.ts';

const CONTEXT = { requestId: 'property', traceparent: undefined, ip: '192.0.2.1', userAgent: null };
const DEVICE = { deviceName: null, userAgent: 'property test', ip: '192.0.2.1' };

/** The store, and what it answered of that the domain keeps to itself. */
function noting(store: SessionStore) {
  const gates: Gate[] = [];
  const refreshes: RefreshOutcome[] = [];
  const ends: string[][] = [];
  const noted: SessionStore = {
    ...store,
    async refresh(...args) {
      const outcome = await store.refresh(...args);
      refreshes.push(outcome);
      return outcome;
    },
    async endOne(...args) {
      const owed = await store.endOne(...args);
      ends.push(owed);
      return owed;
    },
    async endOthers(...args) {
      const owed = await store.endOthers(...args);
      ends.push(owed);
      return owed;
    },
    async cutOff(userId, at) {
      const gate = await store.cutOff(userId, at);
      gates.push(gate);
      return gate;
    },
    async suspend(userId, until) {
      const gate = await store.suspend(userId, until);
      gates.push(gate);
      return gate;
    },
  };
  return { noted, gates, refreshes, ends };
}

/** @returns the code of the problem, undefined when there was none. */
async function problemOf(work: Promise<unknown>): Promise<string | undefined> {
  try {
    await work;
    return undefined;
  } catch (error) {
    const code = error instanceof Error && error.name === 'Problem' ? Reflect.get(error, 'code') : undefined;
    if (typeof code !== 'string') throw error;
    return code;
  }
}

async function login(system: Lane, plan: Plan & { kind: 'login' }): Promise<Event[]> {
  const { holder, sessionId, format, instance } = plan;
  const { store } = storeOf(system, instance);
  const events: Event[] = [];
  let generation = plan.prepared;
  if (generation === undefined) {
    generation = await store.generation(holder.id);
    events.push({ kind: 'generation', generation });
  }
  const outcome = await store.create(holder.id, sessionId, format, DEVICE, {
    generation,
    notBefore: system.born(),
  });
  events.push({ kind: 'create', sessionId, format, instance, generation, outcome });
  if (outcome.status !== 'ok') return events;
  await system.log.denySessions(holder.id, outcome.ended);
  events.push({ kind: 'logged', sessionIds: outcome.ended });
  if (format === 'opaque') {
    holder.opaque.push(sessionId);
    return events;
  }
  const { createdAt } = outcome;
  const content = { userId: holder.id, sessionId, counter: 0, createdAt, issuedAt: createdAt };
  holder.refreshTokens.set(system.encodeRefreshToken(content), content);
  holder.accessTokens.push({ sessionId, issuedAt: createdAt });
  return events;
}

function storeOf(system: Lane, instance: number) {
  const found = system.instances[instance];
  if (found === undefined) throw new Error(`there is no instance ${instance}`);
  return found;
}

async function refresh(system: Lane, plan: Plan & { kind: 'refresh' }): Promise<Event[]> {
  const { holder, token, content, instance } = plan;
  const { store, domain } = storeOf(system, instance);
  const { noted, refreshes } = noting(store);
  let answer: (Event & { kind: 'refresh' })['answer'];
  try {
    const issued = await domain(noted).login.refresh(token, CONTEXT);
    const next = issued.refresh && system.decodeRefreshToken(issued.refresh.token);
    const payload = JSON.parse(Buffer.from(issued.accessToken.split('.')[1] ?? '', 'base64url').toString()) as {
      jti: string;
    };
    const identity = readJti(payload.jti);
    if (!issued.refresh || !next || !identity) throw new Error('no pair');
    holder.refreshTokens.set(issued.refresh.token, next);
    holder.accessTokens.push({ sessionId: identity.sessionId, issuedAt: identity.issuedAt });
    answer = { next, accessIssuedAt: identity.issuedAt };
  } catch (error) {
    answer = (await problemOf(Promise.reject(error))) ?? '';
  }
  const [outcome] = refreshes;
  if (outcome === undefined) throw new Error(`the store was not asked: ${JSON.stringify(answer)}`);
  const event: Event = { kind: 'refresh', token: content, instance, outcome, answer };
  const ends = outcome.status === 'reused' || outcome.status === 'expired' || outcome.status === 'ended';
  return ends ? [event, { kind: 'logged', sessionIds: [content.sessionId] }] : [event];
}

type Ending = Extract<Plan, { kind: 'endOne' | 'endCurrent' | 'endOthers' | 'denyToken' }>;

/** Everything that ends sessions and writes that to the log. What is to be written is the model's to say, not the domain's. */
async function end(system: Lane, plan: Ending): Promise<Event[]> {
  const { holder, instance } = plan;
  const { store, domain } = storeOf(system, instance);
  const { noted, ends } = noting(store);
  const { sessions, revocation } = domain(noted);
  switch (plan.kind) {
    case 'endOne': {
      const { sessionId } = plan;
      const refused = (await problemOf(sessions.end(holder.id, sessionId, CONTEXT))) !== undefined;
      const owed = theOnly(ends);
      return [
        { kind: 'endOne', sessionId, owed, refused },
        { kind: 'logged', sessionIds: owed },
      ];
    }
    case 'endCurrent': {
      const { sessionId } = plan;
      await sessions.endCurrent(holder.id, sessionId, CONTEXT);
      return [
        { kind: 'endOne', sessionId, owed: theOnly(ends) },
        { kind: 'logged', sessionIds: [sessionId] },
      ];
    }
    case 'endOthers': {
      const { sessionId: kept } = plan;
      await sessions.endOthers(holder.id, kept, CONTEXT);
      const owed = theOnly(ends);
      return [
        { kind: 'endOthers', kept, owed },
        { kind: 'logged', sessionIds: owed.filter((id) => id !== kept) },
      ];
    }
    case 'denyToken': {
      const { sessionId, issuedAt } = plan.token;
      await revocation.denyToken(createJti({ userId: holder.id, ...plan.token }));
      const ended = theOnly(ends);
      return [
        { kind: 'endOne', sessionId, owed: ended },
        { kind: 'denied', sessionId, issuedAt, ended },
      ];
    }
  }
}

function theOnly<T>(noted: readonly T[]): T {
  const [only] = noted;
  if (only === undefined || noted.length > 1) throw new Error(`one command made ${noted.length} writes`);
  return only;
}

type CuttingOff = Extract<Plan, { kind: 'endAll' | 'lift' | 'cutOffAt' | 'cutOffAhead' | 'suspend' }>;

/**
 * Everything that cuts off: the domain is asked, the store's answer is noted. The model is told what was planned, not what the store was
 * asked: a domain that asks for something else is found out.
 */
async function cutOff(system: Lane, plan: CuttingOff): Promise<Event[]> {
  const { holder, instance } = plan;
  const { store, domain } = storeOf(system, instance);
  const { noted, gates } = noting(store);
  const { revocation } = domain(noted);
  const meant = await askedFor(plan);
  return [{ kind: 'cutOff', ...meant, gate: theOnly(gates) }];

  async function askedFor(asked: CuttingOff): Promise<{ at: Microseconds | 'now'; suspended: Microseconds | 'keep' }> {
    switch (asked.kind) {
      case 'endAll':
        await revocation.cutOff(holder.id, undefined);
        return { at: 'now', suspended: 'keep' };
      case 'lift':
        await revocation.liftSuspension(holder.id);
        return { at: 'now', suspended: 0 };
      case 'cutOffAhead':
        await revocation.cutOff(holder.id, asked.until);
        return { at: asked.until.getTime() * 1000 + 999, suspended: 'keep' };
      case 'suspend':
        await revocation.suspend(holder.id, asked.until, null);
        return { at: 'now', suspended: Math.min(asked.until.getTime() * 1000, FAR) };
      case 'cutOffAt': {
        // The domain takes milliseconds; what lies between two microseconds is decided below it.
        const { cutoff } = await noted.cutOff(holder.id, asked.at);
        await system.log.cutOff(holder.id, cutoff);
        return { at: asked.at, suspended: 'keep' };
      }
    }
  }
}

/** The end of the time the store can count: what "until lifted" is to it. */
const FAR = Number.MAX_SAFE_INTEGER - 1;

/** Runs the plan. What it gained is added to the holder's holdings. */
export async function observe(system: Lane, plan: Plan): Promise<Event[]> {
  const { holder, instance, kind } = plan;
  const { store } = storeOf(system, instance);
  switch (kind) {
    case 'prepareLogin': {
      const generation = await store.generation(holder.id);
      holder.prepared.push(generation);
      return [{ kind: 'generation', generation }];
    }
    case 'login':
      return login(system, plan);
    case 'refresh':
      return refresh(system, plan);
    case 'useOpaque': {
      const found = await store.useOpaqueToken(holder.id, plan.sessionId, system.born());
      return [{ kind: 'use', sessionId: plan.sessionId, instance, found }];
    }
    case 'endOne':
    case 'endCurrent':
    case 'endOthers':
    case 'denyToken':
      return end(system, plan);
    default:
      return cutOff(system, plan);
  }
}

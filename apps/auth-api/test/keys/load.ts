/** People who refresh and use their tokens all the time, at every instance. */
import type { TokenResponse } from '../accounts.ts';
import { type Keys, kidOf } from './keys-suite.ts';

/**
 * @param outside judges their tokens too: `good`, or the code of a refusal.
 * @returns what stops it and tells how it went.
 */
export function startLoad(keys: Keys, outside: (token: string) => Promise<string>, devices = 4) {
  let stopped = false;
  const went = { verified: 0, refused: [] as string[], signedBy: new Set<string>() };

  async function use(token: string): Promise<void> {
    for (const instance of keys.both) {
      const status = await keys.verify(token, instance);
      went.verified += 1;
      if (status !== 200) went.refused.push(`${status} for a token of ${kidOf(token)}`);
    }
    const answer = await outside(token);
    if (answer !== 'good') went.refused.push(`${answer} outside for a token of ${kidOf(token)}`);
  }

  /** Refreshes here and there; its latest and one of its older tokens are used at both. */
  async function device(first: number): Promise<void> {
    let session: TokenResponse = await keys.session();
    const tokens = [session.access_token];
    for (let turn = first; !stopped; turn += 1) {
      session = await keys.refresh(session, keys.both[turn % 2 === 0 ? 0 : 1]);
      tokens.push(session.access_token);
      went.signedBy.add(kidOf(session.access_token));
      const older = tokens[(turn * 7919) % tokens.length] ?? '';
      await use(session.access_token);
      await use(older);
      if (turn % 10 === 0 && !(await keys.introspect(older, keys.other))) went.refused.push('introspection');
    }
  }

  const all = Promise.all(Array.from({ length: devices }, (_, first) => device(first)));
  // One that fails is heard of at the end, and must not go unheard until then.
  all.catch(() => undefined);
  return {
    async stop() {
      stopped = true;
      await all;
      return went;
    },
  };
}

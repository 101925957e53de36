/** What V8 is told so that a process is as fast as its like (ADR 29). Called before the process does anything else: later is too late. */
import { createHook } from 'node:async_hooks';
import { setFlagsFromString } from 'node:v8';

/**
 * New objects are placed with the young, whatever became of earlier ones. Under load V8 may see many that live as long as a request and place
 * their like with the old (allocation site pretenuring). Dead there, they keep what they refer to from every collection of the young.
 */
export function placeAllWithTheYoung(): void {
  setFlagsFromString('--no-allocation-site-pretenuring');
}

const ticks: (object | undefined)[] = [];

/**
 * Keeps one object of those that `process.nextTick` makes. When collections find none of them alive, V8 forgets their shape, and never
 * optimises again how they are made: a sixth of the time of a server that does little else for a request.
 *
 * @returns the object, for tests; undefined if Node makes none that can be seen.
 */
export function keepTickShape(): object | undefined {
  let tick: object | undefined;
  const hook = createHook({
    trackPromises: false,
    init(_asyncId, type, _triggerAsyncId, resource) {
      if (type === 'TickObject') tick = resource;
    },
  });
  hook.enable();
  process.nextTick(() => undefined);
  hook.disable();
  ticks.push(tick);
  return tick;
}

/** A thread that gives way. */
import { constants, setPriority } from 'node:os';

/** What this thread does from now on yields to verifying: on Linux a priority belongs to the thread that sets it. */
export function yieldToOthers(): void {
  try {
    setPriority(constants.priority.PRIORITY_LOW);
  } catch {
    // Where it may not be lowered, it competes on equal terms.
  }
}

/**
 * Something the person at the keyboard can put right: a taken port, a missing program, a folder that cannot be written.
 * The message says what is wrong and names the ways out; it is shown alone, without a stack trace.
 */
export class StackFailure extends Error {
  override readonly name: string = 'StackFailure';
}

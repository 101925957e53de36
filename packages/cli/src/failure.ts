/** How a command ends; scripts rely on the numbers. */
export const EXIT = {
  done: 0,
  /** The API or the database refused: not known, not allowed, not valid. */
  refused: 1,
  /** The command line or the environment is wrong, or a confirmation is missing: nothing was tried. */
  usage: 2,
  /** The API or the database can't be reached or is not ready: worth trying again. */
  unavailable: 3,
} as const;

/** Ends the command with a message for a person. */
export class Failure extends Error {
  override readonly name = 'Failure';
  readonly kind: keyof typeof EXIT;

  constructor(kind: keyof typeof EXIT, message: string) {
    super(message);
    this.kind = kind;
  }

  get exit(): number {
    return EXIT[this.kind];
  }
}

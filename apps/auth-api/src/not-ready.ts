export type DependencyName = 'postgresql' | 'redis';

/** A dependency answers but cannot be used as it is. The message goes to operators through `/readyz`: it holds no secret. */
export class NotReady extends Error {
  override readonly name = 'NotReady';
  /** The one a request fails for; undefined: no request does. */
  readonly dependency: DependencyName | undefined;

  constructor(message: string, { dependency, ...options }: ErrorOptions & { dependency?: DependencyName } = {}) {
    super(message, options);
    this.dependency = dependency;
  }
}

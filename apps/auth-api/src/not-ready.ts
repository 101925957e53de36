/** A dependency answers but cannot be used as it is. The message goes to operators through `/readyz`: it holds no secret. */
export class NotReady extends Error {
  override readonly name = 'NotReady';
}

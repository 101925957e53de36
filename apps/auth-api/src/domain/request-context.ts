/** What follows a request into the queue, the worker's logs and the audit log. */
export interface RequestContext {
  requestId: string;
  /** W3C Trace Context, if the caller sent one. */
  traceparent: string | undefined;
  /** The caller's address. */
  ip: string;
  userAgent: string | null;
}

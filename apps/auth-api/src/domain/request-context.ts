/** What follows a request into the queue, the worker's logs and the audit log. */
export interface RequestContext {
  requestId: string;
  /** W3C Trace Context: of the request's span where traces are on, else the caller's, if it sent one. */
  traceparent: string | undefined;
  /** The caller's address. */
  ip: string;
  userAgent: string | null;
}

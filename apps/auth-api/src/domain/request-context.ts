/** What follows a request into the queue and the worker's logs. */
export interface RequestContext {
  requestId: string;
  /** W3C Trace Context, if the caller sent one. */
  traceparent: string | undefined;
}

/**
 * A caller that asks while an answer is on its way gets that one. For gauges too: prom-client collects all of a scrape at once, and a gauge
 * that did not ask itself would show what another had found at the scrape before.
 */
export function askedOnce<T>(ask: () => Promise<T>): () => Promise<T> {
  let asking: Promise<T> | undefined;
  return () => {
    asking ??= ask().finally(() => {
      asking = undefined;
    });
    return asking;
  };
}

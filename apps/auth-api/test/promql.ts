/** What a PromQL expression asks for: enough of the language for the expressions of infra/, in which no metric's name is a keyword's. */

const KEYWORDS = new Set(['and', 'or', 'unless', 'offset', 'bool']);

export interface Asked {
  metric: string;
  /** Names of labels it is selected by. */
  labels: string[];
}

export function askedFor(expression: string): Asked[] {
  const bare = expression
    .replaceAll(/"(?:[^"\\]|\\.)*"/g, '""')
    .replaceAll(/\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)/g, ' ')
    .replaceAll(/\[[^\]]*\]/g, ' ')
    .replaceAll(/\boffset\s+\w+/g, ' ');
  return [...bare.matchAll(/(?<![\w.])([a-zA-Z_:][\w:]*)\s*(\(|\{([^}]*)\})?/g)]
    .filter(([, name = '', after]) => after !== '(' && !KEYWORDS.has(name))
    .map(([, metric = '', , selector = '']) => ({
      metric,
      labels: [...selector.matchAll(/(\w+)\s*(?:=|!)/g)].map(([, label = '']) => label),
    }));
}

/** The metrics of what Prometheus scrapes, each with the labels its samples have. */
export function offeredBy(exposition: string): Map<string, Set<string>> {
  const offered = new Map<string, Set<string>>();
  const labelsOf = (metric: string) => offered.get(metric) ?? new Set<string>();
  for (const [, name = '', type] of exposition.matchAll(/^# TYPE (\w+) (\w+)$/gm))
    for (const metric of type === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name])
      offered.set(metric, labelsOf(metric));
  for (const [, metric = '', labels = ''] of exposition.matchAll(/^(\w+)(?:\{(.*)\})? \S+$/gm))
    for (const [, label = ''] of labels.matchAll(/(\w+)="/g)) offered.get(metric)?.add(label);
  return offered;
}

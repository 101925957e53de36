/** Text in columns, for a terminal. */

/** What came from others must not move a terminal's cursor, colour it or turn its letters round (Unicode's Cc and Cf). */
const plain = (value: unknown): string =>
  (value === null || value === undefined ? '-' : Array.isArray(value) ? value.join(' ') : String(value)).replaceAll(
    /[\p{Cc}\p{Cf}]/gu,
    '?',
  );

/** One line per row below a line of names. */
export function table(columns: readonly string[], rows: readonly Record<string, unknown>[]): string {
  const lines = [
    columns.map((column) => column.toUpperCase()),
    ...rows.map((row) => columns.map((column) => plain(row[column]))),
  ];
  const widths = columns.map((_, index) => Math.max(...lines.map((line) => line[index]?.length ?? 0)));
  return lines
    .map((line) =>
      line
        .map((cell, index) => cell.padEnd(widths[index] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** One line per field. */
export function fields(record: Record<string, unknown>): string {
  const width = Math.max(...Object.keys(record).map(({ length }) => length));
  return Object.entries(record)
    .map(([name, value]) => `${name.padEnd(width)}  ${plain(value)}`)
    .join('\n');
}

/** What a run found, as a table for people and as JSON for programs. */
import { availableParallelism, cpus } from 'node:os';
import type { Comparison, Sample } from './rounds.ts';

/** Something measured: against a baseline, or how long it takes by itself. */
export type Row = { readonly name: string; readonly what: string } & (
  | ({ readonly against: string } & Comparison)
  | { readonly latency: { readonly p50: number; readonly p99: number; readonly max: number; readonly samples: number } }
  | { readonly memory: { readonly of: string; readonly bytesEach: number; readonly count: number } }
);

/** What the figures belong to. */
export type Machine = {
  readonly cores: number;
  readonly cpu: string;
  readonly node: string;
  readonly platform: string;
};

/** Share of busy time from which the load generator, and not the server, may have set the pace. */
const GENERATOR_LIMIT = 0.95;

/** This machine. */
export function machine(): Machine {
  return {
    cores: availableParallelism(),
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    node: process.versions.node,
    platform: `${process.platform} ${process.arch}`,
  };
}

/** One JSON document; times in milliseconds, rates per second. */
export function asJson(on: Machine, seconds: number, rows: readonly Row[]): string {
  return `${JSON.stringify({ machine: on, seconds, rows: rows.map(jsonRow) }, undefined, 2)}\n`;
}

function jsonRow(row: Row): object {
  const { name, what } = row;
  if ('latency' in row) {
    const { p50, p99, max, samples } = row.latency;
    return { name, what, p50_ms: rounded(p50), p99_ms: rounded(p99), max_ms: rounded(max), samples };
  }
  if ('memory' in row) {
    return { name, what, bytes_each: Math.round(row.memory.bytesEach), count: row.memory.count };
  }
  return {
    name,
    what,
    against: row.against,
    ratio: rounded(row.ratio),
    ratios: row.ratios.map(rounded),
    measured: jsonSample(row.measured),
    baseline: jsonSample(row.baseline),
  };
}

function jsonSample({ perSecond, p50, p99, generatorBusy }: Sample): object {
  return {
    per_second: rounded(perSecond),
    ...(p50 === undefined ? {} : { p50_ms: rounded(p50) }),
    ...(p99 === undefined ? {} : { p99_ms: rounded(p99) }),
    ...(generatorBusy === undefined ? {} : { generator_busy: rounded(generatorBusy) }),
  };
}

function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}

const HEADINGS = ['', 'ratio', 'rounds', 'per second', 'p99 ms', 'against', 'per second', 'p99 ms'];

/** A table in plain text, the ratio first: absolute figures belong to the machine. */
export function asTable(on: Machine, seconds: number, rows: readonly Row[]): string {
  const cells = [HEADINGS, ...rows.map(tableRow)];
  const widths = HEADINGS.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  const lines = cells.map((row) =>
    row
      .map((cell, column) => (isText(column) ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
  const pace = rows.some((row) => 'baseline' in row && (row.baseline.generatorBusy ?? 0) > GENERATOR_LIMIT)
    ? ['* the load generator was as busy as the server: the baseline may be faster, and the ratio lower, than shown']
    : [];
  return [
    `${on.cores} cores, ${on.cpu}, Node ${on.node}, ${on.platform}; ${seconds} s per measurement, median of the rounds`,
    '',
    ...lines,
    ...pace,
    '',
  ].join('\n');
}

/** The name and what it is compared with stand left, figures right. */
function isText(column: number): boolean {
  return column === 0 || column === 5;
}

function tableRow(row: Row): string[] {
  if ('latency' in row) {
    const { p50, p99, max, samples } = row.latency;
    const others = `p50 ${p50.toFixed(1)}, most ${max.toFixed(1)} ms, ${samples} times`;
    return [row.what, '', '', '', p99.toFixed(1), others, '', ''];
  }
  if ('memory' in row) {
    const { of, bytesEach, count } = row.memory;
    return [row.what, '', '', '', '', `${bytesEach.toFixed(0)} bytes of ${of} each, ${count} of them`, '', ''];
  }
  const { measured, baseline, ratios } = row;
  const mark = (baseline.generatorBusy ?? 0) > GENERATOR_LIMIT ? '*' : '';
  return [
    row.what,
    `${row.ratio.toFixed(2)}${mark}`,
    `${Math.min(...ratios).toFixed(2)}–${Math.max(...ratios).toFixed(2)}`,
    measured.perSecond.toFixed(0),
    measured.p99?.toFixed(1) ?? '',
    row.against,
    baseline.perSecond.toFixed(0),
    baseline.p99?.toFixed(1) ?? '',
  ];
}

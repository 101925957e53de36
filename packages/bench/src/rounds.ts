/** Measuring two things by turns, so that whatever slows the machine slows both. */

/** One measurement of one of the two. */
export type Sample = {
  readonly perSecond: number;
  /** Milliseconds; missing where single operations are not timed. */
  readonly p50?: number;
  readonly p99?: number;
  /** Share of the time in which the load generator's thread was busy; near 1 it was the load generator that was measured. */
  readonly generatorBusy?: number;
};

export type Comparison = {
  /** Median of the rounds' ratios, measured over baseline. */
  readonly ratio: number;
  readonly ratios: readonly number[];
  /** Median of each field over the rounds. */
  readonly measured: Sample;
  readonly baseline: Sample;
};

/**
 * Runs both once unmeasured, then `rounds` times in turns, the first of a round being the second of the next.
 *
 * @param rounds At least 1.
 * @param by What the ratio is of.
 */
export async function compare(
  rounds: number,
  baseline: () => Promise<Sample>,
  measured: () => Promise<Sample>,
  by: (sample: Sample) => number = ({ perSecond }) => perSecond,
): Promise<Comparison> {
  await baseline();
  await measured();
  const pairs: { baseline: Sample; measured: Sample }[] = [];
  for (let round = 0; round < rounds; round += 1) {
    if (round % 2 === 0) {
      const first = await baseline();
      pairs.push({ baseline: first, measured: await measured() });
    } else {
      const first = await measured();
      pairs.push({ measured: first, baseline: await baseline() });
    }
  }
  const ratios = pairs.map((pair) => by(pair.measured) / by(pair.baseline));
  return {
    ratio: median(ratios),
    ratios,
    measured: middle(pairs.map((pair) => pair.measured)),
    baseline: middle(pairs.map((pair) => pair.baseline)),
  };
}

function middle(samples: readonly Sample[]): Sample {
  const of = (name: 'p50' | 'p99' | 'generatorBusy'): Partial<Sample> => {
    const values = samples.flatMap((sample) => sample[name] ?? []);
    return values.length === 0 ? {} : { [name]: median(values) };
  };
  return {
    perSecond: median(samples.map(({ perSecond }) => perSecond)),
    ...of('p50'),
    ...of('p99'),
    ...of('generatorBusy'),
  };
}

/** The middle value; of an even number the mean of the two in the middle. NaN of none. */
export function median(values: readonly number[]): number {
  return (percentile(values, 50 - 1e-9) + percentile(values, 50 + 1e-9)) / 2;
}

/** How long it took, of all the times. */
export function spread(values: readonly number[]): { p50: number; p99: number; max: number; samples: number } {
  return {
    p50: percentile(values, 50),
    p99: percentile(values, 99),
    max: percentile(values, 100),
    samples: values.length,
  };
}

/** Nearest rank: the smallest value that `percent` of the values do not exceed. NaN of none. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)] ?? Number.NaN;
}

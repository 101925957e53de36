/** What vitest's JSON report says, reduced to what `npm test` ends with. */

export type TestResults = { readonly passed: number; readonly failed: number; readonly skipped: readonly string[] };

type Report = {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[];
  }[];
};

/**
 * Counts the tests of a report. A file that could not be loaded counts as one failed test: it has no test that could fail.
 *
 * @param report The parsed JSON of vitest's `json` reporter.
 */
export function countResults(report: unknown): TestResults {
  const files = isReport(report) ? report.testResults : [];
  const tests = files.flatMap((file) => file.assertionResults);
  const broken = files.filter(
    (file) => file.status === 'failed' && !file.assertionResults.some(({ status }) => status === 'failed'),
  );
  return {
    passed: tests.filter(({ status }) => status === 'passed').length,
    failed: tests.filter(({ status }) => status === 'failed').length + broken.length,
    skipped: tests.filter(({ status }) => status !== 'passed' && status !== 'failed').map(({ fullName }) => fullName),
  };
}

/** The last line of `npm test`. */
export function summaryLine({ passed, failed, skipped }: TestResults): string {
  return `${passed} passed, ${failed} failed${skipped.length === 0 ? '' : `, ${skipped.length} skipped`}`;
}

function isReport(value: unknown): value is Report {
  return typeof value === 'object' && value !== null && 'testResults' in value && Array.isArray(value.testResults);
}

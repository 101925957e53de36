/**
 * What in a migration an API of the release before would not survive, or would have to wait for: while a release is rolled out both work in one
 * database. What is known to be harmless is listed; everything else is not.
 */

interface Tables {
  /** Made by this migration: nobody uses them yet. */
  readonly made: ReadonlySet<string>;
  /** The only statement there is: only then does PostgreSQL run it outside a transaction. */
  readonly alone: boolean;
}

const NAME = String.raw`(?:ONLY\s+)?(?:IF\s+(?:NOT\s+)?EXISTS\s+)?(?:"?public"?\.)?"?(?<table>\w+)"?`;
const pattern = (before: string, after = '') => new RegExp(`^${before}\\s+${NAME}${after}`, 'i');

const CREATE_TABLE = pattern(String.raw`CREATE\s+TABLE`);
const ALTER_TABLE = pattern(String.raw`ALTER\s+TABLE`, String.raw`\s+(?<actions>[\s\S]+)$`);
const CREATE_INDEX = pattern(
  String.raw`CREATE\s+(?<unique>UNIQUE\s+)?INDEX\s+(?<concurrently>CONCURRENTLY\s+)?(?:IF\s+NOT\s+EXISTS\s+)?(?:"?\w+"?\s+)?ON`,
);
const CREATE_TRIGGER = pattern(String.raw`CREATE\s+TRIGGER\s[\s\S]*?\sON`);
const INSERT = pattern(String.raw`INSERT\s+INTO`);
const HARMLESS = /^(?:CREATE\s+(?:TYPE|SEQUENCE|FUNCTION|VIEW)\s|COMMENT\s+ON\s|SET\s+LOCAL\s)/i;

/** Defaults that differ from row to row: for them PostgreSQL writes every row anew, under a lock nobody passes. */
const PER_ROW = /\b(?:gen_random_uuid|uuid\w*|random|clock_timestamp|nextval|(?:big|small)?serial|generated)\b/i;

/** Without comments, and without what stands in quotes, where a semicolon or a keyword means nothing. */
const bare = (sql: string): string =>
  sql
    .replaceAll(/\/\*[\s\S]*?\*\//g, ' ')
    .replaceAll(/(\$\w*\$)[\s\S]*?\1|'(?:[^']|'')*'|--[^\n]*/g, (found) => (found.startsWith('--') ? ' ' : "''"));

/** At the commas that are in no brackets. */
function actionsOf(list: string): string[] {
  const actions: string[] = [''];
  let depth = 0;
  for (const sign of list) {
    if (sign === '(') depth += 1;
    if (sign === ')') depth -= 1;
    if (sign === ',' && depth === 0) actions.push('');
    else actions[actions.length - 1] += sign;
  }
  return actions.map((action) => action.trim());
}

function wrongWithAction(action: string): string | undefined {
  if (/^ADD\s+(?:COLUMN\s+)?(?!CONSTRAINT|PRIMARY|UNIQUE|CHECK|FOREIGN|EXCLUDE)/i.test(action)) {
    if (/\b(?:UNIQUE|CHECK|REFERENCES|PRIMARY\s+KEY)\b/i.test(action)) return 'a constraint older builds do not know';
    if (/\bNOT\s+NULL\b/i.test(action) && !/\bDEFAULT\b/i.test(action))
      return 'a column older builds do not fill: give it a default, or let it be null';
    if (PER_ROW.test(action)) return 'a default for which every row is written anew';
    return undefined;
  }
  // They permit more than before.
  if (/^ALTER\s+(?:COLUMN\s+)?"?\w+"?\s+(?:SET\s+DEFAULT|DROP\s+NOT\s+NULL)\b/i.test(action)) return undefined;
  return 'a change of what older builds use';
}

type Groups = Record<string, string | undefined>;

function wrongWithIndex({ unique, concurrently }: Groups, alone: boolean): string | undefined {
  if (unique) return 'a constraint older builds do not know';
  if (!concurrently) return 'nobody writes to the table while the index is made: CONCURRENTLY';
  return alone ? undefined : 'CONCURRENTLY has to be the only statement of its migration';
}

const UNKNOWN = 'not known to be harmless to older builds';
/** What may be done to a table that others use; to a new one, anything. */
const JUDGES: readonly [RegExp, (groups: Groups, alone: boolean) => string | undefined][] = [
  [CREATE_INDEX, wrongWithIndex],
  [ALTER_TABLE, ({ actions = '' }) => actionsOf(actions).map(wrongWithAction).find(Boolean)],
  [CREATE_TRIGGER, () => 'older builds do not know what it does'],
  [INSERT, () => UNKNOWN],
];

function wrongWith(statement: string, { made, alone }: Tables): string | undefined {
  if (CREATE_TABLE.test(statement) || HARMLESS.test(statement)) return undefined;
  for (const [form, judge] of JUDGES) {
    const groups: Groups | undefined = form.exec(statement)?.groups;
    if (groups) return made.has(groups.table ?? '') ? undefined : judge(groups, alone);
  }
  return UNKNOWN;
}

/** @returns each statement that contracts, or may, and why. */
export function contracting(sql: string): string[] {
  const statements = bare(sql)
    .split(';')
    .map((statement) => statement.replaceAll(/\s+/g, ' ').trim())
    .filter(Boolean);
  const made = new Set(
    statements.map((statement) => CREATE_TABLE.exec(statement)?.groups?.table).filter((name) => name !== undefined),
  );
  const tables = { made, alone: statements.length === 1 };
  return statements.flatMap((statement) => {
    const wrong = wrongWith(statement, tables);
    return wrong === undefined ? [] : [`${statement}: ${wrong}`];
  });
}

/** Why it has to, by its own word. */
export const contractReason = (sql: string): string | undefined => /^-- contract: (\S.*)$/m.exec(sql)?.[1];

/** The migrations this build was made with, and what it makes of those a database has (ADR 24). */
import { kindOf } from '../prisma/migration-kind.ts';

/** In order; the folders of `prisma/migrations`, which a test compares. */
export const MIGRATIONS: readonly string[] = [
  '20261122000000_init',
  '20261122120000_revocation',
  '20261122130000_operators',
  '20261122140000_accounts',
  '20261125100000_mail_withdrawals',
  '20261125100000_signing_key_life',
  '20261128020000_expand_unconfirmed_index',
  '20261128020001_expand_personal_events_index',
  '20261128020002_expand_audit_forget_in_parts',
  '20261128021500_expand_epoch_birth',
  '20261128190000_expand_mail_outbox_of_user_index',
];

/** A migration the database has heard of. */
export interface KnownMigration {
  name: string;
  /** Otherwise it is under way, or has failed. */
  finished: boolean;
}

/** @returns why a build with `own` migrations can't use a database with `known` ones; undefined when it can. */
export function misfit(known: readonly KnownMigration[], own = MIGRATIONS): string | undefined {
  const finished = new Set(known.filter((one) => one.finished).map(({ name }) => name));
  // What is yet to be taken away hurts nobody: that comes once every instance knows of it.
  const missing = own.filter((name) => !finished.has(name) && kindOf(name) !== 'contract');
  if (missing.length > 0) return `the database is not migrated: run pnpm migrate, it lacks ${missing.join(', ')}`;
  // Already while it is under way.
  const newer = known.map(({ name }) => name).filter((name) => !own.includes(name) && kindOf(name) !== 'expand');
  if (newer.length > 0)
    return `the database is of a newer release, which may have taken away what this one needs: deploy the one with ${newer.join(', ')}`;
  return undefined;
}

import { fileURLToPath } from 'node:url';

/** The repository's root folder. */
export const repositoryRoot: string = fileURLToPath(new URL('../../../', import.meta.url)).replace(/\/$/, '');

/** What applies the migrations to DATABASE_URL. */
export const migrateScript: string = `${repositoryRoot}/packages/shared/prisma/migrate.ts`;

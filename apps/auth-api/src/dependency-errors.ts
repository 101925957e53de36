/** Tells an error of a dependency that is down from an error of ours. */
import { type DependencyName, NotReady } from './not-ready.ts';

/** The socket went, or never came. */
const NETWORK_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ETIMEDOUT',
  'EPIPE',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
]);

/**
 * Prisma: can't reach (P1001), timed out (P1002, P1008), no TLS (P1011), closed (P1017), pool or transaction not had in time (P2024, P2028),
 * deadlock (P2034).
 */
const PRISMA_CODES = new Set(['P1001', 'P1002', 'P1008', 'P1011', 'P1017', 'P2024', 'P2028', 'P2034']);

/**
 * PostgreSQL's own ways to say not now: connection exceptions (class 08), shutdown, start-up, a database or session that is ended (57P01–57P05),
 * no memory, disk or connections left (class 53), read-only standby; and what is worth repeating: deadlock, serialization failure, a lock not
 * had in time, a statement that was cancelled.
 */
const SQLSTATE = /(?:^|[`'":\s(])(?:08[0-9A-Z]{3}|57P0[1-5]|53[0-9]00|25006|40P01|40001|55P03|57014)(?:$|[`'":\s)])/;

const POSTGRES_MESSAGE =
  /timeout exceeded when trying to connect|query read timeout|connection terminated|can't reach database|server has closed the connection|client has encountered a connection error|socket ?timeout|not queryable|expired transaction|transaction already closed|unable to start a transaction|is a standby/i;

/** What ioredis says while Redis is away. What the server answers (loading, read-only after a failover, full, no such right) is a ReplyError. */
const REDIS_MESSAGE =
  /connection is closed|stream isn't writeable|command timed out|connection in subscriber mode|max retries per request|redis connection is not ready|connect ETIMEDOUT|cluster isn't ready|cluster redirections|startup nodes/i;

const REDIS_NAMES = new Set(['MaxRetriesPerRequestError', 'ReplyError', 'AbortError', 'ClusterAllFailedError']);

/** @returns the dependency that is down, or undefined when the error is not about one. */
export function unavailableDependency(error: unknown): DependencyName | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error instanceof NotReady) return error.dependency;
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  if (isPostgres(error, code)) return 'postgresql';
  // The one other client on a request's path is ioredis, whose socket errors come bare.
  // (A client that went away while it sent its body is an ECONNRESET too, but of no system call.)
  const ofSocket = 'syscall' in error && NETWORK_CODES.has(code);
  if (REDIS_MESSAGE.test(error.message) || REDIS_NAMES.has(error.name) || ofSocket) return 'redis';
  return undefined;
}

function isPostgres(error: Error, code: string): boolean {
  if (PRISMA_CODES.has(code) || error.name === 'PrismaClientInitializationError') return true;
  if (POSTGRES_MESSAGE.test(error.message)) return true;
  const fromPrisma = error.name.startsWith('Prisma') || error.name === 'DriverAdapterError';
  return fromPrisma && (SQLSTATE.test(error.message) || hasNetworkCode(error));
}

function hasNetworkCode(error: Error): boolean {
  return [...NETWORK_CODES].some((code) => error.message.includes(code));
}

/** The OpenAPI document, made from the schemas that validate, and the page that shows it. */
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyInstance } from 'fastify';
import fp from 'fastify-plugin';
import { VERSION } from '../version.ts';

/** What of the document is looked at here. */
interface Documented {
  paths?: Record<string, Record<string, { requestBody?: RequestBody }>>;
}
interface RequestBody {
  required?: boolean;
  content: Record<string, { schema?: { type?: string | string[] } }>;
}

/**
 * The plugin marks every body as required. One that may be null is optional and, on a DELETE, where a body means nothing (RFC 9110 section
 * 9.3.5), left out.
 */
function markOptionalBodies({ paths = {} }: Documented): void {
  for (const [method, operation] of Object.values(paths).flatMap((methods) => Object.entries(methods)))
    for (const { schema } of Object.values(operation.requestBody?.content ?? {})) {
      if (!operation.requestBody || !schema?.type?.includes('null')) continue;
      if (method === 'delete') delete operation.requestBody;
      else operation.requestBody.required = false;
    }
}

export const openapi = fp(
  async (app: FastifyInstance, { publicUrl }: { publicUrl: string }) => {
    await app.register(swagger, {
      openapi: {
        openapi: '3.1.0',
        info: {
          title: 'Latchkey',
          version: VERSION,
          description:
            'Accounts that open by mail, a token for every device, revocation that takes effect everywhere at once.',
          license: { name: 'MIT', identifier: 'MIT' },
        },
        servers: [{ url: publicUrl }],
        components: {
          securitySchemes: {
            bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT (RFC 9068)' },
            client: { type: 'http', scheme: 'basic', description: 'Client id and secret (RFC 6749 section 2.3.1)' },
          },
        },
      },
      transformObject(made) {
        if (!('openapiObject' in made)) return made.swaggerObject;
        markOptionalBodies(made.openapiObject as Documented);
        return made.openapiObject;
      },
    });
    await app.register(swaggerUi, {
      routePrefix: '/docs',
      staticCSP: true,
      // Where this is served without TLS, browsers would find no style and no script.
      transformStaticCSP: (policy) => policy.replace(/;\s*upgrade-insecure-requests/, ''),
    });
    app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger());
  },
  { name: 'openapi' },
);

/** The OpenAPI document, made from the schemas that validate, and the page that shows it. */
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyInstance } from 'fastify';
import fp from 'fastify-plugin';
import { VERSION } from '../version.ts';

const JSON_TYPE = 'application/json; charset=utf-8';

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
    // Made once, and shared by all answers: 300 kB for each of many that are not read would be more memory than there is.
    let documents: { json: Buffer; yaml: Buffer } | undefined;
    const documentAs = (format: 'json' | 'yaml'): Buffer => {
      documents ??= {
        json: Buffer.from(JSON.stringify(app.swagger())),
        yaml: Buffer.from(app.swagger({ yaml: true })),
      };
      return documents[format];
    };
    await app.register(swaggerUi, {
      routePrefix: '/docs',
      uiHooks: {
        onRequest({ routeOptions }, reply, done) {
          if (routeOptions.url === '/docs/json') reply.type(JSON_TYPE).send(documentAs('json'));
          else if (routeOptions.url === '/docs/yaml') reply.type('application/x-yaml').send(documentAs('yaml'));
          else done();
        },
      },
      staticCSP: true,
      // Where this is served without TLS, browsers would find no style and no script.
      transformStaticCSP: (policy) => policy.replace(/;\s*upgrade-insecure-requests/, ''),
    });
    app.get('/openapi.json', { schema: { hide: true } }, async (_request, reply) =>
      reply.type(JSON_TYPE).send(documentAs('json')),
    );
  },
  { name: 'openapi' },
);

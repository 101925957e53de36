# syntax=docker/dockerfile:1.7
# mailer-worker: queue to SMTP. Build from the repository's root:
#   docker build -f infra/docker/mailer-worker.Dockerfile -t latchkey/mailer-worker .
# Where images are pushed, pin both bases by digest too (docker buildx imagetools inspect <image>).
FROM node:24.21.0-bookworm-slim AS node
ENV TURBO_TELEMETRY_DISABLED=1 DO_NOT_TRACK=1

# Only what this app needs, with a lockfile of its own.
FROM node AS pruned
WORKDIR /repo
COPY . .
RUN npx --yes turbo@2.11.11 prune mailer-worker --docker

FROM node AS built
WORKDIR /repo
COPY --from=pruned /repo/out/json/ ./
RUN npx --yes pnpm@12.18.0 install --frozen-lockfile
COPY --from=pruned /repo/out/full/ ./
COPY --from=pruned /repo/tsconfig.base.json ./
RUN npx --yes -p pnpm@12.18.0 -c 'turbo run build --filter=mailer-worker'

# Nothing that builds: the packages the bundle imports, the bundle, and the templates it reads.
FROM node AS production
WORKDIR /repo
COPY --from=pruned /repo/out/json/ ./
RUN npx --yes pnpm@12.18.0 install --frozen-lockfile --prod --filter mailer-worker && rm -r packages pnpm-lock.yaml
COPY --from=built /repo/apps/mailer-worker/dist/ ./apps/mailer-worker/dist/
COPY --from=built /repo/apps/mailer-worker/templates/ ./apps/mailer-worker/templates/

# Node and the app: no npm, no compiler.
FROM debian:12.12-slim
COPY --from=node /usr/local/bin/node /usr/local/bin/node
WORKDIR /app
COPY --from=production /repo/ ./
ENV NODE_ENV=production
# A number, so that Kubernetes can tell that it is not root (runAsNonRoot). Nothing is written: the root file system may be read-only.
USER 10001:10001
EXPOSE 3001
STOPSIGNAL SIGTERM
# Whether the process lives, not whether it is ready: a restart mends no dependency.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT || 3001}/livez`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "--enable-source-maps", "apps/mailer-worker/dist/main.js"]

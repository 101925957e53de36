# syntax=docker/dockerfile:1.7
# What `pnpm migrate` runs, as a job: applies the migrations to DATABASE_URL and ends. Build from the repository's root:
#   docker build -f infra/docker/migrations.Dockerfile -t latchkey/migrations .
# Where images are pushed, pin both bases by digest too (docker buildx imagetools inspect <image>).
FROM node:24.21.0-bookworm-slim AS node
ENV TURBO_TELEMETRY_DISABLED=1 DO_NOT_TRACK=1

FROM node AS pruned
WORKDIR /repo
COPY . .
RUN npx --yes turbo@2.11.11 prune @latchkey/shared --docker

FROM node AS production
WORKDIR /repo
COPY --from=pruned /repo/out/json/ ./
RUN npx --yes pnpm@12.18.0 install --frozen-lockfile --prod --filter @latchkey/shared && rm -r packages/dev-stack pnpm-lock.yaml
COPY --from=pruned /repo/out/full/packages/shared/prisma/ ./packages/shared/prisma/

FROM debian:12.12-slim
COPY --from=node /usr/local/bin/node /usr/local/bin/node
WORKDIR /app
COPY --from=production /repo/ ./
ENV NODE_ENV=production
USER 10001:10001
STOPSIGNAL SIGTERM
# A job: its exit code says how it went.
HEALTHCHECK NONE
CMD ["node", "packages/shared/prisma/migrate.ts"]

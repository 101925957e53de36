# syntax=docker/dockerfile:1.7
# `pnpm latchkey` where there is no checkout: the first client, and what operators do. Build from the repository's root:
#   docker build -f infra/docker/cli.Dockerfile -t latchkey/cli .
# Where images are pushed, pin both bases by digest too (docker buildx imagetools inspect <image>).
FROM node:24.21.0-bookworm-slim AS node
ENV TURBO_TELEMETRY_DISABLED=1 DO_NOT_TRACK=1

FROM node AS pruned
WORKDIR /repo
COPY . .
RUN npx --yes turbo@2.11.11 prune latchkey --docker

FROM node AS production
WORKDIR /repo
COPY --from=pruned /repo/out/json/ ./
RUN npx --yes pnpm@12.18.0 install --frozen-lockfile --prod --filter ./packages/cli... && rm -r packages/dev-stack pnpm-lock.yaml
COPY --from=pruned /repo/out/full/packages/shared/src/ ./packages/shared/src/
COPY --from=pruned /repo/out/full/packages/cli/src/ ./packages/cli/src/

FROM debian:12.12-slim
COPY --from=node /usr/local/bin/node /usr/local/bin/node
WORKDIR /app
COPY --from=production /repo/ ./
ENV NODE_ENV=production
USER 10001:10001
STOPSIGNAL SIGTERM
# One command: its exit code says how it went.
HEALTHCHECK NONE
ENTRYPOINT ["node", "packages/cli/src/main.ts"]
CMD ["--help"]

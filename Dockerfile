# The static binary of prismq, with a shell for handlers. deploy/README.md says how to use it.

FROM rust:1.91-alpine AS build
# C headers, for SQLite.
RUN apk add --no-cache musl-dev
WORKDIR /prismq
COPY . .
RUN cargo build --profile dist --locked

FROM alpine:3.22
RUN apk add --no-cache ca-certificates \
    && adduser -D -H -u 10001 prismq \
    && install -d -o prismq -g prismq -m 700 /data
COPY --from=build /prismq/target/dist/prismq /usr/local/bin/prismq
USER prismq
# Mount prismq.toml and the handlers here, or copy them in an image of your own.
WORKDIR /work
# The results file and the embedded TaskManager's database go here.
ENV STATE_DIRECTORY=/data
# For handlers that need one: the user has no folder under /home.
ENV HOME=/data
VOLUME /data
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s CMD ["prismq", "health", "--timeout", "5s"]
ENTRYPOINT ["prismq"]
CMD ["work"]

# prismq, a static binary, with a shell around it for handlers. deploy/README.md says how it is used.

FROM rust:1.91-alpine AS build
# A C compiler's headers, for SQLite.
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
# prismq.toml and the handlers are mounted, or copied by an image that is built on this one, here.
WORKDIR /work
# The results file and the embedded TaskManager's are kept here.
ENV STATE_DIRECTORY=/data
# For handlers that want one: the user has no folder under /home.
ENV HOME=/data
VOLUME /data
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s CMD ["prismq", "health", "--timeout", "5s"]
ENTRYPOINT ["prismq"]
CMD ["work"]

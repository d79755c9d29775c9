# The image of dosi, and with `--target demo-data` the one that fills a demo DoS.

FROM rust:1.95-bookworm AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libssl-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# There is no repository in here to ask for it.
ARG DOSI_COMMIT=unknown
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    DOSI_COMMIT=$DOSI_COMMIT cargo build --locked --release --package dosi --package dosi-benches --bins \
    && cp target/release/dosi target/release/country /usr/local/bin/

FROM debian:bookworm-slim AS base
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libssl3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --no-create-home dosi
USER 10001:10001

FROM base AS demo-data
COPY --from=build /usr/local/bin/country /usr/local/bin/country
ENTRYPOINT ["country"]

FROM base AS dosi
COPY --from=build /usr/local/bin/dosi /usr/local/bin/dosi
EXPOSE 9464
ENTRYPOINT ["dosi"]
CMD ["run"]

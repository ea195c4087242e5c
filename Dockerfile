# syntax=docker/dockerfile:1

# One image for everything that runs for long: presence-service (with a gateway, unless GATEWAY=off),
# presence-gateway and presence-bridge. The command chooses. Nothing in it but the programs, the public certificate
# authorities and libc.

FROM rust:1.95.0-bookworm AS build
# The toolchain of the image is the one that rust-toolchain.toml names; no other is to be fetched.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release -p presence-service -p presence-bridge --bins && \
    for name in presence-service presence-gateway presence-bridge presence-probe; do \
    install -D -t /out "target/release/$name" || exit; done

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/ /usr/local/bin/
USER 65532:65532
# Inside a container loopback is nobody's: it listens for the network that the container is put in. It does not start
# without a key of tokens then.
ENV HOST=0.0.0.0 \
    PORT=8087 \
    LOG_FORMAT=json
EXPOSE 8087
# Of the service; the bridge is asked on its ADMIN_ADDR by whoever runs it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["presence-probe", "http://127.0.0.1:8087/health"]
CMD ["presence-service"]

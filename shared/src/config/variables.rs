//! The names of all variables: the one place for them, which the documentation is held to.

/// One variable of the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What holds when it is unset or empty, as it would be written; empty if there is no such text.
    pub default: &'static str,
    /// What it sets, in which unit, and what is allowed.
    pub meaning: &'static str,
    /// It is a secret, or may have one in it: its value is never shown.
    pub secret: bool,
}

/// Every variable, in the order in which they are best explained.
pub const VARIABLES: [Variable; 33] = [
    open("HOST", "127.0.0.1", "The IP address to listen on, or `localhost`"),
    open("PORT", "8087", "The port to listen on, 0 to 65535; 0 picks a free one"),
    open(
        "ADMIN_ADDR",
        "",
        "Another address and port for `/health`, `/ready` and `/metrics`, which PORT serves as well",
    ),
    open(
        "ADMIN_EXPLAIN",
        "",
        "Whether ADMIN_ADDR also tells why a user looks as they do, without a token: unset does while it is loopback, \
         `on` always, `off` never",
    ),
    secret("REDIS_URL", "`redis://` or `rediss://` (TLS); unset means the store in memory, except on Lambda"),
    open("REDIS_CLUSTER", "off", "`on` if REDIS_URL leads to a cluster"),
    open(
        "REDIS_WAIT_REPLICAS",
        "0",
        "How many replicas must have the choice of invisible before it is confirmed, 0 to 16; not for a cluster",
    ),
    secret(
        "REDIS_REPLICA_URL",
        "A replica of the server at REDIS_URL, or a reader endpoint: bulk reads go there while it has everything that \
         the primary has; not for a cluster",
    ),
    secret(
        "NATS_URL",
        "`nats://` or `tls://`, several with commas; unset means the bus in the process, except on Lambda",
    ),
    open(
        "TLS_CA_FILE",
        "",
        "A PEM file of the certificate authorities of Redis and NATS, which are trusted instead of the public ones",
    ),
    open("HEARTBEAT_INTERVAL", "30", "Seconds between a client's heartbeats; less than HEARTBEAT_TIMEOUT"),
    open("HEARTBEAT_TIMEOUT", "45", "Seconds without a heartbeat after which a session is over; less than 300"),
    open("TYPING_TIMEOUT", "10", "Seconds that a typing indicator is shown; less than 300"),
    open(
        "LAST_SEEN_TTL",
        "2592000",
        "Seconds that last_seen is kept after a user is gone; at least HEARTBEAT_TIMEOUT, at most ten years",
    ),
    open(
        "NOTES_TTL",
        "0",
        "Seconds that a user's last 20 changes are noted for whoever asks why, up to one day; 0 for not at all",
    ),
    open(
        "RESUME_GRACE",
        "15",
        "Seconds that a session lingers after a connection that broke; less than 300, 0 for not at all",
    ),
    secret("JWT_SECRET", "The secret of HS256 tokens, at least 32 bytes"),
    open("JWT_PUBLIC_KEY", "", "The public key of tokens in PEM: RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA)"),
    secret("JWT_JWKS_URL", "Where the public keys of tokens are: `https://`, or `http://` on this machine"),
    open("JWT_ISSUER", "", "The `iss` that tokens must have; unset means any"),
    open("JWT_AUDIENCE", "", "What the `aud` of tokens must name; unset means anything"),
    open(
        "JWT_DEVELOPMENT_TOKENS",
        "",
        "Without a key: unset takes development tokens while HOST is loopback, `off` never does, `on` also does in the \
         local Lambda emulator; never on Lambda itself",
    ),
    open("GATEWAY", "on", "`off` to run without the WebSocket gateway"),
    open("MAX_CONNECTIONS", "10000", "Connections that are served at once, 1 to 1000000; more are refused with 503"),
    open(
        "MAX_IN_FLIGHT",
        "256",
        "Requests that are served at once, 1 to 65536; a bulk read counts as 16, probes and the gateway as none",
    ),
    open(
        "MAX_QUEUE_TIME",
        "0.25",
        "Seconds that a request beyond MAX_IN_FLIGHT may wait, 0 to 1; a tenth of it while an overload lasts",
    ),
    open("CORS_ORIGINS", "", "Origins whose pages may call, as `https://app.example.com`, several with commas"),
    open("LOG_FORMAT", "auto", "`json`, `text`, or `auto`: text on a terminal and JSON elsewhere"),
    open(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "",
        "Where spans go, as `http://127.0.0.1:4318`: OTLP over HTTP with protobuf; unset means nowhere",
    ),
    secret("OTEL_EXPORTER_OTLP_HEADERS", "Headers for the collector, as `name=value`, several with commas"),
    open(
        "OTEL_TRACES_SAMPLER_ARG",
        "1",
        "The share of traces to tell, 0 to 1, of those that begin here; others are told as their caller says",
    ),
    open(
        "METRICS_NAMESPACE",
        "",
        "Functions write their metrics to the log for this namespace of CloudWatch; unset means not at all",
    ),
    open("RUST_LOG", "info", "What is logged, as in `info` or `info,presence=debug`"),
];

const fn open(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default, meaning, secret: false }
}

const fn secret(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default: "", meaning, secret: true }
}

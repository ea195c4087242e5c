use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

use presence_corpus::hostile;
use proptest::prelude::{ProptestConfig, prop_assert, proptest};

use super::*;
use crate::auth::{Algorithm, DEVELOPMENT_SECRET, KeySource};

const SECRET: &str = "a-secret-of-the-test-that-is-long-enough";
const ED25519: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    Config::from_lookup(|name| variables.get(name).map(|value| value.to_string()))
}

fn errors(variables: &[(&str, &str)]) -> Vec<String> {
    read(variables).unwrap_err().iter().map(ToString::to_string).collect()
}

fn error(variables: &[(&str, &str)]) -> String {
    let errors = errors(variables);
    assert_eq!(errors.len(), 1, "{variables:?}: {errors:?}");
    errors[0].clone()
}

#[test]
fn without_any_variable_the_users_document_holds() {
    let config = read(&[]).unwrap();
    assert_eq!(SocketAddr::new(config.host, config.port), "127.0.0.1:8087".parse().unwrap());
    assert_eq!(config.heartbeat_interval, Duration::from_secs(30));
    assert_eq!(config.heartbeat_timeout, Duration::from_secs(45));
    assert_eq!(config.typing_timeout, Duration::from_secs(10));
    assert_eq!(config.resume_grace, Duration::from_secs(15));
    assert_eq!(config.last_seen_ttl, Duration::from_secs(30 * 24 * 60 * 60));
    assert_eq!((config.redis_url, config.nats_url, config.admin_addr), (None, None, None));
    assert_eq!((config.redis_cluster, config.redis_wait_replicas, config.gateway), (false, 0, true));
    assert!(config.cors_origins.is_empty());
    assert!(matches!(config.auth.keys, KeySource::Development));
    assert_eq!(config.log_format, LogFormat::Auto);
}

#[test]
fn an_empty_variable_is_an_unset_one() {
    let all_empty: Vec<(&str, &str)> = VARIABLES.iter().map(|variable| (variable.name, "")).collect();
    assert_eq!(format!("{:?}", read(&all_empty).unwrap()), format!("{:?}", read(&[]).unwrap()));
}

#[test]
fn the_table_names_exactly_what_is_read() {
    let platform = ["AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_INITIALIZATION_TYPE", "LAMBDA_TASK_ROOT"];
    let asked = Mutex::new(BTreeSet::new());
    let lookup = |name: &str| {
        asked.lock().unwrap().insert(name.to_owned());
        None
    };
    Config::from_lookup(lookup).unwrap();
    let table: BTreeSet<String> = VARIABLES.iter().map(|variable| variable.name.to_owned()).collect();
    assert_eq!(table.len(), VARIABLES.len(), "a name stands twice");
    let mut asked = asked.into_inner().unwrap();
    asked.retain(|name| !platform.contains(&name.as_str()));
    assert_eq!(asked, table);
}

#[test]
fn all_that_is_wrong_is_told_at_once_and_by_name() {
    let wrong = [
        ("HOST", "nowhere"),
        ("PORT", "65536"),
        ("ADMIN_ADDR", "9090"),
        ("REDIS_URL", "http://cache"),
        ("REDIS_CLUSTER", "maybe"),
        ("REDIS_WAIT_REPLICAS", "-1"),
        ("NATS_URL", "localhost:4222"),
        ("HEARTBEAT_INTERVAL", "0"),
        ("HEARTBEAT_TIMEOUT", "300"),
        ("TYPING_TIMEOUT", "ten"),
        ("LAST_SEEN_TTL", "1e9"),
        ("RESUME_GRACE", "-1"),
        ("JWT_SECRET", "short"),
        ("JWT_PUBLIC_KEY", "none"),
        ("JWT_JWKS_URL", "http://issuer.example.com/keys"),
        ("JWT_DEVELOPMENT_TOKENS", "please"),
        ("GATEWAY", "half"),
        ("CORS_ORIGINS", "*"),
        ("LOG_FORMAT", "xml"),
        ("RUST_LOG", "presence=loud"),
    ];
    let errors = read(&wrong).unwrap_err();
    let named: BTreeSet<&str> = errors.iter().map(|error| error.variable).collect();
    assert_eq!(named, wrong.iter().map(|(name, _)| *name).collect());
    let text = errors.to_string();
    assert_eq!(text.lines().count(), 1 + errors.iter().count(), "{text}");
}

#[test]
fn a_message_says_what_is_wrong_and_what_is_allowed() {
    assert_eq!(error(&[("PORT", "http")]), r#"PORT is "http"; allowed is a whole number from 0 to 65535"#);
    assert_eq!(error(&[("PORT", "\u{1b}[2J\n")]), r#"PORT is "\u{1b}[2J"; allowed is a whole number from 0 to 65535"#);
    assert_eq!(
        error(&[("HEARTBEAT_INTERVAL", "45")]),
        "HEARTBEAT_INTERVAL is 45 s; allowed is less than HEARTBEAT_TIMEOUT, which is 45 s"
    );
}

#[test]
fn times_are_seconds_with_decimals_or_without() {
    let config = read(&[("HEARTBEAT_INTERVAL", "0.5"), ("HEARTBEAT_TIMEOUT", "1.25"), ("RESUME_GRACE", "0")]).unwrap();
    assert_eq!(config.heartbeat_interval, Duration::from_millis(500));
    assert_eq!(config.heartbeat_timeout, Duration::from_millis(1250));
    assert_eq!(config.resume_grace, Duration::ZERO);
    assert!(read(&[("HEARTBEAT_TIMEOUT", "299.999")]).is_ok());
    for wrong in
        ["300", "1e2", "+5", "-5", "5s", ".5", "5.", "0.0001", "0", "0.000", "NaN", "inf", "99999999999999999999"]
    {
        let message = error(&[("TYPING_TIMEOUT", wrong)]);
        assert!(message.starts_with("TYPING_TIMEOUT is "), "{message}");
    }
}

#[test]
fn last_seen_outlives_a_session() {
    assert!(error(&[("LAST_SEEN_TTL", "44")]).contains("at least HEARTBEAT_TIMEOUT, which is 45 s"));
    assert!(read(&[("LAST_SEEN_TTL", "45")]).is_ok());
}

#[test]
fn urls_are_taken_by_scheme() {
    for good in ["redis://localhost", "redis://:password@localhost:6379", "rediss://u:p@cache.example.com:6380/2"] {
        assert_eq!(read(&[("REDIS_URL", good)]).unwrap().redis_url.as_deref(), Some(good));
    }
    for wrong in
        ["localhost:6379", "http://localhost", "redis://", "redis:localhost", "redis://h/x", "rediss://h/#insecure"]
    {
        assert!(error(&[("REDIS_URL", wrong)]).starts_with("REDIS_URL can't be used; allowed is "), "{wrong}");
    }
    let list = read(&[("NATS_URL", "nats://a:4222, tls://u:p@b:4223")]).unwrap().nats_url;
    assert_eq!(list.as_deref(), Some("nats://a:4222,tls://u:p@b:4223"));
    for wrong in ["a:4222", "http://a", "nats://a,", "nats://a,b", "nats://a/path", "ws://a"] {
        assert!(error(&[("NATS_URL", wrong)]).starts_with("NATS_URL can't be used; allowed is "), "{wrong}");
    }
}

#[test]
fn options_of_redis_need_redis() {
    for option in [("REDIS_CLUSTER", "on"), ("REDIS_WAIT_REPLICAS", "1"), ("REDIS_REPLICA_URL", "redis://r")] {
        assert_eq!(errors(&[option]).len(), 1, "{option:?}");
    }
    assert!(read(&[("REDIS_URL", "redis://h"), ("REDIS_CLUSTER", "true")]).unwrap().redis_cluster);
    assert_eq!(read(&[("REDIS_URL", "redis://h"), ("REDIS_WAIT_REPLICAS", "1")]).unwrap().redis_wait_replicas, 1);
    let config = read(&[("REDIS_URL", "redis://h"), ("REDIS_REPLICA_URL", "redis://:hush@r")]).unwrap();
    assert_eq!(config.redis_replica_url.as_deref(), Some("redis://:hush@r"));
    assert!(!format!("{config:?} {}", config.describe()).contains("hush"));
    for option in [("REDIS_WAIT_REPLICAS", "1"), ("REDIS_REPLICA_URL", "redis://r")] {
        assert_eq!(errors(&[("REDIS_URL", "redis://h"), ("REDIS_CLUSTER", "true"), option]).len(), 1, "{option:?}");
    }
}

#[test]
fn a_process_that_works_on_what_others_do_needs_what_they_have() {
    let missing = |variables: &[(&str, &str)]| match read(variables).unwrap().require_shared() {
        Ok(()) => Vec::new(),
        Err(errors) => errors.iter().map(|error| error.variable).collect(),
    };
    let (redis, nats) = (("REDIS_URL", "redis://localhost"), ("NATS_URL", "nats://localhost"));
    assert_eq!(missing(&[]), ["REDIS_URL", "NATS_URL"]);
    assert_eq!(missing(&[redis]), ["NATS_URL"]);
    assert!(missing(&[redis, nats]).is_empty());
}

#[test]
fn origins_are_as_browsers_send_them() {
    let origins = |text| read(&[("CORS_ORIGINS", text)]).map(|config| config.cors_origins);
    assert_eq!(
        origins("https://App.example.com/, http://localhost:3000,https://a.example:443").unwrap(),
        ["https://app.example.com", "http://localhost:3000", "https://a.example"]
    );
    for wrong in
        ["*", "null", "app.example.com", "https://a.example/path", "https://a,,https://b", "file:///x", "https://u@a"]
    {
        assert!(origins(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_admin_address_is_one_of_its_own() {
    assert_eq!(read(&[("ADMIN_ADDR", "localhost:9090")]).unwrap().admin_addr, "127.0.0.1:9090".parse().ok());
    assert_eq!(read(&[("ADMIN_ADDR", "[::1]:9090")]).unwrap().admin_addr, "[::1]:9090".parse().ok());
    assert!(error(&[("ADMIN_ADDR", "127.0.0.1:8087")]).contains("allowed is another one"));
}

#[test]
fn no_secret_is_in_a_message_a_debug_form_or_a_description() {
    let secrets = ["hunter2", "s3cr,3t", "n4ts", "t0ken", SECRET];
    let good = read(&[
        ("REDIS_URL", "redis://user:s3cr,3t@cache:6379/1"),
        ("NATS_URL", "nats://me:n4ts@a:4222,nats://t0ken@b:4222"),
        ("JWT_SECRET", SECRET),
    ])
    .unwrap();
    let shown = format!("{good:?} {good:#?} {}", good.describe());
    assert!(shown.contains("redis://***@cache:6379/1"), "{shown}");
    assert!(shown.contains("nats://***@a:4222,nats://***@b:4222"), "{shown}");
    let wrong = errors(&[
        ("REDIS_URL", "redis://user:hunter2@cache:port"),
        ("NATS_URL", "me:n4ts@a:4222"),
        ("JWT_SECRET", "hunter2"),
        ("JWT_JWKS_URL", "https://me:t0ken@issuer.example.com/"),
    ]);
    assert_eq!(wrong.len(), 5, "{wrong:?}");
    for text in [shown, wrong.join("\n")] {
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[test]
fn a_redacted_url_keeps_only_where_it_leads() {
    for (url, shown) in [
        ("redis://localhost", "redis://localhost"),
        ("redis://:p@h:1/0?protocol=resp3", "redis://***@h:1/0?***"),
        ("redis://u:12,34@h", "redis://***@h"),
        ("nats://a:1, tls://u:p@b:2", "nats://a:1,tls://***@b:2"),
        ("https://h/keys?key=k#f", "https://h/keys?***"),
        ("u:p@h", "***"),
        ("", "***"),
    ] {
        assert_eq!(redacted(url), shown, "{url}");
    }
}

#[test]
fn one_kind_of_key_checks_tokens() {
    let keys = |variables: &[(&str, &str)]| read(variables).unwrap().auth.keys;
    let algorithm = |keys| match keys {
        KeySource::Key(key) => key.algorithm(),
        other => panic!("{other:?}"),
    };
    assert_eq!(algorithm(keys(&[("JWT_SECRET", SECRET)])), Algorithm::Hs256);
    assert_eq!(algorithm(keys(&[("JWT_PUBLIC_KEY", ED25519)])), Algorithm::EdDsa);
    assert_eq!(algorithm(keys(&[("JWT_PUBLIC_KEY", &ED25519.replace('\n', "\\n"))])), Algorithm::EdDsa);
    let url = "https://issuer.example.com/.well-known/jwks.json";
    assert!(matches!(keys(&[("JWT_JWKS_URL", url)]), KeySource::Jwks(found) if found.as_str() == url));
    let both = error(&[("JWT_SECRET", SECRET), ("JWT_PUBLIC_KEY", ED25519), ("JWT_JWKS_URL", url)]);
    assert!(both.starts_with("JWT_SECRET is set beside JWT_PUBLIC_KEY and JWT_JWKS_URL"), "{both}");
}

#[test]
fn a_secret_that_anyone_could_guess_is_refused() {
    assert!(DEVELOPMENT_SECRET.len() >= 32);
    assert!(error(&[("JWT_SECRET", &"x".repeat(31))]).contains("at least 32 bytes"));
    assert!(error(&[("JWT_SECRET", &" ".repeat(32))]).contains("at least 32 bytes"));
    assert!(error(&[("JWT_SECRET", DEVELOPMENT_SECRET)]).contains("published development secret"));
}

#[test]
fn a_key_set_comes_by_https_or_from_this_machine() {
    for good in ["https://a.example/k", "http://localhost:1/k", "http://127.0.0.9/k", "http://[::1]:8/k"] {
        assert!(read(&[("JWT_JWKS_URL", good)]).is_ok(), "{good}");
    }
    for wrong in
        ["http://a.example/k", "http://10.0.0.1/k", "ftp://a/k", "/k", "https://u:p@a/k", "http://localhost.evil/k"]
    {
        assert!(error(&[("JWT_JWKS_URL", wrong)]).starts_with("JWT_JWKS_URL can't be used"), "{wrong}");
    }
}

#[test]
fn development_tokens_are_for_loopback() {
    for host in ["127.0.0.1", "127.1.2.3", "::1", "localhost", "::ffff:127.0.0.1"] {
        assert!(matches!(read(&[("HOST", host)]).unwrap().auth.keys, KeySource::Development), "{host}");
    }
    for host in ["0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1"] {
        assert!(
            error(&[("HOST", host)]).starts_with("JWT_SECRET is not set, nor is another key; while HOST is"),
            "{host}"
        );
        assert!(error(&[("HOST", host), ("JWT_DEVELOPMENT_TOKENS", "on")]).contains("is not loopback"), "{host}");
        assert!(read(&[("HOST", host), ("JWT_SECRET", SECRET)]).is_ok(), "{host}");
    }
    assert!(error(&[("JWT_DEVELOPMENT_TOKENS", "off")]).contains("while JWT_DEVELOPMENT_TOKENS is off"));
    assert!(
        error(&[("JWT_DEVELOPMENT_TOKENS", "on"), ("JWT_SECRET", SECRET)]).starts_with("JWT_DEVELOPMENT_TOKENS is on")
    );
}

#[test]
fn a_function_takes_development_tokens_only_in_the_emulator_and_by_a_clear_word() {
    let function = [("AWS_LAMBDA_FUNCTION_NAME", "get-presence"), ("REDIS_URL", "redis://h"), ("NATS_URL", "nats://h")];
    let with = |more: &[(&'static str, &'static str)]| [&function, more].concat();
    assert!(error(&with(&[])).contains("JWT_DEVELOPMENT_TOKENS=on in the local emulator"));
    let on = ("JWT_DEVELOPMENT_TOKENS", "on");
    assert!(matches!(read(&with(&[on])).unwrap().auth.keys, KeySource::Development));
    for lambda in [("LAMBDA_TASK_ROOT", "/var/task"), ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")] {
        assert!(error(&with(&[on, lambda])).contains("on Lambda set one of"), "{lambda:?}");
        assert!(read(&with(&[("JWT_SECRET", SECRET), lambda])).is_ok());
    }
}

#[test]
fn a_function_needs_a_store_and_a_bus_that_outlive_it() {
    let wrong = errors(&[("AWS_LAMBDA_FUNCTION_NAME", "get-presence"), ("JWT_SECRET", SECRET)]);
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert!(wrong[0].starts_with("REDIS_URL is not set") && wrong[1].starts_with("NATS_URL is not set"), "{wrong:?}");
}

#[test]
fn a_function_that_only_reads_needs_a_store_and_no_bus() {
    let variables = HashMap::from([("AWS_LAMBDA_FUNCTION_NAME", "get-presence"), ("JWT_SECRET", SECRET)]);
    let lookup = |name: &str| Ok(variables.get(name).map(|value| value.to_string()));
    let wrong = Config::read(&lookup, Needs { tokens: true, bus: false }).unwrap_err();
    let wrong: Vec<String> = wrong.iter().map(|error| error.variable.to_owned()).collect();
    assert_eq!(wrong, ["REDIS_URL"]);
}

#[test]
fn a_collector_is_a_plain_url_and_its_headers_are_never_shown() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
    let headers = ("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=open%20sesame, tenant=a");
    let config = read(&[endpoint, headers, ("OTEL_TRACES_SAMPLER_ARG", "0.25")]).unwrap();
    assert!(!format!("{config:?}").contains("sesame"));
    let otlp = config.otlp.unwrap();
    assert_eq!(otlp.headers, [("x-api-key".into(), "open sesame".into()), ("tenant".into(), "a".into())]);
    assert!((otlp.ratio - 0.25).abs() < f64::EPSILON);
    assert!(read(&[]).unwrap().otlp.is_none());
    for wrong in ["collector:4318", "ftp://collector", "http://user:password@collector", "http://collector/?key=1"] {
        assert!(error(&[("OTEL_EXPORTER_OTLP_ENDPOINT", wrong)]).starts_with("OTEL_EXPORTER_OTLP_ENDPOINT"), "{wrong}");
    }
    let unreadable = error(&[endpoint, ("OTEL_EXPORTER_OTLP_HEADERS", "sesame")]);
    assert!(unreadable.contains("can't be used") && !unreadable.contains("sesame"), "{unreadable}");
    assert!(error(&[endpoint, ("OTEL_TRACES_SAMPLER_ARG", "2")]).starts_with("OTEL_TRACES_SAMPLER_ARG"));
}

#[test]
fn an_address_explains_by_itself_only_on_loopback() {
    for (address, switch, explains) in [
        ("127.0.0.1:9090", "", true),
        ("[::1]:9090", "", true),
        ("127.0.0.1:9090", "off", false),
        ("0.0.0.0:9090", "", false),
        ("10.0.0.7:9090", "on", true),
    ] {
        let config = read(&[("ADMIN_ADDR", address), ("ADMIN_EXPLAIN", switch)]).unwrap();
        assert_eq!(config.admin_explain, explains, "{address} {switch}");
    }
    assert!(error(&[("ADMIN_EXPLAIN", "on")]).contains("without ADMIN_ADDR"));
}

#[test]
fn a_process_that_takes_no_tokens_needs_no_key() {
    let without = |variables: &[(&str, &str)]| {
        let variables: HashMap<&str, &str> = variables.iter().copied().collect();
        Config::read(&|name| Ok(variables.get(name).map(|value| value.to_string())), Needs { tokens: false, bus: true })
    };
    assert!(matches!(without(&[("HOST", "0.0.0.0")]).unwrap().auth.keys, KeySource::Nowhere));
    assert!(matches!(without(&[("JWT_SECRET", SECRET)]).unwrap().auth.keys, KeySource::Key(_)));
    assert!(without(&[("JWT_SECRET", "short")]).is_err());
}

#[test]
fn a_value_that_is_no_text_is_not_taken_for_an_unset_one() {
    let lookup = |name: &str| if name == "JWT_SECRET" { Err(NotUnicode) } else { Ok(None) };
    let errors = Config::read(&lookup, Needs { tokens: true, bus: true }).unwrap_err();
    assert!(errors.iter().any(|error| error.to_string() == "JWT_SECRET is not Unicode text"), "{errors}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_variables_are_a_configuration_or_are_told_by_name_and_without_secrets(bytes in hostile("variables")) {
        let text = String::from_utf8_lossy(&bytes);
        let variables: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let is_secret = |name: &str| VARIABLES.iter().any(|variable| variable.name == name && variable.secret);
        // What was taken for the value of an open variable is quoted.
        let shows = variables.iter().any(|(name, value)| !is_secret(name) && value.contains("hidden"));
        let said = match read(&variables) {
            Ok(config) => format!("{config:?} {}", config.describe()),
            Err(errors) => {
                prop_assert!(errors.iter().all(|error| VARIABLES.iter().any(|known| known.name == error.variable)));
                errors.to_string()
            }
        };
        prop_assert!(shows || !said.contains("hidden"), "{}", said);
    }
}

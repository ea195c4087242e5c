//! Who may import whom, and where texts stand. Crate edges are deny.toml's, calls are clippy.toml's; what neither can
//! say of modules is said here, by reading the sources.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod source;

use std::fs;

use source::{Source, root};

/// Fails with every place where a file names something that it must not know, and why it must not.
fn assert_ignorance(folder: &str, unknown: &[&str], reason: &str) {
    let mut breaches = Vec::new();
    for source in Source::below(folder) {
        for name in unknown.iter().filter(|name| source.names(name)) {
            breaches.push(format!("{} names {name}", source.path));
        }
    }
    assert!(breaches.is_empty(), "{reason}:\n  {}", breaches.join("\n  "));
}

/// The dependencies of a crate as its code names them.
fn dependencies(krate: &str) -> Vec<String> {
    let manifest = fs::read_to_string(root().join(krate).join("Cargo.toml")).unwrap();
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
    section.lines().filter_map(|line| line.split(['.', ' ', '=']).next()).map(|name| name.replace('-', "_")).collect()
}

#[test]
fn the_domain_reads_no_clock_no_environment_and_no_network() {
    let reason = "the domain is pure: time and ids are arguments, and what it decides others carry out";
    assert_ignorance(
        "shared/src/domain",
        &["std::env", "std::net", "std::fs", "std::thread", "std::process", "SystemTime", "Instant", "Utc::now"],
        reason,
    );
    let allowed = ["chrono", "serde", "serde_json", "thiserror", "uuid"];
    let unknown: Vec<String> =
        dependencies("shared").into_iter().filter(|name| !allowed.contains(&name.as_str())).collect();
    assert!(unknown.len() > 5, "the dependencies of the shared crate were not found");
    assert_ignorance("shared/src/domain", &unknown.iter().map(String::as_str).collect::<Vec<_>>(), reason);
}

#[test]
fn the_domain_knows_nobody() {
    assert_ignorance(
        "shared/src/domain",
        &["crate::auth", "crate::clock", "crate::config", "crate::events", "crate::service", "crate::store"],
        "everyone imports the domain, and it imports no one",
    );
}

#[test]
fn the_store_and_the_events_know_the_domain_and_never_each_other() {
    let reason = "only service.rs knows both the store and the events; each can be replaced without the other";
    assert_ignorance("shared/src/store", &["crate::events", "crate::service", "crate::auth", "async_nats"], reason);
    assert_ignorance("shared/src/events", &["crate::store", "crate::service", "crate::auth", "redis"], reason);
}

#[test]
fn only_the_store_speaks_redis_and_only_the_events_speak_nats() {
    // The configuration lets the clients' own parsers judge their URLs, and connect.rs tells what they say of them.
    let besides = ["shared/src/config/", "shared/src/connect.rs"];
    for (name, home, instead) in [
        ("redis", "shared/src/store/", "the trait PresenceStore"),
        ("async_nats", "shared/src/events/", "the traits EventPublisher and DeadLetters"),
    ] {
        for source in Source::below("shared/src") {
            let may = source.path.starts_with(home) || besides.iter().any(|place| source.path.starts_with(place));
            assert!(may || !source.names(name), "{} names {name}: go through {instead}", source.path);
        }
    }
}

#[test]
fn the_embedded_store_and_bus_need_no_server() {
    for source in Source::below("shared/src").iter().filter(|source| source.path.contains("memory")) {
        let servers = ["redis", "async_nats"].map(|name| source.names(name));
        assert_eq!(servers, [false; 2], "{} is the embedded default and speaks to no server", source.path);
    }
}

#[test]
fn the_shared_crate_knows_no_host() {
    let hosts = ["axum", "http", "hyper", "lambda_http", "lambda_runtime", "presence_functions", "presence_service"];
    assert_ignorance("shared/src", &hosts, "the rules, the store and the events do not learn who asked");
}

#[test]
fn the_bridge_knows_functions_only_by_their_batches() {
    let reason = "a function is behind the trait Target, in this process as on the other side of a wire";
    assert_ignorance(
        "bridge/src",
        &["presence_functions", "presence_service", "lambda_runtime", "lambda_http"],
        reason,
    );
}

#[test]
fn handlers_never_import_handlers() {
    for (folder, entry) in
        [("functions/src/http", "pub fn routes("), ("functions/src/event", "pub const SUBSCRIPTION:")]
    {
        // A handler has an entry that hosts take; the rest of the folder is what handlers share.
        let mut handlers = Source::below(folder);
        handlers.retain(|source| source.code.contains(entry));
        assert!(handlers.len() > 1, "{folder} has no handlers: this rule looks in the wrong place");
        for (source, other) in handlers.iter().flat_map(|one| handlers.iter().map(move |other| (one, other))) {
            let name = other.path.rsplit('/').next().unwrap().trim_end_matches(".rs");
            // Its path is public text, not its logic.
            let used = |(at, head): (usize, &str)| !source.code[at + head.len()..].starts_with("PATH");
            let uses = source.code.match_indices(&format!("{name}::")).any(used);
            assert!(
                source.path == other.path || !uses,
                "{} uses the handler {name}: put what both need beside them",
                source.path
            );
        }
    }
}

#[test]
fn a_main_has_no_logic() {
    const LINES: usize = 25;
    for source in Source::below("functions/src/bin") {
        let lines = source.code.lines().filter(|line| !line.trim().is_empty()).count();
        assert!(lines <= LINES, "{} has {lines} lines of code: a main is configuration, App, run", source.path);
        assert!(
            !["if ", "match ", "for ", "while "].iter().any(|word| source.code.contains(word)),
            "{} decides something: that belongs in the library, where it has tests",
            source.path
        );
    }
}

#[test]
fn nothing_imports_the_tests() {
    for folder in ["bridge", "shared", "functions", "gateway", "service"] {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        let normal = manifest.split("[dev-dependencies]").next().unwrap();
        assert!(!normal.contains("presence-tests"), "{folder}/Cargo.toml depends on the tests");
    }
}

/// Texts that other programs depend on: each stands in one file, where a test pins it, and all code gets it from there.
#[test]
fn a_text_that_others_depend_on_stands_in_one_place() {
    let texts = [
        // Keys.
        "presence:user:",
        "typing:",
        // Subjects.
        "presence.status.changed",
        "presence.activity.updated",
        "presence.typing.started",
        "gateway.connection.opened",
        "gateway.connection.closed",
        "gateway.heartbeat.received",
        "voice.session.created",
        "voice.session.ended",
        "presence.dlq",
        // Frames.
        "PRESENCE_UPDATE",
        "TYPING_START",
        // Streams.
        "PRESENCE_EVENTS",
        "PRESENCE_DLQ",
        // Problems.
        "urn:presence:problem:",
    ];
    let sources = production();
    let mut wrong = Vec::new();
    for text in texts {
        // What ends in a separator is the head of a text.
        let is_it = |literal: &String| literal == text || (text.ends_with([':', '.']) && literal.starts_with(text));
        let places: Vec<&str> =
            sources.iter().filter(|source| source.texts.iter().any(is_it)).map(|source| source.path.as_str()).collect();
        if places.len() != 1 {
            wrong.push(format!("{text:?} stands in {places:?}"));
        }
    }
    assert!(wrong.is_empty(), "each of these must stand in exactly one file:\n  {}", wrong.join("\n  "));
}

/// All code that runs in production.
fn production() -> Vec<Source> {
    ["shared/src", "functions/src", "gateway/src", "service/src", "bridge/src"]
        .into_iter()
        .flat_map(Source::below)
        .collect()
}

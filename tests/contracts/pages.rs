//! The pages of the documentation that list what is in the code, or what the running service does.

use std::collections::BTreeSet;

use presence::config::{VARIABLES, Variable};
use presence_functions::http::problem::Kind;
use presence_golden::Host;
use presence_tests::{Connection, DEVELOPMENT_SECRET, JetStream, Nats, Service, Store};

use crate::document::text;

#[test]
fn the_configuration_lists_every_variable_with_its_default_and_its_meaning() {
    let page = text("docs/CONFIGURATION.md");
    let (shared, own) = page.split_once("\n## The bridge's own\n").unwrap();
    for (table, variables) in [(shared, &VARIABLES[..]), (own, &presence_bridge::program::VARIABLES[..])] {
        let listed: Vec<&str> = table.lines().filter(|line| line.starts_with("| `")).collect();
        let expected: Vec<String> = variables.iter().map(row).collect();
        assert_eq!(listed, expected, "the table is to read:\n{}", expected.join("\n"));
    }
}

fn row(variable: &Variable) -> String {
    let default = if variable.default.is_empty() { String::new() } else { format!("`{}`", variable.default) };
    format!("| `{}` | {default} | {} |", variable.name, variable.meaning)
}

#[test]
fn the_errors_are_those_of_the_code() {
    let page = text("docs/ERRORS.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `urn:")).collect();
    assert_eq!(rows.len(), Kind::ALL.len());
    let sections: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let mut kinds = Vec::new();
    for (kind, row) in Kind::ALL.into_iter().zip(rows) {
        let (uri, status, title) = kind.describe();
        assert!(row.starts_with(&format!("| `{uri}` | {} | {title} |", status.as_u16())), "{row}");
        let again = row.contains("Retry-After");
        assert_eq!(again, matches!(status.as_u16(), 429 | 503), "{row}");
        kinds.push(uri.rsplit(':').next().unwrap());
    }
    assert_eq!(sections, kinds);
}

/// The keys that the page explains, as patterns, and the fields of the hashes among them.
struct RedisPage {
    text: String,
}

impl RedisPage {
    fn read() -> Self {
        Self { text: text("docs/REDIS.md") }
    }

    fn keys(&self) -> BTreeSet<&str> {
        self.text.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect()
    }

    /// Every field that a table below a heading lists, whether of the documented fields or of ours.
    fn fields(&self, key: &str) -> BTreeSet<&str> {
        let title = format!("`{key}`");
        let sections = self.text.split("\n### ").filter(|section| section.lines().next().unwrap().ends_with(&title));
        let rows = sections.flat_map(|section| section.split("\n## ").next().unwrap().lines());
        rows.filter_map(|row| row.strip_prefix("| `")?.split('`').next()).collect()
    }
}

/// The keys and fields in the one place of the code where they stand.
struct RedisCode {
    keys: BTreeSet<String>,
    fields: BTreeSet<String>,
    profile_fields: BTreeSet<String>,
}

impl RedisCode {
    fn read() -> Self {
        let code = text("shared/src/store/redis/keys.rs");
        let code = code.split("#[cfg(test)]").next().unwrap();
        let formats = code.lines().filter_map(|line| line.split_once("format!(\"")?.1.split_once("\")"));
        let mut keys: BTreeSet<String> = formats.map(|(format, _)| key_pattern(format)).collect();
        assert!(keys.remove("<SESSION><id>"), "the field of a session is made like a key");
        let (mut fields, mut profile_fields) = (BTreeSet::new(), BTreeSet::new());
        for line in code.lines().filter_map(|line| line.strip_prefix("pub(super) const ")) {
            let (name, value) = line.split_once(": &str = \"").unwrap();
            let value = value.trim_end_matches("\";").to_owned();
            match name {
                "SESSION" => fields.insert(format!("{value}<session>")),
                name if name.starts_with("PROFILE_") => profile_fields.insert(value),
                _ if value.starts_with("presence:") => keys.insert(value),
                _ => fields.insert(value),
            };
        }
        Self { keys, fields, profile_fields }
    }
}

/// A format string as the page writes the key: `{{a:{user}}}:b` as `{a:<user>}:b`.
fn key_pattern(format: &str) -> String {
    let marked = format.replace("{{", "\u{1}").replace("}}}", ">\u{2}").replace("}}", "\u{2}");
    marked.replace('{', "<").replace('}', ">").replace('\u{1}', "{").replace('\u{2}', "}")
}

#[test]
fn the_keys_and_fields_of_redis_are_those_of_the_code() {
    let (page, code) = (RedisPage::read(), RedisCode::read());
    let owned = |set: BTreeSet<&str>| set.into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(owned(page.keys()), code.keys);
    assert_eq!(owned(page.fields("presence:user:<user>")), code.fields);
    assert_eq!(owned(page.fields("{presence:user:<user>}:profile")), code.profile_fields);
}

/// Whether a text is what a pattern with one `<name>` stands for.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((before, rest)) = pattern.split_once('<') else { return pattern == text };
    let after = rest.split_once('>').unwrap().1;
    let value = text.strip_prefix(before).and_then(|text| text.strip_suffix(after));
    value.is_some_and(|value| !value.is_empty() && !value.contains([':', '{', '}']))
}

async fn hash_fields(key: &str, redis: &mut Connection) -> Vec<String> {
    let kind: String = redis::cmd("TYPE").arg(key).query_async(redis).await.unwrap();
    if kind == "hash" { redis::cmd("HKEYS").arg(key).query_async(redis).await.unwrap() } else { Vec::new() }
}

#[tokio::test]
async fn everything_that_the_service_writes_is_explained() {
    let (store, nats) = (Store::start().await, Nats::start(JetStream::On).await);
    let service = Service::start(&store, &nats).await;
    for case in presence_golden::cases().unwrap().iter().filter(|case| case.runs_on(Host::Service)) {
        case.run(DEVELOPMENT_SECRET, async |request| service.exchange(request).await).await.unwrap();
    }
    let page = RedisPage::read();
    let mut redis = store.connect().await;
    let written: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await.unwrap();
    let mut seen = BTreeSet::new();
    for key in written {
        let explained = page.keys().into_iter().find(|pattern| fits(pattern, &key));
        let explained = explained.unwrap_or_else(|| panic!("{key} is not explained"));
        let fields = page.fields(explained);
        for field in hash_fields(&key, &mut redis).await {
            assert!(fields.iter().any(|pattern| fits(pattern, &field)), "{field} of {key} is not explained");
        }
        seen.insert(explained.to_owned());
    }
    assert!(seen.len() > 5, "hardly anything was written: {seen:?}");
}

//! A Rust source file as the rules look at it: code without comments and texts, and the texts by themselves.

use std::fs;
use std::path::Path;

/// One file of production code: a test module, which by convention stands last or in a file of its own, is left out.
pub(crate) struct Source {
    /// The path from the root of the workspace, with `/`.
    pub(crate) path: String,
    /// The code; comments are gone and every text is `""`.
    pub(crate) code: String,
    /// The texts, as they are written.
    pub(crate) texts: Vec<String>,
}

impl Source {
    /// All files below a folder of the workspace, which must be there.
    pub(crate) fn below(folder: &str) -> Vec<Source> {
        let mut sources = Vec::new();
        let root = root();
        collect(&root, &root.join(folder), &mut sources);
        assert!(!sources.is_empty(), "{folder} has no sources: this rule looks in the wrong place");
        sources
    }

    /// Whether the code names it: a path such as `crate::store`, a type such as `Instant`, or, written plainly as
    /// `redis`, a crate.
    pub(crate) fn names(&self, name: &str) -> bool {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let is_crate = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        self.code.match_indices(name).any(|(start, _)| {
            let (before, after) = (&self.code[..start], &self.code[start + name.len()..]);
            let inside = before.ends_with("::") || before.bytes().next_back().is_some_and(is_word);
            let whole = !after.bytes().next().is_some_and(is_word);
            let as_crate = after.starts_with("::") || (before.ends_with("use ") && after.starts_with(';'));
            // The end of a path is named wherever the path begins.
            let free = !inside || (!is_crate && before.ends_with("::"));
            free && whole && (!is_crate || as_crate)
        })
    }
}

/// The root of the workspace.
pub(crate) fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn collect(root: &Path, path: &Path, sources: &mut Vec<Source>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            collect(root, &entry.unwrap().path(), sources);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") && !is_for_tests(path) {
        let whole = fs::read_to_string(path).unwrap();
        let production = whole.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let (code, texts) = split(production);
        let code = write_imports_out(&code);
        let path = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
        sources.push(Source { path, code, texts });
    }
}

fn is_for_tests(path: &Path) -> bool {
    ["tests.rs", "testing.rs"].iter().any(|name| path.ends_with(name))
}

/// Writes imports out, one whole path each: `use a::{b, c::d};` becomes `use a::b; use a::c::d;`.
fn write_imports_out(code: &str) -> String {
    let mut written = String::new();
    for (index, part) in code.split("use ").enumerate() {
        let is_import = index > 0 && !written.ends_with(|last: char| last.is_alphanumeric() || last == '_');
        match part.split_once(';') {
            Some((tree, rest)) if is_import => {
                let mut paths = Vec::new();
                expand("", &tree.split_whitespace().collect::<String>(), &mut paths);
                written.extend(paths.iter().map(|path| format!("use {path}; ")));
                written.push_str(rest);
            }
            _ => written.push_str(&format!("{}{part}", if index > 0 { "use " } else { "" })),
        }
    }
    written
}

fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let Some((head, group)) = tree.split_once('{') else {
        paths.push(format!("{prefix}{tree}"));
        return;
    };
    let inside = group.rsplit_once('}').map_or(group, |(inside, _)| inside);
    let (mut depth, mut start) = (0, 0);
    for (at, character) in inside.char_indices().chain([(inside.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&format!("{prefix}{head}"), &inside[start..at], paths);
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// Separates code from texts and drops comments. Knows line and nested block comments, texts plain and raw, and
/// characters as opposed to lifetimes.
fn split(source: &str) -> (String, Vec<String>) {
    let (mut code, mut texts, mut rest) = (String::new(), Vec::new(), source);
    while let Some(next) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some((whole, text)) = text(rest) {
            code.push_str("\"\"");
            texts.push(text.to_owned());
            whole
        } else if let Some(length) = character(rest) {
            length
        } else {
            code.push(next);
            next.len_utf8()
        };
        rest = &rest[length..];
    }
    (code, texts)
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The length of the text at the head of `rest`, and what it says.
fn text(rest: &str) -> Option<(usize, &str)> {
    if let Some(raw) = rest.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let inside = raw[hashes..].strip_prefix('"')?;
        let end = inside.find(&format!("\"{}", "#".repeat(hashes)))?;
        return Some((1 + hashes + 1 + end + 1 + hashes, &inside[..end]));
    }
    let inside = rest.strip_prefix('"')?;
    let mut escaped = false;
    let end = inside.find(|character| {
        let ends = character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
        ends
    })?;
    Some((end + 2, &inside[..end]))
}

/// The length of the character literal at the head of `rest`; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let inside = rest.strip_prefix('\'')?;
    if let Some(escape) = inside.strip_prefix('\\') {
        let first = escape.chars().next()?.len_utf8();
        return escape[first..].find('\'').map(|end| 2 + first + end + 1);
    }
    let first = inside.chars().next()?.len_utf8();
    inside[first..].starts_with('\'').then_some(first + 2)
}

#[test]
fn comments_are_dropped_and_texts_are_told_from_code() {
    let source = "let a = \"x // \\\" y\"; // \"no\"\n/* /* \"no\" */ */ b('\"', '\\'', r#\"z\"q\"#, &'static str)";
    let (code, texts) = split(source);
    assert_eq!(code, "let a = \"\"; \n b(, , \"\", &'static str)");
    assert_eq!(texts, ["x // \\\" y", "z\"q"]);
}

#[test]
fn a_name_is_a_whole_word_and_a_grouped_import_is_a_whole_path() {
    let code = "use crate::{auth, store::{Store, redis}};\npub use async_nats;\nmy_redis::x(); let bytes = pause (a.bytes()); \
        std::time::Instant::now()";
    let source = Source { path: String::new(), code: write_imports_out(code), texts: Vec::new() };
    for name in ["crate::auth", "crate::store", "crate::store::redis", "async_nats", "Instant", "std::time::Instant"] {
        assert!(source.names(name), "{name}");
    }
    for name in ["redis", "nats", "bytes", "Inst", "store", "crate::events"] {
        assert!(!source.names(name), "{name}");
    }
}

//! Where the binaries are that tests start. A missing one fails the test with how to get it; nothing is skipped.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// A server or tool that `scripts/test` finds and names in a variable.
pub fn tool(name: &str) -> PathBuf {
    match variable(name).filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => panic!("{name} is not set: run scripts/test, or eval \"$(scripts/setup --env)\" first"),
    }
}

/// A variable of the environment that the test was started in.
#[expect(clippy::disallowed_methods, reason = "a test is configured by whoever runs it")]
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// A binary of this workspace, as it was built last. One that is older than its sources would test yesterday's code,
/// so it fails the test.
pub(crate) fn ours(name: &str) -> PathBuf {
    let path = profile_dir().join(name);
    let Ok(built) = fs::metadata(&path).and_then(|meta| meta.modified()) else {
        panic!("{name} is not built: run scripts/test, or cargo build --workspace first");
    };
    for source in sources(&path) {
        assert!(
            source.starts_with(workspace()),
            "{name} was built from {}, which is not this workspace",
            source.display()
        );
        let changed = fs::metadata(&source).and_then(|meta| meta.modified());
        if changed.is_ok_and(|changed| changed > built) {
            panic!("{name} is older than {}: run scripts/test, or cargo build --workspace first", source.display());
        }
    }
    path
}

/// The folder of the profile that this test was built with: `target/<profile>/deps/<test>` is two below it.
pub(crate) fn profile_dir() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().to_owned()
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// What cargo says the binary was built from: the file `<binary>.d` beside it, one rule in make's syntax.
fn sources(binary: &Path) -> Vec<PathBuf> {
    let rule = fs::read_to_string(binary.with_extension("d")).unwrap_or_default();
    let Some((_, sources)) = rule.split_once(": ") else { return Vec::new() };
    let escaped_space = "\u{0}";
    let words = sources.replace("\\ ", escaped_space);
    words.split_whitespace().map(|word| PathBuf::from(word.replace(escaped_space, " "))).collect()
}

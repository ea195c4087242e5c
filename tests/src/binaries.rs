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

/// What whoever runs a test sets by hand: `PRESENCE_TEST_<name>`, such as the seed that a failed run printed, or a larger
/// number than the suite has time for.
pub fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    let name = format!("PRESENCE_TEST_{name}");
    let Some(value) = variable(&name) else { return default };
    value.to_str().and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} can't be read"))
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

/// The folder of the profile that this program was built with: `target/<profile>/deps/<test>` is two below it, and
/// `target/<profile>/presence-soak` one.
pub(crate) fn profile_dir() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let dir = program.parent().unwrap();
    if dir.ends_with("deps") { dir.parent().unwrap().to_owned() } else { dir.to_owned() }
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

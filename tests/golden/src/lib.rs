//! The golden HTTP suite: what a client may rely on, as data that every host replays. The format is described in the
//! README beside the cases.

mod case;
mod fill;
mod pattern;
mod token;

use std::fs;
use std::path::Path;

pub use case::{Case, Failure, Host};

use case::File;

/// A suite that can't be read: a mistake in a case, which must not pass for an empty suite.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct Unreadable {
    file: String,
    reason: String,
}

/// All cases, in the order of their files.
pub fn cases() -> Result<Vec<Case>, Unreadable> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let unreadable = |file: &Path, reason: &dyn std::fmt::Display| Unreadable {
        file: file.display().to_string(),
        reason: reason.to_string(),
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).map_err(|error| unreadable(&folder, &error))? {
        files.push(entry.map_err(|error| unreadable(&folder, &error))?.path());
    }
    files.sort();
    let mut cases: Vec<Case> = Vec::new();
    for path in &files {
        let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
        let file: File = serde_json::from_str(&text).map_err(|error| unreadable(path, &error))?;
        for case in file.cases {
            case.check().map_err(|reason| unreadable(path, &reason))?;
            if cases.iter().any(|other| other.name() == case.name()) {
                return Err(unreadable(path, &format!("two cases are named {:?}", case.name())));
            }
            cases.push(case);
        }
    }
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suite_can_be_read_and_every_host_has_cases() {
        let cases = cases().unwrap();
        for host in [Host::Functions, Host::Service, Host::Emulator] {
            assert!(cases.iter().filter(|case| case.runs_on(host)).count() > 50, "{host:?}");
        }
    }
}

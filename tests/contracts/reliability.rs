//! The page of the promises: whatever it says is tested is.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::document::{root, text};

/// The names of all functions below a folder, without what was built.
fn functions(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            functions(&path, names);
        } else if name.ends_with(".rs") {
            let source = fs::read_to_string(&path).unwrap();
            let after_fn = source.split("fn ").skip(1);
            names.extend(after_fn.filter_map(|rest| Some(rest.split_once('(')?.0.to_owned())));
        }
    }
}

#[test]
fn every_test_that_a_promise_names_exists() {
    let page = text("docs/RELIABILITY.md");
    let mut names = BTreeSet::new();
    functions(&root(), &mut names);
    // A test's name is a sentence; what has fewer words is something else, and a variable is in capitals.
    let is_name = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    let is_sentence = |word: &&str| word.matches('_').count() >= 3 && word.chars().all(is_name);
    let named: BTreeSet<&str> = page.split('`').skip(1).step_by(2).filter(is_sentence).collect();
    let missing: Vec<&str> = named.iter().copied().filter(|name| !names.contains(*name)).collect();
    assert_eq!(missing, [""; 0], "no such test");
    for promise in 1..=11 {
        let title = format!("\n## {promise}. ");
        let section = page.split_once(&title).unwrap_or_else(|| panic!("promise {promise} has no section")).1;
        let section = section.split("\n## ").next().unwrap();
        assert!(named.iter().any(|name| section.contains(name)), "promise {promise} names no test");
    }
}

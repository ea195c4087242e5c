//! What strangers may send: for each parser a folder of seeds, and whatever comes of them when a few bytes change. What
//! once broke a parser becomes a seed. `PROPTEST_CASES` says how many are tried; the default takes seconds.
#![allow(clippy::expect_used, reason = "it serves tests, which fail where the corpus is missing")]

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// The seeds of a parser, each a file, in the order of their names.
pub fn seeds(parser: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(parser);
    let files = fs::read_dir(&folder).expect("a folder of seeds");
    let mut files: Vec<_> = files.map(|file| file.expect("a seed").path()).collect();
    files.sort();
    files.into_iter().map(|file| fs::read(file).expect("a seed")).collect()
}

/// Seeds as they are, seeds with some changes, and bytes that have nothing to do with them.
pub fn hostile(parser: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let seed = select(seeds(parser));
    // Most of what is changed much is refused for the first of the changes.
    let changes = prop_oneof![3 => vec(change(), 1..3), 1 => vec(change(), 3..10)];
    prop_oneof![
        1 => seed.clone(),
        12 => (seed, changes).prop_map(|(seed, changes)| changes.iter().fold(seed, changed)),
        1 => vec(any::<u8>(), 0..200),
        1 => "\\PC{0,100}".prop_map(String::into_bytes),
    ]
}

/// What has broken many a parser.
const WORDS: [&[u8]; 24] = [
    b"",
    b" ",
    b"null",
    b"true",
    b"0",
    b"-1",
    b"-0",
    b"1e999",
    b"0.1",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"18446744073709551616",
    b"253402300799999",
    b"{",
    b"[[[[[[[[",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"\xc3",
    "\u{202e}\u{1f469}\u{200d}\u{1f680}".as_bytes(),
    b",",
    b"\n",
    b"..",
];

/// One change at some place.
#[derive(Debug, Clone)]
enum Change {
    Sets(Index, u8),
    Cuts(Index, usize),
    Puts(Index, &'static [u8]),
    /// A number, or any other run of letters and digits, is replaced.
    Replaces(Index, &'static [u8]),
    Repeats(Index, usize, usize),
    Ends(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let place = any::<Index>;
    prop_oneof![
        3 => (place(), any::<u8>()).prop_map(|(place, byte)| Change::Sets(place, byte)),
        2 => (place(), 1..20_usize).prop_map(|(place, length)| Change::Cuts(place, length)),
        3 => (place(), select(WORDS.to_vec())).prop_map(|(place, word)| Change::Puts(place, word)),
        4 => (place(), select(WORDS.to_vec())).prop_map(|(place, word)| Change::Replaces(place, word)),
        1 => (place(), 1..30_usize, 2..80_usize).prop_map(|(place, length, times)| Change::Repeats(place, length, times)),
        1 => place().prop_map(Change::Ends),
    ]
}

fn changed(mut bytes: Vec<u8>, change: &Change) -> Vec<u8> {
    let at = |place: &Index| place.index(bytes.len() + 1);
    let to = |from: usize, length: usize| (from + length).min(bytes.len());
    match change {
        Change::Sets(place, byte) => {
            let at = at(place);
            bytes.get_mut(at).into_iter().for_each(|old| *old = *byte);
        }
        Change::Cuts(place, length) => {
            let from = at(place);
            bytes.drain(from..to(from, *length));
        }
        Change::Puts(place, word) => {
            let at = at(place);
            bytes.splice(at..at, word.iter().copied());
        }
        Change::Replaces(place, word) => {
            let at = at(place);
            let is_inside = |byte: &u8| byte.is_ascii_alphanumeric();
            let from = bytes[..at].iter().rposition(|byte| !is_inside(byte)).map_or(0, |before| before + 1);
            let to = bytes[at..].iter().position(|byte| !is_inside(byte)).map_or(bytes.len(), |after| at + after);
            bytes.splice(from..to, word.iter().copied());
        }
        Change::Repeats(place, length, times) => {
            let from = at(place);
            let part = bytes[from..to(from, *length)].repeat(*times);
            bytes.splice(from..from, part);
        }
        Change::Ends(place) => bytes.truncate(at(place)),
    }
    bytes
}

//! A wall clock that is wrong, for one process alone.

use crate::binaries::tool;

/// The variables by which a process sees a wall clock that is off by so many seconds. Time goes by for it as for everyone:
/// its monotonic clock stays as it is.
pub fn clock_off_by(seconds: i64) -> [(&'static str, String); 3] {
    [
        ("LD_PRELOAD", tool("FAKETIME_LIB").to_str().unwrap().to_owned()),
        ("FAKETIME", format!("{seconds:+}")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
}

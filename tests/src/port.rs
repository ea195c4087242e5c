//! Free ports, and who listens on one.

use std::net::{Ipv4Addr, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A loopback port that nobody listens on. It lies below those that the system gives to outgoing connections, and no
/// two calls in one process give the same, so it stays free for a server that is stopped and started again.
pub fn free_port() -> u16 {
    let start = u16::try_from(process::id() % u32::from(COUNT)).unwrap_or_default().wrapping_mul(7) % COUNT;
    for _ in 0..COUNT {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// Whether the process itself listens on the port: ports meet strangers, and a stranger's answer proves nothing.
#[cfg(target_os = "linux")]
pub(crate) fn is_held_by(port: u16, pid: u32) -> bool {
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let sockets = listening_sockets(port);
    descriptors
        .flatten()
        .filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok())
        .any(|target| sockets.iter().any(|inode| target.to_string_lossy() == format!("socket:[{inode}]")))
}

/// The inodes of the sockets that listen on the port. The columns of the table: number, local address, remote address,
/// state, four more, and the inode in the tenth place.
#[cfg(target_os = "linux")]
fn listening_sockets(port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let suffix = format!(":{port:04X}");
    table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|columns| columns.len() > 9 && columns[1].ends_with(&suffix) && columns[3] == LISTEN)
        .map(|columns| columns[9].to_owned())
        .collect()
}

/// Elsewhere there is no such table; that the process is alive and the port answers has to do.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_held_by(port: u16, _pid: u32) -> bool {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err()
}

//! Ports for daemons: each has one that no other test has, of this process or of another one, for as long as it lives.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the ports that systems take for outgoing connections: a daemon that is killed finds its own free when it comes
/// back.
const FIRST: u32 = 11_000;
const PORTS: u32 = 20_000;

/// A port of this machine, reserved among all tests of this user until it is dropped, also while nobody listens there.
#[derive(Debug)]
pub struct Port {
    pub number: u16,
    /// Locked until it is closed, which the system does for a process that dies.
    _lock: File,
}

impl Port {
    /// One that nobody uses.
    ///
    /// # Panics
    /// There is none, or the system's folder for temporary files can't be written.
    pub fn reserve() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Tests of other processes begin elsewhere, so they seldom try the same ones.
        let begin = std::process::id().wrapping_mul(61) % PORTS;
        let turns = (0..PORTS).map(|_| (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS);
        let free = turns.filter_map(|turn| Self::try_reserve(FIRST + turn)).next();
        free.unwrap_or_else(|| panic!("no free port from {FIRST} on"))
    }

    /// This one, unless another test has it or anybody listens there.
    fn try_reserve(number: u32) -> Option<Self> {
        let number = u16::try_from(number).expect("the range ends below 65,536");
        let path = folder().join(number.to_string());
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.unwrap_or_else(|why| panic!("{} can't be opened: {why}", path.display()));
        lock.try_lock().ok()?;
        TcpListener::bind(("127.0.0.1", number)).ok()?;
        Some(Self { number, _lock: lock })
    }
}

/// Where the locks are: the same folder for all processes of a user. Files stay: one that is deleted could be locked twice.
fn folder() -> PathBuf {
    let user = nix::unistd::Uid::current();
    let folder = std::env::temp_dir().join(format!("sheaf-test-ports-{user}"));
    std::fs::create_dir_all(&folder)
        .unwrap_or_else(|why| panic!("{} can't be made: {why}", folder.display()));
    folder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_a_test_has_is_given_to_no_other_though_nobody_listens_there() {
        let port = Port::reserve();
        let number = port.number;
        assert!(TcpListener::bind(("127.0.0.1", number)).is_ok(), "nobody listens there");
        // A lock is of the opened file, so a second one in this process stands for one of another process.
        assert!(Port::try_reserve(u32::from(number)).is_none());
        drop(port);
        assert!(Port::try_reserve(u32::from(number)).is_some());
    }

    #[test]
    fn a_port_where_somebody_listens_is_not_given() {
        let port = Port::reserve();
        let number = port.number;
        drop(port);
        let _listening = TcpListener::bind(("127.0.0.1", number)).expect("it was free");
        assert!(Port::try_reserve(u32::from(number)).is_none());
    }
}

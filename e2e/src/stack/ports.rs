//! Loopback ports that nobody else takes while a stack lives, also while a part of it is down.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, bail};
use rand::Rng;

/// Below the range from which the kernel takes ports of outgoing connections: a
/// client that retries a stopped server could else be given the server's own port.
const FIRST: u16 = 20_000;
const LAST: u16 = 31_999;
const ATTEMPTS: usize = 1_000;

/// A port reserved among all stacks of the machine until this value is dropped.
#[derive(Debug)]
pub(super) struct Port {
    number: u16,
    /// Holds the lock that is the reservation.
    _lock: File,
}

impl Port {
    /// Reserves a port that no stack has reserved and no other program listens on.
    pub(super) fn reserve() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join("tidemark-ports");
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let mut random = rand::rng();
        for _ in 0..ATTEMPTS {
            let number = random.random_range(FIRST..=LAST);
            let lock = File::create(folder.join(number.to_string())).context("making a port's lock file")?;
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        bail!("no free port between {FIRST} and {LAST} after {ATTEMPTS} attempts: stop old stacks")
    }

    /// Returns the port's number.
    pub(super) fn number(&self) -> u16 {
        self.number
    }
}

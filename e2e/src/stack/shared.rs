//! One stack for all tests of a test binary.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::OnceCell;

use super::{Part, Stack};

static STACK: OnceCell<Stack> = OnceCell::const_new();
static NAMES: AtomicU32 = AtomicU32::new(0);

/// Returns the stack that the tests of this binary share, with every part, started by the first who asks.
///
/// It lives until the test binary ends, when the janitor stops it. A test takes
/// names of its own (see [`unique_name`]) and, if it kills a part, a [`Stack`] of its own.
pub async fn shared() -> anyhow::Result<&'static Stack> {
    STACK.get_or_try_init(|| Stack::start(Part::ALL)).await
}

/// Returns a name that no other test of this binary has: `prefix`, an underscore and a number.
///
/// Fit for databases, topic prefixes, connectors and slots when `prefix` is.
pub fn unique_name(prefix: &str) -> String {
    format!("{prefix}_{}", NAMES.fetch_add(1, Ordering::Relaxed))
}

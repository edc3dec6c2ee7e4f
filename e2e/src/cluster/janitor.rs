//! Deletes a cluster, however its owner went.
//!
//! The janitor is a shell that waits for the end of its standard input, whose other end only the owner holds: a
//! normal drop, a panic, Ctrl-C and `kill -9` all close it. It then runs `e2e/kind/cluster down`, which waits for
//! a start that is still under way.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::Context;

use crate::stack::cache;

/// `$1` is the script that deletes clusters, `$2` the cluster.
const SCRIPT: &str = r#"
trap '' HUP
cat >/dev/null
exec "$1" down "$2" </dev/null
"#;

/// The waiting shell of one cluster.
#[derive(Debug)]
pub(super) struct Janitor {
    shell: Child,
    lifeline: Option<ChildStdin>,
}

impl Janitor {
    /// Starts the shell for a cluster that need not exist yet.
    pub(super) fn start(cluster: &str) -> anyhow::Result<Self> {
        let logs = cache::folder()?.join("logs");
        std::fs::create_dir_all(&logs).with_context(|| format!("making {}", logs.display()))?;
        let log = File::create(logs.join(format!("janitor-{cluster}.log")))?;
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "tidemark-janitor"])
            .arg(cache::e2e_folder().join("kind/cluster"))
            .arg(cluster)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A group of its own, so that Ctrl-C at a terminal does not reach it.
            .process_group(0)
            .spawn()
            .context("starting the cluster's janitor")?;
        let lifeline = shell.stdin.take();
        Ok(Self { shell, lifeline })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // Nobody is there to hear of a failure: its text is in the log.
        let _ = self.shell.wait();
    }
}

//! Ends what a stack left running, however its owner went.
//!
//! The janitor is a shell that waits for the end of its standard input, whose
//! other end only the stack holds: a normal drop, a panic, Ctrl-C and `kill -9`
//! all close it. It then ends every process whose file is in `pids/`, waits
//! until they are gone and removes the stack's folder.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// `$1` is the stack's folder, `$2` is `keep` when the folder must stay.
///
/// A process file holds the signal that ends the process at once, and its id. A
/// zombie counts as gone: its parent may be dead and nobody there to reap it.
const SCRIPT: &str = r#"
cat >/dev/null
gone() { case "$(cat "/proc/$1/stat" 2>/dev/null)" in '' | *') Z '*) return 0 ;; *) return 1 ;; esac; }
for file in "$1"/pids/*; do
  [ -f "$file" ] && read -r signal pid <"$file" && kill -s "$signal" "$pid" 2>/dev/null
done
tries=0
for file in "$1"/pids/*; do
  [ -f "$file" ] && read -r signal pid <"$file" || continue
  until gone "$pid"; do
    tries=$((tries + 1))
    [ "$tries" -eq 100 ] && kill -s KILL "$pid" 2>/dev/null
    [ "$tries" -gt 200 ] && break
    sleep 0.05
  done
done
[ "$2" = keep ] || { umount -l "$1/clickhouse" 2>/dev/null; rm -rf "$1"; }
"#;

/// The waiting shell of one stack.
#[derive(Debug)]
pub(super) struct Janitor {
    shell: Child,
    lifeline: Option<ChildStdin>,
}

impl Janitor {
    /// Starts the shell for the stack in `folder`; with `keep` the folder outlives the stack.
    pub(super) fn start(folder: &Path, keep: bool) -> io::Result<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "tidemark-janitor"])
            .arg(folder)
            .arg(if keep { "keep" } else { "remove" })
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own, so that Ctrl-C at a terminal does not reach it.
            .process_group(0)
            .spawn()?;
        let lifeline = shell.stdin.take();
        Ok(Self { shell, lifeline })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // Nobody is there to hear of a failure; the shell goes on by itself.
        let _ = self.shell.wait();
    }
}

//! One program of the stack: started, stopped, killed and started again, with its output in a file.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::wait::wait_until;

/// How long a program may take from SIGTERM to its end.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// Writes `SIGNAL PID` to the file that the janitor reads, then becomes the program.
const REGISTER: &str = r#"echo "$1 $$" >"$2"; shift 2; exec "$@""#;

/// A signal, by the name that `kill -s` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Asks for an orderly end.
    Term,
    /// Asks PostgreSQL to end its sessions and itself ("fast shutdown").
    Int,
    /// Asks PostgreSQL to end at once, children included.
    Quit,
    /// Ends the program without its help.
    Kill,
    /// Halts the program: connections stay open and nobody answers.
    Stop,
    /// Lets a halted program go on.
    Continue,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Quit => "QUIT",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

/// What it takes to start a program, as often as wanted.
#[derive(Debug)]
pub(super) struct Program {
    /// The part's name in messages and file names.
    pub(super) name: &'static str,
    pub(super) command: Vec<OsString>,
    pub(super) environment: Vec<(&'static str, OsString)>,
    /// The signal for an orderly end.
    pub(super) stop: Signal,
    /// The signal that ends the program and all its children at once.
    pub(super) end: Signal,
}

/// A program with the process that runs it, if one does.
#[derive(Debug)]
pub struct Process {
    program: Program,
    log: PathBuf,
    pid_file: PathBuf,
    working_folder: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Process {
    /// Prepares a program of the stack in `folder`, without starting it.
    pub(super) fn new(folder: &Path, program: Program) -> Self {
        Self {
            log: folder.join("logs").join(program.name).with_extension("log"),
            pid_file: folder.join("pids").join(program.name),
            working_folder: folder.to_owned(),
            program,
            child: Mutex::new(None),
        }
    }

    /// Returns the part's name.
    pub fn name(&self) -> &'static str {
        self.program.name
    }

    /// Returns the file with all output since the stack began.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Starts the program, which must not run yet. Does not wait for it to be ready.
    pub fn spawn(&self) -> anyhow::Result<()> {
        // A program that ended by itself, unseen until now, may start again.
        self.ended()?;
        let mut child = self.child();
        if child.is_some() {
            bail!("{} is running already", self.name());
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let spawned = Command::new("sh")
            .args(["-c", REGISTER, "sh", self.program.end.name()])
            .arg(&self.pid_file)
            .args(&self.program.command)
            .envs(self.program.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.working_folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C at a terminal is for the stack's owner, not for each program.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", self.name()))?;
        *child = Some(spawned);
        Ok(())
    }

    /// Returns the process id while the program runs.
    pub fn id(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// Returns the status with which the program ended by itself, and forgets the process.
    pub fn ended(&self) -> anyhow::Result<Option<ExitStatus>> {
        let mut child = self.child();
        let status = match child.as_mut() {
            Some(running) => running.try_wait()?,
            None => None,
        };
        if status.is_some() {
            self.forget(&mut child);
        }
        Ok(status)
    }

    /// Sends a signal to the running program.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let mut child = self.child();
        let running = child.as_mut().with_context(|| format!("{} is not running", self.name()))?;
        send(running, signal).with_context(|| format!("sending {} to {}", signal.name(), self.name()))
    }

    /// Ends the program in order and waits until it is gone.
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.signal(self.program.stop)?;
        self.gone().await
    }

    /// Ends the program as a crash would, children included, and waits until it is gone.
    pub async fn kill(&self) -> anyhow::Result<()> {
        self.signal(self.program.end)?;
        self.gone().await
    }

    /// Ends the program at once, children included, and reaps it. For a stack that ends.
    pub fn end(&self) {
        let mut child = self.child();
        if let Some(running) = child.as_mut() {
            if send(running, self.program.end).is_err() {
                // Never wait for a program that was not told to end.
                let _ = running.kill();
            }
            let _ = running.wait();
            self.forget(&mut child);
        }
    }

    /// Returns the last `lines` lines of the output, without the frames of stack traces.
    pub fn log_tail(&self, lines: usize) -> String {
        const LIMIT: u64 = 64 * 1024;
        let read = || -> std::io::Result<String> {
            let mut file = File::open(&self.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(LIMIT)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_else(|error| format!("(no log: {error})"));
        let all: Vec<&str> = text.lines().filter(|line| !is_frame(line)).collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    async fn gone(&self) -> anyhow::Result<()> {
        let what = format!("the end of {}", self.name());
        wait_until(STOP_DEADLINE, &what, || async {
            Ok((self.id().is_none() || self.ended()?.is_some()).then_some(()))
        })
        .await
    }

    fn forget(&self, child: &mut Option<Child>) {
        *child = None;
        // The janitor must not signal an id that may be another's by then.
        let _ = fs::remove_file(&self.pid_file);
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells a line of Java's or ClickHouse's stack traces, which would push the message out of sight.
fn is_frame(line: &str) -> bool {
    let java = line.trim_start().starts_with("at ");
    let clickhouse = line.split_once(". ").is_some_and(|(number, _)| number.parse::<u16>().is_ok());
    java || clickhouse
}

fn send(child: &mut Child, signal: Signal) -> anyhow::Result<()> {
    if signal == Signal::Kill {
        return Ok(child.kill()?);
    }
    let status = Command::new("kill")
        .args(["-s", signal.name(), &child.id().to_string()])
        // A second Ctrl-C must not end the messenger.
        .process_group(0)
        .status()?;
    ensure!(status.success(), "kill ended with {status}");
    Ok(())
}

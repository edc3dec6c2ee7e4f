//! Credentials that may change while a process runs. I/O: reads files, nothing else.
//!
//! Kubernetes swaps a mounted Secret by a symbolic link; whoever uses a credential asks for it each time
//! and gets the value that the file has now.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// A text that must not show in logs.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text itself; the caller keeps it out of logs.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A user name and its password.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// Name of the user.
    pub username: String,
    /// Password of the user.
    pub password: Secret,
}

impl Credentials {
    /// Pairs a user name with its password.
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self { username: username.into(), password: Secret::new(password) }
    }
}

/// A credential file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("credential file {path:?} cannot be read: {source}; mount the Secret that has it")]
pub struct UnreadableFile {
    path: PathBuf,
    source: io::Error,
}

/// What tells one state of a file from the next, also when a symbolic link on the way is swapped.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fingerprint {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

/// A file that is read again when it has changed.
pub struct WatchedFile {
    path: PathBuf,
    seen: Mutex<Option<(Fingerprint, Arc<str>)>>,
}

impl fmt::Debug for WatchedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl WatchedFile {
    /// Names the file; it is read at first use.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned(), seen: Mutex::new(None) }
    }

    /// Returns the file's text without a line break at its end, read again if the file has changed.
    pub fn read(&self) -> Result<Arc<str>, UnreadableFile> {
        let unreadable = |source| UnreadableFile { path: self.path.clone(), source };
        let meta = fs::metadata(&self.path).map_err(unreadable)?;
        let now = Fingerprint {
            device: meta.dev(),
            inode: meta.ino(),
            length: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((fingerprint, text)) = seen.as_ref()
            && *fingerprint == now
        {
            return Ok(Arc::clone(text));
        }
        let text = fs::read_to_string(&self.path).map_err(unreadable)?;
        let text: Arc<str> =
            Arc::from(text.strip_suffix('\n').map_or(text.as_str(), |t| t.trim_end_matches('\r')));
        *seen = Some((now, Arc::clone(&text)));
        Ok(text)
    }
}

/// Where credentials come from: mounted files (the sink), or memory that is replaced when a Secret changes
/// (the operator).
#[derive(Debug)]
pub enum CredentialSource {
    /// Files of a mounted Secret.
    Files {
        /// File with the user name.
        username: WatchedFile,
        /// File with the password.
        password: WatchedFile,
    },
    /// Values in memory.
    Memory(RwLock<Credentials>),
}

impl CredentialSource {
    /// Reads user name and password from two files, again whenever they change.
    pub fn files(username: impl AsRef<Path>, password: impl AsRef<Path>) -> Self {
        Self::Files { username: WatchedFile::new(username), password: WatchedFile::new(password) }
    }

    /// Holds credentials in memory.
    pub fn memory(credentials: Credentials) -> Self {
        Self::Memory(RwLock::new(credentials))
    }

    /// Returns the credentials as they are now.
    pub fn current(&self) -> Result<Credentials, UnreadableFile> {
        match self {
            Self::Files { username, password } => {
                Ok(Credentials::new(username.read()?.as_ref(), password.read()?.as_ref()))
            }
            Self::Memory(credentials) => {
                Ok(credentials.read().unwrap_or_else(PoisonError::into_inner).clone())
            }
        }
    }

    /// Replaces credentials held in memory; files are left alone.
    pub fn replace(&self, new: Credentials) {
        if let Self::Memory(credentials) = self {
            *credentials.write().unwrap_or_else(PoisonError::into_inner) = new;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotated_secret_mount_is_seen_at_the_next_use() {
        let dir = tempfile::tempdir().unwrap();
        for (version, password) in [("v1", "old\n"), ("v2", "new")] {
            fs::create_dir(dir.path().join(version)).unwrap();
            fs::write(dir.path().join(version).join("username"), "shop").unwrap();
            fs::write(dir.path().join(version).join("password"), password).unwrap();
        }
        let link = dir.path().join("current");
        std::os::unix::fs::symlink("v1", &link).unwrap();
        let source = CredentialSource::files(link.join("username"), link.join("password"));
        assert_eq!(source.current().unwrap(), Credentials::new("shop", "old"));
        let swapped = dir.path().join("next");
        std::os::unix::fs::symlink("v2", &swapped).unwrap();
        fs::rename(&swapped, &link).unwrap();
        assert_eq!(source.current().unwrap(), Credentials::new("shop", "new"));
    }

    #[test]
    fn debug_output_hides_the_password() {
        let source = CredentialSource::memory(Credentials::new("shop", "hunter2"));
        assert!(!format!("{source:?}").contains("hunter2"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = WatchedFile::new("/nowhere/password").read().unwrap_err();
        assert!(error.to_string().contains("/nowhere/password"));
    }
}

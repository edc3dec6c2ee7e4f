//! Where the checkout's configuration and the cached programs are. Reads the file system, changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Returns the folder `e2e/` of the checkout.
pub fn e2e_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the cache: `TIDEMARK_CACHE`, or `~/.cache/tidemark`.
pub fn folder() -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("TIDEMARK_CACHE") {
        return Ok(PathBuf::from(folder));
    }
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    Ok(PathBuf::from(home).join(".cache/tidemark"))
}

/// Returns the folder of a cached part, such as `kafka`, or an error that names the script that makes it.
pub fn part(name: &str) -> anyhow::Result<PathBuf> {
    let link = folder()?.join("current").join(name);
    link.canonicalize()
        .with_context(|| format!("{} is not there yet: run {}", link.display(), setup_script(name).display()))
}

/// Returns the script that makes a cached part.
pub fn setup_script(part: &str) -> PathBuf {
    let script = match part {
        "kafka" | "debezium" | "classes" => "java.sh",
        "clickhouse" => "clickhouse.sh",
        "postgres" => "postgres.sh",
        "postgres-versions" => "postgres-versions.sh",
        "tools" => "tools.sh",
        _ => "all",
    };
    e2e_folder().join("setup").join(script)
}

/// Reads the pinned versions of `e2e/versions.env`, by name.
pub fn versions() -> anyhow::Result<BTreeMap<String, String>> {
    let path = e2e_folder().join("versions.env");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect())
}

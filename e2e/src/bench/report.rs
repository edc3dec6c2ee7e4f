//! Where reports go: `target/reports/` of the checkout. Writes files.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;

use crate::stack::cache::e2e_folder;

/// Writes a report as JSON and returns its path.
///
/// The folder is the same one for every target directory of cargo, so that whoever reads the figures finds
/// them.
pub fn write<T: Serialize>(file: &str, report: &T) -> anyhow::Result<PathBuf> {
    let folder =
        e2e_folder().parent().context("the checkout has a folder above e2e/")?.join("target/reports");
    let path = folder.join(file);
    let text = serde_json::to_string_pretty(report)? + "\n";
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&path, text))
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

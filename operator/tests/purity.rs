//! Modules that open as pure use no client, no runtime, no clock and no environment.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(path);
        }
    }
}

#[test]
fn pure_modules_have_no_edge() {
    let mut all = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
    let mut pure = 0;
    for path in all {
        let text = fs::read_to_string(&path).unwrap();
        let head: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        if !head.contains("Pure") {
            continue;
        }
        pure += 1;
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for edge in [
            "kube::Client",
            "tokio::",
            "Timestamp::now",
            "SystemTime",
            "Instant::now",
            "std::env::",
            "std::fs",
            "reqwest",
        ] {
            assert!(!code.contains(edge), "{} opens as pure and uses {edge}", path.display());
        }
    }
    assert!(pure >= 15, "only {pure} modules open as pure");
}

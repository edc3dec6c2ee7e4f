//! Writes what is generated from the types: the CustomResourceDefinition and the examples. Does file I/O only.
//!
//! `crdgen` writes into the checkout that it is started in, at its top; `crdgen --check` changes nothing and fails where
//! a file is missing or stale.

use std::path::PathBuf;
use std::process::ExitCode;

use tidemark_crds::generated;

fn main() -> ExitCode {
    let check = std::env::args().nth(1).as_deref() == Some("--check");
    let root = PathBuf::from(".");
    if !root.join("crds/generated").is_dir() {
        eprintln!("crds/generated is not here: start crdgen at the top of the checkout, or make generate");
        return ExitCode::FAILURE;
    }
    let mut failed = false;
    for file in generated::files() {
        let path = root.join(&file.path);
        if std::fs::read_to_string(&path).is_ok_and(|present| present == file.text) {
            continue;
        }
        if check {
            eprintln!("{} is stale: run make generate", file.path);
            failed = true;
        } else if let Err(error) = write(&path, &file.text) {
            eprintln!("cannot write {}: {error}", file.path);
            failed = true;
        } else {
            eprintln!("wrote {}", file.path);
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn write(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text)
}

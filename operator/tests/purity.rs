//! The core, and modules that open as pure, use no client, no runtime, no clock and no environment; and the words of other
//! systems come through one type.

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

/// What code without an edge does not name.
const OUTSIDE: [&str; 10] = [
    "crate::edge",
    "crate::shell",
    "kube::Client",
    "tokio::",
    "Timestamp::now",
    "SystemTime",
    "Instant::now",
    "std::env::",
    "std::fs",
    "reqwest",
];

#[test]
fn the_core_has_no_edge_and_the_edge_knows_nothing_of_the_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut of_core, mut pure) = (0, 0);
    let mut all = Vec::new();
    sources(&root, &mut all);
    for path in all {
        let text = fs::read_to_string(&path).unwrap();
        let head: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let is_in = |folder: &str| path.starts_with(root.join(folder));
        of_core += usize::from(is_in("core"));
        if is_in("edge") {
            assert!(!code.contains("crate::shell"), "{} knows of the program around it", path.display());
        }
        if !is_in("core") && !head.contains("Pure") {
            continue;
        }
        pure += 1;
        for outside in OUTSIDE {
            let is_own = !is_in("core") && outside.starts_with("crate::");
            assert!(is_own || !code.contains(outside), "{} is pure and uses {outside}", path.display());
        }
    }
    assert!(of_core >= 80 && pure >= of_core + 5, "{of_core} files of the core, {pure} pure ones");
}

/// What a glance saw says that a look is due and nothing else: no plan, no proof, no status is made of it.
#[test]
fn nothing_is_decided_by_what_a_glance_saw() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in ["core/rest.rs", "edge/glance.rs"] {
        let text = fs::read_to_string(root.join(path)).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for word in ["Step", "Plan", "Effect", "Proof", "Gate", "desire", "status::", "apply"] {
            assert!(!code.contains(word), "{path} has {word}: what is old must lead to a look alone");
        }
    }
    // The cache of old facts has one reader, and it gives back whether they still hold.
    let engine = fs::read_to_string(root.join("shell/engine.rs")).unwrap();
    let glance =
        engine.split("pub async fn glance").nth(1).and_then(|text| text.split("\n    }\n").next()).unwrap();
    assert!(glance.contains(") -> bool {"), "a glance gives back one bit");
    for word in ["run_in", "reconcile(", "Outcome", "act("] {
        assert!(!glance.contains(word), "a glance uses {word}");
    }
}

/// What reads words of another system, or makes an error that is shown, and the files that may.
const EDGES: [(&str, &[&str]); 9] = [
    // Words of PostgreSQL: those of its answers alone.
    (".as_db_error()", &["runtime/src/postgres.rs"]),
    (".into_source()", &[]),
    // Bodies of HTTP: as much as the caller asks for.
    (".bytes().await", &[]),
    (".text().await", &[]),
    (".json().await", &[]),
    (".chunk().await", &["runtime/src/http.rs"]),
    (".bytes_stream()", &[]),
    // An error's text is one short line, whoever makes it.
    (" Failure {", &["operator/src/core/facts.rs"]),
    ("clickhouse_error::Error {", &[]),
];

/// Fields in which systems say what is wrong.
const WORDS: [&str; 6] = ["message", "error", "exception", "trace", "reason", "detail"];

/// Code without tests, by its path in the repository.
fn code_of(crates: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
    let mut all = Vec::new();
    for name in crates {
        sources(&root.join(name).join("src"), &mut all);
    }
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        let text = fs::read_to_string(&path).unwrap();
        (name, text.split("#[cfg(test)]").next().unwrap_or_default().to_owned())
    };
    all.into_iter().map(read).filter(|(name, _)| !name.ends_with("_tests.rs")).collect()
}

#[test]
fn words_of_other_systems_come_through_one_type() {
    let mut found = 0;
    for (path, code) in code_of(&["operator", "runtime", "sink"]) {
        // A call may be broken over lines.
        let joined: String = code.lines().map(str::trim_start).fold(String::new(), |all, line| {
            if line.starts_with('.') { all + line } else { all + "\n " + line }
        });
        let joined =
            joined.replace("-> Failure {", "").replace("struct Failure {", "").replace("impl Failure {", "");
        for (edge, allowed) in EDGES {
            // The sink has failures of its own, which are no words of others.
            let is_there = joined.contains(edge) && (edge != " Failure {" || path.starts_with("operator/"));
            assert!(!is_there || allowed.contains(&path.as_str()), "{path} uses {edge:?}");
            found += usize::from(is_there);
        }
    }
    assert!(found >= 2, "nothing was found where it has to be");
}

#[test]
fn what_systems_say_is_wrong_is_read_as_words_of_theirs() {
    let mut found = 0;
    for (path, code) in code_of(&["operator"]) {
        if !path.contains("src/edge/") {
            continue;
        }
        for declared in code.split("#[derive(").skip(1).filter(|declared| {
            declared.split(")]").next().is_some_and(|derives| derives.contains("Deserialize"))
        }) {
            let fields = declared.split("\n}").next().unwrap_or_default();
            for field in fields.lines().map(str::trim) {
                let Some((name, kind)) = field.trim_start_matches("pub ").split_once(": ") else {
                    continue;
                };
                if WORDS.contains(&name) {
                    assert!(!kind.contains("String"), "{path}: {field}");
                    found += 1;
                }
            }
        }
    }
    assert!(found >= 8, "only {found} fields were found");
}

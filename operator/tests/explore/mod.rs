//! The operator over a model of everything outside it: plans are carried out whole, then again from before each write
//! with a fault at it, and have to end as they did undisturbed.
#![allow(clippy::print_stdout, reason = "figures are this test's output")]

mod claims;
mod clickhouse;
mod connect;
mod dashboards;
mod estate;
mod foreseen;
mod grafana;
mod guards;
mod invariants;
mod kafka;
mod kubernetes;
mod leaves;
mod normal;
mod plans;
mod postgres;
mod run;
mod shell;
mod terms;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::json;

use self::plans::{Plan, generated, named, pairs};
use self::run::{Choice, Found, run};

/// Threads that carry out plans.
const THREADS: usize = 2;
/// One of so many faults is tried in `make test`.
const SAMPLE: u64 = 80;
/// One of so many faults is tried in the plans that nobody thought of, in `make test` and in `make explore`.
const GENERATED: (u64, u64) = (4_000, 100);
/// Plans that are carried out at least, pairs apart.
const FEWEST: usize = 1_000;
/// Pairs of moves that are tried in `make test`, and in `make explore`.
const PAIRS: (usize, usize) = (200, 1_200);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Carries out plans side by side, and prints a line for each.
fn carry_out(plans: &[Plan], choice: Choice) -> Found {
    let (next, all) = (AtomicUsize::new(0), Mutex::new(Found::default()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(plan) = plans.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begin = Instant::now();
                    let found = run(plan, choice);
                    if found.forks == 0 && found.broken.is_empty() {
                        all.lock().unwrap().add(found);
                        continue;
                    }
                    println!(
                        "{:<64} {:>4} writes {:>5} forks {:>7} calls {:>6} ms {:>3} broken",
                        plan.name,
                        found.acts,
                        found.forks,
                        found.calls,
                        begin.elapsed().as_millis(),
                        found.broken.len()
                    );
                    all.lock().unwrap().add(found);
                }
            });
        }
    });
    all.into_inner().unwrap()
}

#[test]
fn plans_end_as_they_do_undisturbed_whatever_fails() {
    let only = std::env::var("TIDEMARK_PLAN").unwrap_or_default();
    let every = number("TIDEMARK_EVERY");
    // A sample is the same each time: what a new seed finds is no fault of the change that is tested.
    let seed = || if every.is_some() { u64::from(rand::random::<u32>()) } else { 1 };
    let seed = number("TIDEMARK_SEED").unwrap_or_else(seed);
    let every = every.unwrap_or(SAMPLE);
    let begin = Instant::now();
    let is_whole = every == 1;
    let chosen = |plans: Vec<Plan>| -> Vec<Plan> {
        plans.into_iter().filter(|plan| plan.name.contains(&only)).collect()
    };
    let (named, generated) = (chosen(named()), chosen(generated()));
    let own = named.len() + generated.len();
    assert!(own >= FEWEST || !only.is_empty(), "{own} plans are few");
    let mut found = carry_out(&named, Choice { seed, every, foresees: true });
    let few = if is_whole { GENERATED.1 } else { GENERATED.0 };
    let few = if every == 0 { 0 } else { few };
    found.add(carry_out(&generated, Choice { seed, every: few, foresees: true }));
    let pairs = chosen(pairs(seed, if is_whole { PAIRS.1 } else { PAIRS.0 }));
    found.add(carry_out(&pairs, Choice { seed, every: 0, foresees: false }));
    let seconds = begin.elapsed().as_secs();
    println!(
        "{} plans ({own} of them no pairs), {} writes, {} forks with a fault (one in {every}, seed {seed}), {} of them at a known end, {} calls, \
         {} broken, {seconds} s",
        found.plans,
        found.acts,
        found.forks,
        found.memo_hits,
        found.calls,
        found.broken.len()
    );
    let report = json!({
        "plans": found.plans, "own_plans": own, "writes": found.acts, "forks": found.forks, "known_ends": found.memo_hits,
        "calls": found.calls, "seed": seed, "every": every, "broken": found.broken.len(), "seconds": seconds,
    });
    let reports = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/reports");
    std::fs::create_dir_all(&reports).unwrap();
    std::fs::write(reports.join("explore.json"), format!("{report:#}\n")).unwrap();
    assert!(
        found.broken.is_empty(),
        "{} broken, seed {seed}:\n{}",
        found.broken.len(),
        found.broken.join("\n")
    );
}

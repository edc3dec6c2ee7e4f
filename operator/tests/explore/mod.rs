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
/// One of so many plans that nobody thought of is carried out in `make test`; all of them in `make explore`, with one of
/// so many faults.
const GENERATED: (usize, u64) = (16, 100);
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

/// The plans that nobody thought of that are carried out now.
fn chosen(seed: u64, is_whole: bool, only: &str) -> Vec<Plan> {
    let all = generated();
    assert!(named().len() + all.len() >= 1_000, "{} plans are few", all.len());
    let step = if is_whole || !only.is_empty() { 1 } else { GENERATED.0 };
    let from = usize::try_from(seed).unwrap_or(0) % step;
    all.into_iter().skip(from).step_by(step).filter(|plan| plan.name.contains(only)).collect()
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
    let plans: Vec<Plan> = named().into_iter().filter(|plan| plan.name.contains(&only)).collect();
    let mut found = carry_out(&plans, Choice { seed, every, foresees: true });
    let is_whole = every == 1;
    let generated = chosen(seed, is_whole, &only);
    let faults = if is_whole { GENERATED.1 } else { 0 };
    found.add(carry_out(&generated, Choice { seed, every: faults, foresees: true }));
    let count = if is_whole { PAIRS.1 } else { PAIRS.0 };
    if only.is_empty() {
        found.add(carry_out(&pairs(seed, count), Choice { seed, every: 0, foresees: false }));
    }
    let own = plans.len() + generated.len();
    let seconds = begin.elapsed().as_secs();
    println!(
        "{} plans, {own} of them no pairs, {} writes, {} forks with a fault (one in {every}, seed {seed}), {} of them at a known end, {} calls, \
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

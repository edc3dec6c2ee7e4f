//! An executable model: PostgreSQL, its log, Debezium, Kafka and ClickHouse are modelled; what the sink decides is its
//! own code. Random histories of what can happen between them end with everything at rest, and `TARGET_current` has to
//! be the table. A history that fails shrinks to a short list.
#![allow(clippy::print_stdout, reason = "figures are this test's output")]

mod clickhouse;
mod flight;
mod mutant;
mod op;
mod operator;
mod reader;
mod replica;
mod source;
mod stream;
mod world;

use std::cell::{Cell, RefCell};
use std::time::Instant;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use serde_json::json;

use self::mutant::Mutant;
use self::op::{Lines, Op, histories};
use self::world::{Figures, run};

/// Histories of `make test`.
const HISTORIES: u32 = 10_000;
/// Within so many histories each mutant has to be found.
const FOUND_WITHIN: u32 = 60_000;
/// Operations of a history at most.
const LONGEST: usize = 90;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A history that fails.
struct Failure {
    /// Histories that were tried before.
    after: u64,
    wrong: String,
    history: Vec<Op>,
}

/// Tries histories until one fails.
fn explore(count: u32, seed: u64, mutant: Option<Mutant>, figures: &mut Figures) -> Option<Failure> {
    let config =
        Config { cases: count, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let (tried, failed, sum) = (Cell::new(0_u64), Cell::new(false), RefCell::new(Figures::default()));
    let result = TestRunner::new_with_rng(config, rng).run(&histories(LONGEST), |history| {
        let mut own = Figures::default();
        let outcome = run(&history, mutant, &mut own);
        if !failed.get() {
            tried.set(tried.get() + 1);
            sum.borrow_mut().add(&own);
        }
        outcome.map_err(|wrong| {
            failed.set(true);
            TestCaseError::fail(wrong)
        })
    });
    figures.add(&sum.into_inner());
    match result {
        Ok(()) => None,
        Err(TestError::Fail(reason, history)) => {
            Some(Failure { after: tried.get(), wrong: reason.message().to_owned(), history })
        }
        Err(TestError::Abort(reason)) => panic!("aborted: {reason}"),
    }
}

/// Tries histories in threads, each with a seed of its own.
fn explore_with(threads: u32, count: u32, seed: u64, figures: &mut Figures) -> Option<Failure> {
    let found = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|thread| {
                let part = count / threads + u32::from(thread < count % threads);
                scope.spawn(move || {
                    let mut own = Figures::default();
                    (explore(part, seed + u64::from(thread) * 1_000_003, None, &mut own), own)
                })
            })
            .collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let mut first = None;
    for (failure, own) in found {
        figures.add(&own);
        first = first.or(failure);
    }
    first
}

#[test]
fn every_history_ends_with_the_tables_rows() {
    let asked = number("TIDEMARK_HISTORIES").map(|count| u32::try_from(count).unwrap());
    let count = asked.unwrap_or(HISTORIES);
    // A sample is the same each time: what a new seed finds is no fault of the change that is tested.
    let seed =
        number("TIDEMARK_SEED").unwrap_or_else(|| asked.map_or(1, |_| u64::from(rand::random::<u32>())));
    let begin = Instant::now();
    let mut figures = Figures::default();
    let failure = explore_with(if asked.is_some() { 2 } else { 1 }, count, seed, &mut figures);
    let seconds = begin.elapsed().as_secs_f64();
    let wrong = u32::from(failure.is_some());
    println!(
        "{count} histories, {} operations, {} rows compared, {wrong} wrong, {seconds:.1} s, seed {seed}\n{:?}",
        figures.operations, figures.rows, figures.faults
    );
    let report = json!({
        "histories": count, "operations": figures.operations, "rows": figures.rows, "faults": figures.faults,
        "wrong": wrong, "seconds": seconds.round(), "seed": seed,
    });
    let reports = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/reports");
    std::fs::create_dir_all(&reports).unwrap();
    std::fs::write(reports.join("model.json"), format!("{report:#}\n")).unwrap();
    if let Some(Failure { after, wrong, history }) = failure {
        panic!("history {after} of seed {seed}: {wrong}\n{}", Lines(&history));
    }
}

#[test]
fn each_mutant_is_found() {
    let mut missed = Vec::new();
    for mutant in Mutant::ALL {
        let mut figures = Figures::default();
        match explore(FOUND_WITHIN, 1, Some(mutant), &mut figures) {
            Some(Failure { after, wrong, history }) => {
                println!("{mutant:?}: found by history {after}: {wrong}\n{}", Lines(&history));
            }
            None => missed.push(mutant),
        }
    }
    assert!(missed.is_empty(), "not found within {FOUND_WITHIN} histories: {missed:?}");
}

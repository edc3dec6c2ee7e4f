//! Bounded fuzzing without a compiler of its own: mutations of a corpus, kept where they show something new. Pure but
//! for the clock and for the input that is written when one fails.
//!
//! A run is a function of its seed and its number of inputs; a run of so many minutes takes as many as it can.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Inputs of a run that is bounded by their number.
const INPUTS: u64 = 30_000;
/// Longest input.
const LONGEST: usize = 1 << 16;
/// One input must not take longer: a decoder that is quadratic would stop its table.
const SLOW: Duration = Duration::from_secs(2);
/// How often an input that took too long is tried again.
const AGAIN: u32 = 3;
/// Most inputs that are kept to be mutated.
const KEPT: usize = 4_096;

/// Pieces that decoders have cases for.
const PIECES: [&[u8]; 48] = [
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud83d\\ude00",
    b"\\ud800",
    b"\\udc00",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"null",
    b"true",
    b"false",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"infinity",
    b"-infinity",
    b" BC",
    b"1e400",
    b"-0",
    b"0.0",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775808",
    b"18446744073709551616",
    b"1e-400",
    b"\"payload\":",
    b"\"before\":",
    b"\"after\":null",
    b"\"op\":\"t\"",
    b"\"source\":{}",
    b"\"lsn\":",
    b"\"ts_us\":",
    b"\"sequence\":\"[\\\"1\\\",\\\"2\\\"]\"",
    b"__debezium_unavailable_value",
    b"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==",
    b"\\N",
    b"\t",
    b"\n",
    b"\\x",
    b"{{",
    b"NULL",
    b"9999-12-31",
    b"0001-01-01T00:00:00Z",
    b"\xff\xfe",
];

/// A generator of numbers that is the same everywhere (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 for 0.
    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap().max(1);
        usize::try_from(self.next() % bound).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// How long a run is.
pub(super) enum Length {
    /// So many inputs.
    Inputs(u64),
    /// So long.
    For(Duration),
}

impl Length {
    /// What the environment asks for: `TIDEMARK_FUZZ_MINUTES`, or what fits beside the other tests.
    pub(super) fn asked() -> Self {
        match std::env::var("TIDEMARK_FUZZ_MINUTES") {
            Ok(minutes) => Self::For(Duration::from_secs(60 * minutes.parse::<u64>().unwrap())),
            Err(_) => Self::Inputs(INPUTS),
        }
    }
}

/// Puts mutations of `corpus` into `target`, which says in one number what kind of input it saw: a new number makes
/// the input part of the corpus. Fails with the input that made the target panic, or took too long.
#[allow(clippy::print_stdout, reason = "a long run says how far it came")]
pub(super) fn run(name: &str, corpus: Vec<Vec<u8>>, length: &Length, mut target: impl FnMut(&[u8]) -> u64) {
    assert!(!corpus.is_empty(), "{name}: there is nothing to mutate");
    let seed = std::env::var("TIDEMARK_FUZZ_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut random = Random(seed);
    let (mut kept, mut kinds) = (corpus, HashSet::new());
    let begin = Instant::now();
    let mut inputs = 0;
    let originals = kept.clone();
    for input in &originals {
        kinds.insert(tried(name, input, &mut target));
    }
    loop {
        let over = match length {
            Length::Inputs(most) => inputs >= *most,
            Length::For(time) => begin.elapsed() >= *time,
        };
        if over {
            break;
        }
        inputs += 1;
        let mut input = kept[random.below(kept.len())].clone();
        for _ in 0..=random.below(4) {
            mutate(&mut random, &kept, &mut input);
        }
        input.truncate(LONGEST);
        if kinds.insert(tried(name, &input, &mut target)) && kept.len() < KEPT {
            kept.push(input);
        }
    }
    println!(
        "{name}: {inputs} inputs in {:.1} s, {} kinds, {} in the corpus",
        begin.elapsed().as_secs_f64(),
        kinds.len(),
        kept.len()
    );
}

fn tried(name: &str, input: &[u8], target: &mut impl FnMut(&[u8]) -> u64) -> u64 {
    let mut timed = || {
        let begin = Instant::now();
        (catch_unwind(AssertUnwindSafe(|| target(input))), begin.elapsed())
    };
    let (outcome, mut took) = timed();
    // On a machine that is busy with other things a thread may wait for seconds: an input that is slow is so each time.
    for _ in 0..AGAIN {
        if took >= SLOW && outcome.is_ok() {
            took = took.min(timed().1);
        }
    }
    let shown = || {
        let mut text = String::new();
        for byte in input {
            // Writing to a String does not fail.
            let _ = write!(text, "{}", std::ascii::escape_default(*byte));
        }
        text
    };
    let Ok(kind) = outcome else { panic!("{name} panicked at b\"{}\"", shown()) };
    assert!(took < SLOW, "{name} took {took:?} for b\"{}\"", shown());
    kind
}

fn mutate(random: &mut Random, corpus: &[Vec<u8>], input: &mut Vec<u8>) {
    let at = random.below(input.len() + 1);
    let end = (at + 1 + random.below(16)).min(input.len());
    match random.below(9) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = random.byte(),
        2 => input.insert(at, random.byte()),
        3 if at < end => {
            input.drain(at..end);
        }
        4 if at < end => {
            let piece = input[at..end].to_vec();
            input.splice(at..at, piece);
        }
        5 => {
            let piece = PIECES[random.below(PIECES.len())];
            input.splice(at..at, piece.iter().copied());
        }
        6 if at < end => {
            let piece = PIECES[random.below(PIECES.len())];
            input.splice(at..end, piece.iter().copied());
        }
        7 => {
            // The end of another one: two halves that do not fit.
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => input.truncate(at),
    }
}

#[test]
fn the_engine_finds_what_is_wrong_and_says_with_which_input() {
    let fault = catch_unwind(|| {
        run("faulty", vec![b"{\"a\":1}".to_vec()], &Length::Inputs(INPUTS), |input| {
            assert!(!input.windows(2).any(|pair| pair == b"[["), "two brackets");
            u64::from(input.contains(&b'['))
        });
    });
    let text = *fault.unwrap_err().downcast::<String>().unwrap();
    assert!(text.starts_with("faulty panicked at b\"") && text.contains("[["), "{text}");
}

#[test]
fn a_run_is_a_function_of_its_seed() {
    let inputs = || {
        let mut all = Vec::new();
        run("twice", vec![b"abc".to_vec()], &Length::Inputs(200), |input| {
            all.push(input.to_vec());
            0
        });
        all
    };
    assert_eq!(inputs(), inputs());
}

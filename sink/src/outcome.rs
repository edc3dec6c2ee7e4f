//! What becomes of a batch whose insert fails: again, in pieces, without the rows that the server refuses, or not
//! until a person mends the cause. Pure.

use std::ops::Range;
use std::time::Duration;

use tidemark_runtime::clickhouse::{Error, ErrorClass};

use crate::dead_letter::ShareLimit;

/// Rows below which a batch is not split for want of memory.
const SMALLEST_SPLIT: usize = 1000;
/// Attempts before a refusal is believed.
const TRIES: u32 = 3;
/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Pause between two attempts of a table that is stopped.
const STOPPED_PAUSE: Duration = Duration::from_secs(30);

/// A pause that grows from attempt to attempt and is spread over its whole length.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    attempt: u32,
}

impl Backoff {
    /// The next pause; `spread` is a random number from 0 to 1.
    pub fn next(&mut self, spread: f64) -> Duration {
        let most = (Duration::from_millis(50) * 2_u32.saturating_pow(self.attempt)).min(LONGEST_PAUSE);
        self.attempt = (self.attempt + 1).min(16);
        most.mul_f64(spread)
    }

    /// Number of pauses so far.
    pub fn attempts(&self) -> u32 {
        self.attempt
    }
}

/// A row that the server refuses by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Row of the batch.
    pub row: usize,
    /// The server's code and text.
    pub error: String,
}

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on with the next piece after a pause.
    Again,
    /// Go on with the next piece at once: this one was halved to find the row that is refused.
    Search,
    /// Nothing of the table can be written until a person mends the cause.
    Stopped,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    rows: Range<usize>,
    /// Whether it is a part of one that was refused.
    suspect: bool,
}

/// The rows of a batch that are not written yet.
#[derive(Debug)]
pub struct Work {
    /// Pieces, the next one last.
    pieces: Vec<Piece>,
    /// Rows of a piece at most.
    limit: usize,
    refused: Vec<Refused>,
    written: usize,
    tries: u32,
    total: usize,
    max_share_per_mille: u32,
}

impl Work {
    /// Begins with all rows; a table stops when a greater share of them is refused.
    pub fn new(rows: usize, max_share_per_mille: u32) -> Self {
        let pieces = if rows == 0 { vec![] } else { vec![Piece { rows: 0..rows, suspect: false }] };
        Self {
            pieces,
            limit: rows.max(1),
            refused: vec![],
            written: 0,
            tries: 0,
            total: rows,
            max_share_per_mille,
        }
    }

    /// Rows to write next; `None` when all are written or refused.
    pub fn piece(&mut self) -> Option<Range<usize>> {
        let Piece { rows, suspect } = self.pieces.pop()?;
        if rows.len() > self.limit {
            let middle = rows.start + self.limit;
            self.pieces.push(Piece { rows: middle..rows.end, suspect });
            self.pieces.push(Piece { rows: rows.start..middle, suspect });
        } else {
            self.pieces.push(Piece { rows, suspect });
        }
        self.pieces.last().map(|piece| piece.rows.clone())
    }

    /// Notes that the rows of the last [`piece`](Self::piece) are written.
    pub fn written(&mut self) {
        if let Some(piece) = self.pieces.pop() {
            self.written += piece.rows.len();
        }
        self.tries = 0;
        // There is room again: the rest need not stay in small pieces.
        self.limit = self.limit.saturating_mul(2).min(self.total.max(1));
    }

    /// Notes that they are not, and says how to go on.
    pub fn failed(&mut self, error: &Error) -> Verdict {
        let Some(piece) = self.pieces.last_mut() else {
            return Verdict::Again;
        };
        let rows = piece.rows.clone();
        if is_too_large(error) {
            let least = if is_too_many_partitions(error) { 1 } else { SMALLEST_SPLIT.min(rows.len()) };
            self.limit = (rows.len() / 2).max(least);
            return Verdict::Again;
        }
        if !matches!(error.class, ErrorClass::Permanent | ErrorClass::Schema) {
            return Verdict::Again;
        }
        self.tries += 1;
        if self.tries < TRIES && !piece.suspect {
            return Verdict::Again;
        }
        if concerns_the_table(error) {
            return self.stop();
        }
        self.pieces.pop();
        if rows.len() == 1 {
            let code = error.code.map(|code| format!("code {code}: ")).unwrap_or_default();
            self.refused.push(Refused { row: rows.start, error: format!("{code}{}", error.message) });
            return if self.is_beyond_share() { self.stop() } else { Verdict::Search };
        }
        let middle = rows.start + rows.len() / 2;
        self.pieces.push(Piece { rows: middle..rows.end, suspect: true });
        self.pieces.push(Piece { rows: rows.start..middle, suspect: true });
        Verdict::Search
    }

    /// The rows that the server refuses by themselves.
    pub fn into_refused(self) -> Vec<Refused> {
        self.refused
    }

    /// Whether so many rows are refused that the cause is not in the rows.
    fn is_beyond_share(&self) -> bool {
        let refused = self.refused.len() as u64;
        let seen = refused + self.written as u64;
        refused > ShareLimit::TOLERATED && refused * 1000 > seen * u64::from(self.max_share_per_mille)
    }

    /// Begins again with everything that is not written: none of it is a dead letter.
    fn stop(&mut self) -> Verdict {
        self.tries = TRIES;
        for Refused { row, .. } in std::mem::take(&mut self.refused) {
            self.pieces.push(Piece { rows: row..row + 1, suspect: false });
        }
        self.pieces.iter_mut().for_each(|piece| piece.suspect = false);
        self.pieces.sort_by_key(|piece| std::cmp::Reverse(piece.rows.start));
        // Neighbours are one piece again.
        let mut joined: Vec<Piece> = Vec::new();
        for piece in std::mem::take(&mut self.pieces) {
            match joined.last_mut() {
                Some(later) if later.rows.start == piece.rows.end => later.rows.start = piece.rows.start,
                _ => joined.push(piece),
            }
        }
        self.pieces = joined;
        Verdict::Stopped
    }
}

impl Verdict {
    /// How long to wait before the next attempt.
    pub fn pause(self, backoff: &mut Backoff, spread: f64) -> Duration {
        match self {
            Self::Again => backoff.next(spread),
            Self::Search => Duration::ZERO,
            Self::Stopped => STOPPED_PAUSE.mul_f64(0.5 + spread / 2.0),
        }
    }
}

/// Whether a smaller piece may go through: memory, or too many partitions at once.
fn is_too_large(error: &Error) -> bool {
    // CANNOT_ALLOCATE_MEMORY, MEMORY_LIMIT_EXCEEDED. A full disk or a quota takes no smaller piece either.
    matches!(error.code, Some(173 | 241)) || is_too_many_partitions(error)
}

/// Whether the rows fall into more partitions than the server takes at once; the code is that of too many parts.
pub fn is_too_many_partitions(error: &Error) -> bool {
    error.code == Some(252) && error.message.contains("partitions for single INSERT block")
}

/// Whether no row of the table could be written, whatever its values: table, database or column are missing, or the
/// statement is not understood.
fn concerns_the_table(error: &Error) -> bool {
    matches!(error.code, Some(8 | 16 | 20 | 44 | 46 | 47 | 60 | 62 | 81))
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;

//! Whether a table shows everything up to a position. Pure.

use std::collections::BTreeMap;

use tidemark_crds::history::Position;

/// What was found of a table: the records of all commits up to `lsn` lie below the ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Epoch of the records.
    pub epoch: u16,
    /// Whose log the position is of.
    pub server: String,
    /// The position.
    pub lsn: u64,
    /// Partition → end, exclusive.
    pub ends: BTreeMap<i32, i64>,
}

impl Claim {
    /// Whether every partition has applied what lies below its end. One without records has nothing to apply.
    pub fn is_passed(&self, next: &BTreeMap<i32, i64>) -> bool {
        self.ends.iter().all(|(partition, end)| *end <= next.get(partition).copied().unwrap_or(0))
    }
}

/// The last read of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// Request that it answers.
    pub request: u64,
    /// Position of its barrier.
    pub barrier: Position,
    /// Whether all rows are there.
    pub done: bool,
}

/// What ClickHouse has of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableFacts {
    /// What was found of it.
    pub claims: Vec<Claim>,
    /// Partition → offset up to which everything is applied, exclusive.
    pub next: BTreeMap<i32, i64>,
    /// Open dead letters.
    pub dead: u64,
    /// Read that was asked for last: its id and its epoch.
    pub request: Option<(u64, u16)>,
    /// Read that was begun last.
    pub read: Option<Read>,
    /// Why it has to be read again, and up to which position the doubt reaches.
    pub doubt: Option<(String, Position)>,
    /// Why a living replica applies nothing at present.
    pub trouble: Option<String>,
}

/// What can be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Everything up to this position can be read.
    Upto(u64),
    /// No more than up to this position, until what is named is mended.
    Stuck(u64, String),
    /// Nothing can be said of any position.
    Unknown(String),
}

impl TableFacts {
    /// Judges a table by its facts, the ledger's epoch and the server whose positions are asked for.
    pub fn judge(&self, epoch: u16, server: &str) -> Verdict {
        let Some(request) = self.request.filter(|(_, of)| epoch > 0 && *of == epoch) else {
            return Verdict::Unknown("its first load in this epoch has not been asked for yet".to_owned());
        };
        let read = self.read.filter(|read| read.request == request.0 && read.barrier.0 == epoch && read.done);
        let Some(read) = read else {
            return Verdict::Unknown("it is being read at the source".to_owned());
        };
        if let Some((why, _)) = self.doubt.as_ref().filter(|(_, at)| *at >= read.barrier) {
            return Verdict::Unknown(format!("it has to be read again: {why}"));
        }
        if self.dead > 0 {
            return Verdict::Unknown(format!(
                "{} of its records are dead letters, and their rows are not there: tidemark-sink dead-letters list",
                self.dead
            ));
        }
        let is_ours = |claim: &&Claim| claim.epoch == epoch && claim.server == server;
        let passed = self.claims.iter().filter(is_ours).filter(|claim| claim.is_passed(&self.next));
        let lsn = passed.map(|claim| claim.lsn).max().unwrap_or(0);
        match &self.trouble {
            Some(trouble) => Verdict::Stuck(lsn, trouble.clone()),
            None => Verdict::Upto(lsn),
        }
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;

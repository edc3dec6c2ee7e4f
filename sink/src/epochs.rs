//! Epochs of records against that of the ledger. The operator writes an epoch into the ledger before the connector marks
//! records with it, so that a record of a later one is of another connector, once the ledger was asked. Pure.

use std::collections::BTreeSet;

/// Looks at the ledger that end before its word counts: the first may have begun before the record came.
const LOOKS: u8 = 2;

/// What a record is by its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The pipeline's own, as far as its epoch says.
    Own,
    /// Of an epoch that was refused, and the ledger is beyond it.
    Foreign,
    /// Of an epoch that the ledger has not; it may have it soon.
    Unknown,
}

/// Which epochs a table takes.
#[derive(Debug, Default)]
pub struct Epochs {
    /// The ledger's; 0: it has none.
    known: u16,
    /// Those that the ledger did not have when it was asked.
    refused: BTreeSet<u16>,
    /// The one that a record waits for, and the looks that ended since.
    waiting: Option<(u16, u8)>,
}

impl Epochs {
    /// The ledger's epoch; 0: it has none.
    pub fn known(&self) -> u16 {
        self.known
    }

    /// Judges a record's epoch.
    #[inline]
    pub fn judge(&mut self, epoch: u16) -> Whose {
        if epoch <= self.known && self.refused.is_empty() { Whose::Own } else { self.look_closer(epoch) }
    }

    #[cold]
    fn look_closer(&mut self, epoch: u16) -> Whose {
        if epoch > self.known {
            if self.waiting.is_none_or(|(waits_for, _)| waits_for != epoch) {
                self.waiting = Some((epoch, 0));
            }
            Whose::Unknown
        } else if self.refused.contains(&epoch) {
            Whose::Foreign
        } else {
            Whose::Own
        }
    }

    /// Notes what the ledger has now.
    pub fn learn(&mut self, known: u16) {
        self.known = known;
        // It came late; never does the operator choose one that a sink refused.
        self.refused.remove(&known);
        self.waiting = self.waiting.filter(|(waits_for, _)| *waits_for > known);
    }

    /// Notes that a look at the ledger ended. Whether the epoch that a record waits for is refused by it.
    pub fn looked(&mut self) -> bool {
        let Some((epoch, looks)) = &mut self.waiting else {
            return false;
        };
        *looks = looks.saturating_add(1);
        *looks == LOOKS && self.refused.insert(*epoch)
    }

    /// Whether the ledger was asked for the epoch that a record waits for, and has it not.
    pub fn is_refused(&self) -> bool {
        self.waiting.is_some_and(|(epoch, _)| self.refused.contains(&epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_refused_once_the_ledger_was_asked_and_passed_over_once_it_is_beyond_it() {
        let mut epochs = Epochs::default();
        epochs.learn(4);
        assert_eq!([3, 4, 5].map(|epoch| epochs.judge(epoch)), [Whose::Own, Whose::Own, Whose::Unknown]);
        assert!(
            !epochs.looked() && !epochs.is_refused(),
            "a look that may have begun before the record came"
        );
        assert!(epochs.looked() && epochs.is_refused());
        assert!(!epochs.looked(), "it is said once");
        epochs.learn(6);
        assert!(!epochs.is_refused());
        assert_eq!([4, 5, 6].map(|epoch| epochs.judge(epoch)), [Whose::Own, Whose::Foreign, Whose::Own]);
    }

    #[test]
    fn an_epoch_that_the_ledger_has_a_moment_later_is_the_pipelines_own() {
        let mut epochs = Epochs::default();
        assert_eq!(epochs.judge(1), Whose::Unknown);
        epochs.looked();
        epochs.learn(1);
        assert!(!epochs.looked() && epochs.judge(1) == Whose::Own);
        // Of a replica of the server that was late for longer than that.
        assert_eq!(epochs.judge(2), Whose::Unknown);
        assert!(!epochs.looked() && epochs.looked());
        epochs.learn(2);
        assert_eq!([1, 2].map(|epoch| epochs.judge(epoch)), [Whose::Own, Whose::Own]);
    }
}

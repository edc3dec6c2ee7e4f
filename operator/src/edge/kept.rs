//! Handles that outlive a reconcile: one an address and login, shared by the pipelines that have it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The handle of each pipeline, with the address and login that it was made of.
///
/// A handle's clones share what it holds open and what it learnt, such as that its login is refused: so do pipelines of
/// one address and login.
#[derive(Debug)]
pub struct Kept<K, T>(Mutex<BTreeMap<String, (K, T)>>);

impl<K, T> Default for Kept<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: PartialEq, T: Clone> Kept<K, T> {
    /// The kept handle where it was made of `key`, or that of another pipeline which was, else a new one, which is kept
    /// from here on.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn get<E>(&self, pipeline: &str, key: K, make: impl FnOnce(&K) -> Result<T, E>) -> Result<T, E> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.get(pipeline) {
            Some((known, handle)) if *known == key => Ok(handle.clone()),
            // A login that was changed and changed back may have been made good meanwhile.
            had => {
                let others = || kept.values().find(|(known, _)| *known == key);
                let handle = match others().filter(|_| had.is_none()) {
                    Some((_, handle)) => handle.clone(),
                    None => make(&key)?,
                };
                kept.insert(pipeline.to_owned(), (key, handle.clone()));
                Ok(handle)
            }
        }
    }

    /// Does something with every handle, and holds nothing up meanwhile.
    pub fn each(&self, act: impl Fn(&T)) {
        let all: Vec<T> = {
            let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.values().map(|(_, handle)| handle.clone()).collect()
        };
        all.iter().for_each(act);
    }

    /// Forgets a pipeline that is gone.
    pub fn forget(&self, pipeline: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(pipeline);
    }

    /// Forgets the handle of a pipeline for all that share it.
    pub fn give_up(&self, pipeline: &str) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((key, _)) = kept.remove(pipeline) {
            kept.retain(|_, (known, _)| *known != key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_handle_is_kept_until_what_it_is_made_of_changes() -> Result<(), Infallible> {
        let kept = Kept::default();
        let make = |_: &(&str, &str)| Ok::<_, Infallible>(Arc::new(()));
        let get = |pipeline, key| kept.get(pipeline, key, make);
        let first = get("a", ("http://one", "t"))?;
        assert!(Arc::ptr_eq(&first, &get("a", ("http://one", "t"))?));
        assert!(Arc::ptr_eq(&first, &get("b", ("http://one", "t"))?), "shared");
        assert!(!Arc::ptr_eq(&first, &get("c", ("http://two", "t"))?));
        assert!(!Arc::ptr_eq(&first, &get("a", ("http://one", "u"))?));
        // The old login again: it may have been made good meanwhile.
        let second = get("a", ("http://one", "t"))?;
        assert!(!Arc::ptr_eq(&first, &second));
        // What one gives up, none has any more.
        kept.give_up("b");
        assert!(!Arc::ptr_eq(&second, &get("a", ("http://one", "t"))?));
        Ok(())
    }
}

//! Handles that outlive a reconcile: one a pipeline, until what it is made of changes.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The handle of each pipeline, with the address and login that it was made of.
///
/// A handle's clones share what it holds open and what it learnt, such as that its login is refused.
#[derive(Debug)]
pub struct Kept<K, T>(Mutex<BTreeMap<String, (K, T)>>);

impl<K, T> Default for Kept<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: PartialEq, T: Clone> Kept<K, T> {
    /// The kept handle where it was made of `key`, else a new one, which is kept from here on.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn get<E>(&self, pipeline: &str, key: K, make: impl FnOnce(&K) -> Result<T, E>) -> Result<T, E> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.get(pipeline) {
            Some((known, handle)) if *known == key => Ok(handle.clone()),
            _ => {
                let handle = make(&key)?;
                kept.insert(pipeline.to_owned(), (key, handle.clone()));
                Ok(handle)
            }
        }
    }

    /// Forgets a pipeline that is gone.
    pub fn forget(&self, pipeline: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(pipeline);
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
        assert!(!Arc::ptr_eq(&first, &get("b", ("http://one", "t"))?));
        assert!(!Arc::ptr_eq(&first, &get("a", ("http://one", "u"))?));
        // The old login again: it may have been made good meanwhile.
        assert!(!Arc::ptr_eq(&first, &get("a", ("http://one", "t"))?));
        Ok(())
    }
}

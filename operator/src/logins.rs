//! Logins that Grafana refused: five failures lock a user out, people included, so the first is the last until
//! the Secret changes.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::clients::grafana::Login;
use crate::facts::{Failure, FailureClass, Observation};

/// The refused login of each pipeline; can be lost without more harm than one try.
#[derive(Debug, Default)]
pub struct Logins {
    refused: Mutex<BTreeMap<String, (Login, Failure)>>,
}

impl Logins {
    /// The refusal that a login met before, if it is still the same login.
    pub fn refused(&self, pipeline: &str, login: Option<&Login>) -> Option<Failure> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, failure) = refused.get(pipeline)?;
        (Some(known) == login).then(|| failure.clone())
    }

    /// Remembers a refusal, and forgets it when another login was tried.
    pub fn remember<T>(&self, pipeline: &str, login: Option<&Login>, observation: &Observation<T>) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match (observation, login) {
            (Observation::Unreachable(failure), Some(login))
                if failure.class == FailureClass::Authentication =>
            {
                if !refused.contains_key(pipeline) {
                    tracing::warn!(
                        pipeline,
                        "grafana refused the login; it is not tried again until the Secret changes"
                    );
                }
                refused.insert(pipeline.to_owned(), (login.clone(), failure.clone()));
            }
            _ => {
                refused.remove(pipeline);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemark_runtime::credentials::Secret;

    #[test]
    fn a_refused_login_is_tried_once_and_another_one_again() {
        let logins = Logins::default();
        let (old, new) = (Login::Token(Secret::new("old")), Login::Token(Secret::new("new")));
        let failure = Failure { class: FailureClass::Authentication, message: "no".into() };
        assert_eq!(logins.refused("a", Some(&old)), None);
        logins.remember("a", Some(&old), &Observation::<()>::Unreachable(failure.clone()));
        assert_eq!(logins.refused("a", Some(&old)), Some(failure));
        assert_eq!(logins.refused("a", Some(&new)), None);
        logins.remember("a", Some(&new), &Observation::Known(()));
        assert_eq!(logins.refused("a", Some(&old)), None);
    }
}

//! Which pipelines a Secret or ConfigMap concerns, so that those of others cost a look into a map. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use tidemark_crds::names::PipelineName;

use crate::core::credentials::Holder;

/// What a spec names: kind and name.
type Named = (Holder, String);

/// What the running specs name, both ways. A pipeline that was not reconciled yet is going to read it all.
#[derive(Debug, Default)]
pub struct Concerns(Mutex<Maps>);

#[derive(Debug, Default)]
struct Maps {
    named: BTreeMap<PipelineName, BTreeSet<Named>>,
    /// By namespace, kind and name: names of pipelines of that namespace.
    namers: BTreeMap<(String, Named), BTreeSet<String>>,
}

impl Maps {
    fn forget(&mut self, pipeline: &PipelineName) {
        for named in self.named.remove(pipeline).unwrap_or_default() {
            let key = (pipeline.namespace.clone(), named);
            if let Some(namers) = self.namers.get_mut(&key) {
                namers.remove(&pipeline.name);
                if namers.is_empty() {
                    self.namers.remove(&key);
                }
            }
        }
    }
}

impl Concerns {
    /// Notes what the running spec of a pipeline names.
    pub fn note(&self, pipeline: &PipelineName, named: BTreeSet<Named>) {
        let mut maps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if maps.named.get(pipeline) == Some(&named) {
            return;
        }
        maps.forget(pipeline);
        for named in &named {
            let key = (pipeline.namespace.clone(), named.clone());
            maps.namers.entry(key).or_default().insert(pipeline.name.clone());
        }
        maps.named.insert(pipeline.clone(), named);
    }

    /// Forgets a pipeline that is gone.
    pub fn forget(&self, pipeline: &PipelineName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).forget(pipeline);
    }

    /// The pipelines that name an object.
    pub fn of(&self, namespace: &str, holder: Holder, name: &str) -> Vec<String> {
        let maps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let namers = maps.namers.get(&(namespace.to_owned(), (holder, name.to_owned())));
        namers.into_iter().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_concerns_those_that_name_it_in_its_namespace_as_long_as_they_do() {
        let concerns = Concerns::default();
        let pipeline = |name: &str| PipelineName::new("a", name);
        let names = |names: &[(Holder, &str)]| -> BTreeSet<Named> {
            names.iter().map(|(holder, name)| (*holder, (*name).to_owned())).collect()
        };
        let of = |namespace: &str, holder| concerns.of(namespace, holder, "pg");
        concerns.note(&pipeline("shop"), names(&[(Holder::Secret, "pg"), (Holder::ConfigMap, "views")]));
        concerns.note(&pipeline("bank"), names(&[(Holder::Secret, "pg")]));
        assert_eq!(of("a", Holder::Secret), ["bank", "shop"]);
        assert!(of("b", Holder::Secret).is_empty() && of("a", Holder::ConfigMap).is_empty());
        concerns.note(&pipeline("shop"), names(&[(Holder::ConfigMap, "views")]));
        assert_eq!(of("a", Holder::Secret), ["bank"]);
        concerns.forget(&pipeline("bank"));
        concerns.forget(&pipeline("shop"));
        let maps = concerns.0.lock().unwrap();
        assert!(maps.named.is_empty() && maps.namers.is_empty());
    }
}

//! Names of everything that is derived from a pipeline: length-safe and collision-free. Pure.

use sha2::{Digest, Sha256};

/// Field manager of every server-side apply, and the value of `app.kubernetes.io/managed-by`.
pub const FIELD_MANAGER: &str = "tidemark";
/// Characters that the name of a topic may have at most.
pub const LONGEST_TOPIC: usize = 249;
/// Finalizer on every pipeline.
pub const FINALIZER: &str = "tidemark.dev/cleanup";

/// Namespace and name of a pipeline: the root of all derived names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PipelineName {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Name of the resource, at most 40 characters.
    pub name: String,
}

impl std::fmt::Display for PipelineName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl PipelineName {
    /// Builds the name; the API server has checked both parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Eight hexadecimal digits of SHA-256 over `namespace/name`: keeps `a-b/c` apart from `a/b-c`.
    pub fn hash(&self) -> String {
        short_hash(&self.to_string())
    }

    /// Connector in Kafka Connect: `NAMESPACE.NAME-HASH`, at most 113 characters.
    pub fn connector(&self) -> String {
        format!("{}.{}-{}", self.namespace, self.name, self.hash())
    }

    /// Replication slot in PostgreSQL: lower case, digits and underscores, at most 63 characters.
    pub fn replication_slot(&self) -> String {
        let text: String = format!("tidemark_{}_{}", self.namespace, self.name)
            .chars()
            .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '_' })
            .take(54)
            .collect();
        format!("{text}_{}", self.hash())
    }

    /// Publication in PostgreSQL: the slot's name.
    pub fn publication(&self) -> String {
        self.replication_slot()
    }

    /// Consumer group of one incarnation of the state tables.
    pub fn consumer_group(&self, incarnation: &str) -> String {
        format!("tidemark.{}.{}-{}.{incarnation}", self.namespace, self.name, self.hash())
    }

    /// Prefix of the consumer groups of all incarnations.
    pub fn consumer_group_prefix(&self) -> String {
        format!("tidemark.{}.{}-{}.", self.namespace, self.name, self.hash())
    }

    /// Kubernetes objects of the sink: Deployment, ServiceAccount, ConfigMap, Service and so on.
    pub fn sink(&self) -> String {
        format!("{}-sink", self.name)
    }

    /// The `ConfigMap` with the plan that was asked for last.
    pub fn plan(&self) -> String {
        format!("{}-plan", self.name)
    }

    /// Mark in the COMMENT of each ClickHouse object and in the connector's configuration.
    pub fn mark(&self, cluster_uid: &str) -> String {
        format!("tidemark {cluster_uid}/{self}")
    }
}

/// Kafka topics of one Debezium topic prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics<'a> {
    /// Debezium's `topic.prefix`.
    pub prefix: &'a str,
}

impl Topics<'_> {
    /// Topic of a table's events: `PREFIX.SCHEMA.TABLE`, with `_` for each UTF-16 unit that a topic's name cannot have,
    /// as Debezium names it.
    pub fn table(&self, table: &crate::layout::SourceTable) -> String {
        let allowed = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
        let name = format!("{}.{}.{}", self.prefix, table.schema, table.name);
        name.chars().fold(String::with_capacity(name.len()), |mut topic, character| {
            if allowed(character) {
                topic.push(character);
            } else {
                topic.extend(std::iter::repeat_n('_', character.len_utf16()));
            }
            topic
        })
    }

    /// Topic of the heartbeats.
    pub fn heartbeat(&self) -> String {
        format!("__debezium-heartbeat.{}", self.prefix)
    }

    /// Topic of logical messages; without it the connector stops at the first one that it is sent.
    pub fn message(&self) -> String {
        format!("{}.message", self.prefix)
    }

    /// Topic whose name says whose the prefix is: there is never anything in it. `mark` is the pipeline's.
    pub fn owner(&self, mark: &str) -> String {
        let allowed =
            |sign: char| if sign.is_ascii_alphanumeric() || "._-".contains(sign) { sign } else { '_' };
        let owner = mark.strip_prefix("tidemark ").unwrap_or(mark).replace('/', ".");
        format!("{}.owner.{owner}", self.prefix).chars().map(allowed).take(LONGEST_TOPIC).collect()
    }

    /// Whose the prefix is by a topic, `CLUSTER.NAMESPACE.NAME`; `None`: that is not what the topic is for.
    pub fn owner_by<'a>(&self, topic: &'a str) -> Option<&'a str> {
        let owner = topic.strip_prefix(self.prefix)?.strip_prefix(".owner.")?;
        (owner.split('.').count() >= 3).then_some(owner)
    }

    /// Default topic of the dead letters.
    pub fn dead_letter(&self) -> String {
        format!("{}.dead-letter", self.prefix)
    }
}

/// First eight hexadecimal digits of SHA-256.
pub fn short_hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(4).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_different_pipelines_never_meet() {
        let a = PipelineName::new("a-b", "c");
        let b = PipelineName::new("a", "b-c");
        assert_ne!(a.replication_slot(), b.replication_slot());
        assert_ne!(a.connector(), b.connector());
    }

    #[test]
    fn a_table_of_any_name_has_the_topic_that_debezium_writes_to() {
        let topic = |name: &str| Topics { prefix: "p" }.table(&name.parse().unwrap());
        assert_eq!(topic("public.Odd, Na:me;x"), "p.public.Odd__Na_me_x");
        assert_eq!(topic("public.größe 🎁"), "p.public.gr__e___");
    }

    #[test]
    fn whose_a_topic_prefix_is_stands_in_the_name_of_a_topic() {
        let (prefix, other) = (Topics { prefix: "shop" }, Topics { prefix: "shop.eu" });
        let mark = PipelineName::new("ns", "my.shop").mark("11f8-aa");
        let topic = prefix.owner(&mark);
        assert_eq!(topic, "shop.owner.11f8-aa.ns.my.shop");
        assert_eq!((prefix.owner_by(&topic), other.owner_by(&topic)), (Some("11f8-aa.ns.my.shop"), None));
        assert_eq!(prefix.owner_by(&other.owner(&mark)), None);
        assert_eq!(prefix.owner_by("shop.owner.accounts"), None, "a table of a schema of that name");
        let longest = PipelineName::new("n".repeat(63), "p".repeat(40)).mark(&"u".repeat(36));
        let prefix = "t".repeat(100);
        let topic = Topics { prefix: &prefix }.owner(&longest);
        assert!(topic.ends_with('p') && topic.len() <= LONGEST_TOPIC, "{topic}");
    }

    #[test]
    fn the_longest_names_fit_postgresql() {
        let p = PipelineName::new("n".repeat(63), "p".repeat(40));
        assert_eq!(p.replication_slot().len(), 63);
    }
}

//! Kafka Connect: connectors with their states, offsets that outlive them.

use std::collections::BTreeMap;

use tidemark_operator::core::desired::connector::{MARK_KEY, is_ours};
use tidemark_operator::core::effect::ConnectEffect;
use tidemark_operator::core::facts::{ConnectFacts, ConnectorFacts, Failure, OffsetFacts, TaskFacts};

use super::estate::remote;

/// One cluster of workers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Workers {
    /// Address of the brokers that they write to.
    pub(super) kafka: String,
    pub(super) connectors: BTreeMap<String, Connector>,
    /// Position of each connector's source that was stored, whether the connector is there or not.
    pub(super) offsets: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Connector {
    pub(super) config: BTreeMap<String, String>,
    /// State that was asked for.
    pub(super) target: &'static str,
    /// State that it is in.
    pub(super) state: &'static str,
    /// Why its task failed.
    pub(super) error: Option<String>,
}

impl Workers {
    pub(super) fn new(kafka: &str) -> Self {
        Self { kafka: kafka.to_owned(), connectors: BTreeMap::new(), offsets: BTreeMap::new() }
    }

    pub(super) fn look(&self, name: &str, kafka_cluster_id: &str) -> ConnectFacts {
        let connector = self.connectors.get(name).map(|live| ConnectorFacts {
            config: live.config.clone(),
            state: live.state.to_owned(),
            tasks: match live.state {
                "STOPPED" => Vec::new(),
                state => vec![TaskFacts {
                    id: 0,
                    state: if live.error.is_some() { "FAILED".into() } else { state.to_owned() },
                    error: live.error.clone(),
                    is_stuck: false,
                }],
            },
            offset: self.offsets.get(name).map(|lsn| OffsetFacts { lsn: *lsn }),
        });
        ConnectFacts { connector, plugin_installed: true, kafka_cluster_id: kafka_cluster_id.to_owned() }
    }

    pub(super) fn act(&mut self, mark: &str, effect: &ConnectEffect) -> Result<(), Failure> {
        match effect {
            ConnectEffect::Create { name, config } => {
                if self.connectors.contains_key(name) {
                    return Err(remote(format!("connector {name} already exists")));
                }
                let mut config = config.clone();
                config.insert("name".into(), name.clone());
                let made = Connector { config, target: "STOPPED", state: "STOPPED", error: None };
                self.connectors.insert(name.clone(), made);
            }
            ConnectEffect::PutConfig { name, config } => {
                let live = self.own(name, mark)?.ok_or_else(|| remote("no such connector".into()))?;
                live.config = (**config).clone();
                live.config.insert("name".into(), name.clone());
                // It starts its task again.
                live.error = None;
            }
            ConnectEffect::Pause(name) => self.target(name, "PAUSED")?,
            ConnectEffect::Resume(name) => self.target(name, "RUNNING")?,
            ConnectEffect::Stop(name) => self.target(name, "STOPPED")?,
            ConnectEffect::RestartFailed(name) => {
                if let Some(live) = self.connectors.get_mut(name) {
                    live.error = None;
                }
            }
            ConnectEffect::DeleteOffsets(name) => {
                // Connect asks for both: that it was stopped, and that it has no task any more.
                let runs = |live: &mut Connector| [live.state, live.target].iter().any(|it| *it != "STOPPED");
                if self.own(name, mark)?.is_some_and(runs) {
                    return Err(remote("the connector is not stopped".into()));
                }
                self.offsets.remove(name.as_str());
            }
            ConnectEffect::Delete(name) => {
                self.own(name, mark)?;
                self.connectors.remove(name.as_str());
            }
        }
        Ok(())
    }

    fn target(&mut self, name: &str, target: &'static str) -> Result<(), Failure> {
        let live = self.connectors.get_mut(name).ok_or_else(|| remote("no such connector".into()))?;
        live.target = target;
        Ok(())
    }

    /// As the edge looks once more.
    fn own(&mut self, name: &str, mark: &str) -> Result<Option<&mut Connector>, Failure> {
        let is_another = self.connectors.get(name).is_some_and(|live| {
            !is_ours(&ConnectorFacts { config: live.config.clone(), ..ConnectorFacts::default() }, mark)
        });
        if is_another {
            return Err(remote(format!("connector {name} is another one than a moment ago")));
        }
        Ok(self.connectors.get_mut(name))
    }
}

impl Connector {
    pub(super) fn setting(&self, key: &str) -> &str {
        self.config.get(key).map_or("", String::as_str)
    }

    /// One of somebody else under a name of ours.
    pub(super) fn foreign() -> Self {
        let config = [(MARK_KEY, "tidemark another/ns/shop"), ("connector.class", "theirs")];
        Self {
            config: config.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            target: "RUNNING",
            state: "RUNNING",
            error: None,
        }
    }
}

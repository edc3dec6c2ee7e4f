//! The components as they are reached from beside the cluster, through node ports. I/O.

use std::collections::BTreeMap;

use anyhow::Context;
use tokio_postgres::Client;

use super::kafka::Kafka;
use crate::oracle::Endpoint;
use crate::shop;
use crate::stack::{Role, SHOP_DATABASE, User};

/// Addresses of the components, `HOST:PORT`.
#[derive(Debug, Clone)]
pub struct Addresses {
    postgres: String,
    kafka: String,
    connect: String,
    clickhouse: String,
}

impl Addresses {
    /// Reads what `e2e/kind/components addresses` prints.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let all: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let one = |name: &str| {
            let address = all.get(name).with_context(|| format!("no address of {name} in {text:?}"))?;
            anyhow::Ok((*address).to_owned())
        };
        Ok(Self {
            postgres: one("POSTGRES")?,
            kafka: one("KAFKA")?,
            connect: one("CONNECT")?,
            clickhouse: one("CLICKHOUSE_HTTP")?,
        })
    }

    /// Connects to the shop's database.
    pub async fn postgres(&self, role: Role) -> anyhow::Result<Client> {
        let (user, password) = (role.name(), role.password());
        shop::connect(&format!("postgres://{user}:{password}@{}/{SHOP_DATABASE}", self.postgres)).await
    }

    /// Returns ClickHouse as one of its users sees it.
    pub fn clickhouse(&self, user: User) -> anyhow::Result<Endpoint> {
        Endpoint::new(&format!("http://{}", self.clickhouse), user.name(), user.password())
    }

    /// Returns where ClickHouse's HTTP interface is, `HOST:PORT`.
    pub fn clickhouse_http(&self) -> &str {
        &self.clickhouse
    }

    /// Returns a client of Kafka.
    pub fn kafka(&self) -> Kafka {
        Kafka::new(&self.kafka)
    }

    /// Returns the status and the body of a GET at Connect's REST interface; `path` begins with a slash.
    pub async fn connect(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let client = tidemark_runtime::http::builder().timeout(std::time::Duration::from_secs(10)).build()?;
        let answer = client
            .get(format!("http://{}{path}", self.connect))
            .send()
            .await
            .with_context(|| format!("asking Connect for {path}"))?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_without_an_address_is_named() {
        let error = Addresses::parse("POSTGRES=10.0.0.1:1\nKAFKA=10.0.0.1:2\n").unwrap_err();
        assert!(error.to_string().contains("no address of CONNECT"), "{error}");
    }
}

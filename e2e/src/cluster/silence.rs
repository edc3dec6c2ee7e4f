//! What the operator has written, counted by those it writes to. I/O.
//!
//! Nobody's word is taken for it but that of the API server (its audit log, and the version of each object), of
//! ClickHouse (its query log, by the address of the operator's pod), of Connect (the topic that holds every change
//! of a connector) and of PostgreSQL (the rows of its catalogue). Leases are left out.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::{Cluster, OPERATOR, Pipeline};
use crate::stack::{Role, User};

/// Topics that every change of a connector, and every restart of it, adds a record to.
const CONNECTOR_CHANGES: &str = "_connect_configs";
/// Labels of the operator's pods.
pub(super) const OPERATOR_SELECTOR: &str = "app.kubernetes.io/name=tidemark";

/// A picture of everything that belongs to a pipeline, equal to a later one if nothing was written in between.
#[derive(Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Each object of the namespace that is the pipeline or belongs to it, with its version.
    pub objects: BTreeMap<String, String>,
    /// Records of Connect's configuration topic.
    pub connector_changes: i64,
    /// Rows of the publication and the slot in PostgreSQL's catalogue, with their versions.
    pub catalogue: Vec<String>,
}

/// What the operator's pods have done since a moment.
#[derive(Debug, Default)]
pub struct Writes {
    /// Requests that change something, by the API server's audit log, without Leases.
    pub kubernetes: Vec<String>,
    /// Requests for Leases, which show that the audit log has its eye on the operator.
    pub leases: usize,
    /// Statements that change something, by ClickHouse's query log.
    pub clickhouse: Vec<String>,
    /// Other statements, which show that the query log has its eye on the operator.
    pub clickhouse_reads: usize,
}

impl Cluster {
    /// Takes the picture of a pipeline.
    pub async fn footprint(&self, pipeline: &Pipeline<'_>) -> anyhow::Result<Footprint> {
        let kafka = self.addresses().kafka();
        Ok(Footprint {
            objects: self.objects(pipeline).await?,
            connector_changes: kafka.records(CONNECTOR_CHANGES).await?,
            catalogue: self.catalogue(pipeline).await?,
        })
    }

    /// Returns the addresses of the operator's pods.
    pub async fn operator_addresses(&self) -> anyhow::Result<Vec<String>> {
        let list =
            self.kubectl().get(&["pods", "--namespace", OPERATOR, "--selector", OPERATOR_SELECTOR]).await?;
        let pods = list["items"].as_array().context("a list of pods")?;
        Ok(pods.iter().filter_map(|pod| pod["status"]["podIP"].as_str().map(str::to_owned)).collect())
    }

    /// Kills the operator's pod and returns its name.
    pub async fn kill_operator(&self) -> anyhow::Result<String> {
        self.kubectl().kill_pod(OPERATOR, OPERATOR_SELECTOR).await
    }

    /// Returns what the operator at these addresses has done since `moment`, microseconds since 1970.
    pub async fn operator_writes(&self, moment: i64, addresses: &[String]) -> anyhow::Result<Writes> {
        let mut writes = Writes::default();
        self.audited(moment, &mut writes).await?;
        self.query_log(moment, addresses, &mut writes).await?;
        Ok(writes)
    }

    async fn objects(&self, pipeline: &Pipeline<'_>) -> anyhow::Result<BTreeMap<String, String>> {
        let kinds = "analyticspipelines,deployments,configmaps,services,serviceaccounts,secrets,\
                     poddisruptionbudgets,networkpolicies,controllerrevisions,events";
        let list = self.kubectl().get(&[kinds, "--namespace", &pipeline.name().namespace]).await?;
        let items = list["items"].as_array().context("a list of objects")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let ours = |item: &&Value| match item["kind"].as_str() {
            Some("AnalyticsPipeline") => true,
            Some("Event") => item["involvedObject"]["kind"] == "AnalyticsPipeline",
            _ => item["metadata"]["ownerReferences"]
                .as_array()
                .is_some_and(|owners| owners.iter().any(|owner| owner["kind"] == "AnalyticsPipeline")),
        };
        let versions: BTreeMap<String, String> = items
            .iter()
            .filter(ours)
            .map(|item| {
                let name = format!("{} {}", text(&item["kind"]), text(&item["metadata"]["name"]));
                (name, text(&item["metadata"]["resourceVersion"]))
            })
            .collect();
        ensure!(versions.len() > 1, "the pipeline owns nothing: {versions:?}");
        Ok(versions)
    }

    async fn catalogue(&self, pipeline: &Pipeline<'_>) -> anyhow::Result<Vec<String>> {
        let postgres = self.addresses().postgres(Role::Superuser).await?;
        let name = pipeline.name();
        let rows = postgres
            .query(
                "SELECT 'publication ' || oid || ' ' || xmin FROM pg_publication WHERE pubname = $1::text
                 UNION ALL SELECT 'table ' || r.oid || ' ' || r.xmin FROM pg_publication_rel r
                 JOIN pg_publication p ON p.oid = r.prpubid WHERE p.pubname = $1::text
                 UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE slot_name = $2::text
                 ORDER BY 1",
                &[&name.publication(), &name.replication_slot()],
            )
            .await
            .context("reading PostgreSQL's catalogue")?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Reads the audit log, which `e2e/kind/audit-policy.yaml` restricts to the writes of the operator.
    async fn audited(&self, moment: i64, writes: &mut Writes) -> anyhow::Result<()> {
        let log = self
            .kubectl()
            .run(&["logs", "--namespace", "kube-system", "--selector=component=kube-apiserver", "--tail=-1"])
            .await?;
        for line in log.lines().filter(|line| line.starts_with('{')) {
            let Ok(entry) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            let Some(received) = entry["requestReceivedTimestamp"].as_str() else {
                continue;
            };
            let received: jiff::Timestamp = received.parse().context("the time of an audit entry")?;
            if received.as_microsecond() < moment {
                continue;
            }
            if entry["objectRef"]["resource"] == "leases" {
                writes.leases += 1;
            } else {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                writes.kubernetes.push(format!("{} {}", text(&entry["verb"]), text(&entry["requestURI"])));
            }
        }
        Ok(())
    }

    async fn query_log(&self, moment: i64, addresses: &[String], writes: &mut Writes) -> anyhow::Result<()> {
        let clickhouse = self.addresses().clickhouse(User::Tidemark)?;
        let list: Vec<String> = addresses.iter().map(|address| format!("'::ffff:{address}'")).collect();
        let query = format!(
            "SELECT query_kind, substring(query, 1, 200) FROM system.query_log
             WHERE event_time_microseconds >= fromUnixTimestamp64Micro({moment}) AND type != 'QueryStart'
               AND toString(initial_address) IN ({}) ORDER BY event_time_microseconds",
            list.join(", ")
        );
        for (kind, text) in clickhouse.rows::<(String, String)>(&query, &[]).await? {
            if matches!(kind.as_str(), "Select" | "Show" | "Describe" | "Explain" | "Exists" | "Use") {
                writes.clickhouse_reads += 1;
            } else {
                writes.clickhouse.push(format!("{kind}: {text}"));
            }
        }
        Ok(())
    }
}

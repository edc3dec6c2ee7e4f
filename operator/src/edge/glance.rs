//! Glances between two looks: how sinks and connector are. I/O, read only.

use tidemark_crds::names::PipelineName;
use tidemark_crds::pipeline::AnalyticsPipelineSpec;

use super::{clickhouse, connect};
use crate::core::facts::Observation;
use crate::core::rest::Glance;
use crate::edge::systems::{Access, Systems};

/// Glances at ClickHouse and Kafka Connect; `None` where one of them gives no answer.
pub async fn glance(
    systems: &Systems,
    spec: &AnalyticsPipelineSpec,
    name: &PipelineName,
    now_ms: i64,
) -> Option<Glance> {
    let (pipeline, connector) = (name.to_string(), name.connector());
    let (Access::Open(server), Access::Open(workers)) = (&systems.clickhouse, &systems.connect) else {
        return None;
    };
    let (sinks, connector) = tokio::join!(
        clickhouse::look::pulse(server, &spec.clickhouse.database, &pipeline),
        connect::look::pulse(workers, &connector)
    );
    let Observation::Known(sinks) = sinks else { return None };
    let mut glance = Glance::default();
    glance.see(sinks.states, sinks.reads, &sinks.progress, now_ms);
    glance.connector = match connector {
        Observation::Known(live) => Some(Glance::of_connector(&live)),
        Observation::Absent => None,
        Observation::Unreachable(_) | Observation::NotAsked => return None,
    };
    Some(glance)
}

//! Looks at every system: side by side, each under its own deadline. I/O, read only.

pub mod clickhouse;
pub mod connect;
pub mod kafka;
pub mod kubernetes;
pub mod postgres;

use tidemark_crds::layout::SourceTable;
use tidemark_crds::names::{PipelineName, Topics};
use tidemark_crds::pipeline::AnalyticsPipelineSpec;

use self::kafka::KafkaQuestion;
use crate::facts::Observed;
use crate::systems::{Access, Systems};

/// Looks at everything; `incarnation` is that of the last look, and names the consumer group.
pub async fn observe(
    systems: &Systems,
    spec: &AnalyticsPipelineSpec,
    name: &PipelineName,
    mark: &str,
    incarnation: Option<&str>,
) -> Observed {
    let wanted = spec.all_tables();
    let sources: Vec<SourceTable> = wanted.iter().filter_map(|table| table.name.parse().ok()).collect();
    let targets: Vec<String> = wanted.iter().map(|table| table.target_name().to_owned()).collect();
    let topics = Topics { prefix: &spec.kafka.topic_prefix };
    let question = KafkaQuestion {
        table_topics: sources.iter().map(|source| topics.table(source)).collect(),
        prefix: spec.kafka.topic_prefix.clone(),
        group: incarnation.map(|incarnation| name.consumer_group(incarnation)),
        group_prefix: name.consumer_group_prefix(),
    };
    let (publication, slot, connector, pipeline) =
        (name.publication(), name.replication_slot(), name.connector(), name.to_string());
    let postgres = async {
        match &systems.postgres {
            Access::Open(target) => postgres::observe(target, &sources, &publication, &slot, mark).await,
            closed => closed.closed(),
        }
    };
    let kafka = async {
        match &systems.kafka {
            Access::Open(admin) => kafka::observe(admin, &question).await,
            closed => closed.closed(),
        }
    };
    let connect = async {
        match &systems.connect {
            Access::Open(client) => connect::observe(client, &connector).await,
            closed => closed.closed(),
        }
    };
    let clickhouse = async {
        match &systems.clickhouse {
            Access::Open(client) => {
                clickhouse::observe(client, &spec.clickhouse.database, &pipeline, &targets).await
            }
            closed => closed.closed(),
        }
    };
    let kubernetes = kubernetes::observe(&systems.objects, name);
    let (postgres, kafka, connect, clickhouse, kubernetes) = tokio::join!(
        Box::pin(postgres),
        Box::pin(kafka),
        Box::pin(connect),
        Box::pin(clickhouse),
        kubernetes
    );
    Observed { postgres, kafka, connect, clickhouse, kubernetes }
}

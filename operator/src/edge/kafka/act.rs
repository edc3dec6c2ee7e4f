//! Carries out one write to Kafka. I/O.

use crate::core::effect::KafkaEffect;
use crate::core::facts::Failure;
use crate::edge::kafka::client::KafkaAdmin;

/// Carries out one write; each call has the client's deadline.
pub async fn execute(admin: &KafkaAdmin, effect: &KafkaEffect) -> Result<(), Failure> {
    match effect {
        KafkaEffect::CreateTopic { name, partitions, replication_factor, config } => {
            admin.create_topic(name, *partitions, *replication_factor, config).await
        }
        KafkaEffect::AlterTopic { name, config } => admin.alter_topic(name, config).await,
        KafkaEffect::DeleteTopics(names) => admin.delete_topics(names).await,
        KafkaEffect::DeleteGroup(id) => admin.delete_group(id).await,
    }
}

//! Carries out one write to Kafka Connect. I/O.

use crate::clients::connect::Connect;
use crate::effect::ConnectEffect;
use crate::facts::Failure;

/// Carries out one write; each call has the client's deadline.
pub async fn execute(connect: &Connect, effect: &ConnectEffect) -> Result<(), Failure> {
    match effect {
        ConnectEffect::Create { name, config } => connect.create_stopped(name, config).await,
        ConnectEffect::PutConfig { name, config } => connect.put_config(name, config).await,
        ConnectEffect::Pause(name) => connect.set_state(name, "pause").await,
        ConnectEffect::Resume(name) => connect.set_state(name, "resume").await,
        ConnectEffect::Stop(name) => connect.set_state(name, "stop").await,
        ConnectEffect::RestartFailed(name) => connect.restart_failed(name).await,
        ConnectEffect::DeleteOffsets(name) => connect.delete_offsets(name).await,
        ConnectEffect::Delete(name) => connect.delete(name).await,
    }
}

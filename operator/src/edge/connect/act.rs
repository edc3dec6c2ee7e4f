//! Carries out one write to Kafka Connect. I/O.

use crate::core::desired::connector::MARK_KEY;
use crate::core::effect::ConnectEffect;
use crate::core::facts::{Failure, FailureClass};
use crate::edge::connect::client::Connect;
use crate::edge::failure::failure;

/// Carries out one write of the pipeline of `mark`; each call has the client's deadline.
pub async fn execute(connect: &Connect, mark: &str, effect: &ConnectEffect) -> Result<(), Failure> {
    match effect {
        ConnectEffect::Create { name, config } => connect.create_stopped(name, config).await,
        ConnectEffect::PutConfig { name, config } => {
            still_ours(connect, name, mark).await?;
            connect.put_config(name, config).await
        }
        ConnectEffect::Pause(name) => connect.set_state(name, "pause").await,
        ConnectEffect::Resume(name) => connect.set_state(name, "resume").await,
        ConnectEffect::Stop(name) => connect.set_state(name, "stop").await,
        ConnectEffect::RestartFailed(name) => connect.restart_failed(name).await,
        ConnectEffect::DeleteOffsets(name) => {
            still_ours(connect, name, mark).await?;
            connect.delete_offsets(name).await
        }
        ConnectEffect::Delete(name) => {
            still_ours(connect, name, mark).await?;
            connect.delete(name).await
        }
    }
}

/// Looks once more: another connector may have come under the name since it was planned. One that is gone is nobody's.
async fn still_ours(connect: &Connect, name: &str, mark: &str) -> Result<(), Failure> {
    let config: Option<std::collections::BTreeMap<String, Option<String>>> =
        connect.get(&["connectors", name, "config"]).await?;
    match config.as_ref().map(|config| config.get(MARK_KEY)) {
        Some(Some(Some(found))) if found == mark => Ok(()),
        None => Ok(()),
        Some(_) => {
            let text = format!("connector {name} is another one than a moment ago: it is left alone");
            Err(failure(FailureClass::Remote, text))
        }
    }
}

//! Carries out one write to Grafana. I/O.

use reqwest::Method;
use serde_json::json;

use crate::core::desired::grafana::owned::{ObjectName, Own};
use crate::core::effect::{GrafanaCall, GrafanaEffect, Saving, Verb};
use crate::core::facts::{Failure, FailureClass};
use crate::edge::failure::failure;
use crate::edge::grafana::client::Grafana;
use crate::edge::grafana::look;

/// Carries out one write; the call has the client's deadline.
pub async fn execute(grafana: &Grafana, effect: &GrafanaEffect) -> Result<(), Failure> {
    match &effect.call {
        GrafanaCall::Save(saving) => save(grafana, saving).await,
        GrafanaCall::Delete(own) => delete(grafana, own).await,
    }
}

/// Looks once more, and deletes: somebody may have made the object theirs, or put something into the folder, since it was
/// planned. What is gone is as it should be.
async fn delete(grafana: &Grafana, own: &Own) -> Result<(), Failure> {
    let path = own.path();
    let Some(live) = grafana.get(&path, &[]).await? else { return Ok(()) };
    let is_still = match &**own {
        ObjectName::Folder(uid) => {
            let id = live["id"].as_i64().unwrap_or(0);
            look::boards_in(grafana, uid, id).await?.is_empty() && !look::has_subfolders(grafana, uid).await?
        }
        _ => own.is_still(&live),
    };
    if !is_still {
        let text = format!("{} is another one than a moment ago: it is left alone", path[1..].join("/"));
        return Err(failure(FailureClass::Remote, text));
    }
    grafana.send(Method::DELETE, &path, None, &[]).await.map(drop)
}

async fn save(grafana: &Grafana, saving: &Saving) -> Result<(), Failure> {
    let mut body = saving.body.clone();
    let mut secrets = Vec::new();
    if let Some(password) = &saving.password {
        body["secureJsonData"] = json!({"password": password.expose()});
        secrets.push(password.expose());
    }
    let path: Vec<&str> = saving.path.iter().map(String::as_str).collect();
    let answer = grafana.send(method(saving.verb), &path, Some(&body), &secrets).await?;
    if let (Some(asked), Some(answer)) = (&saving.uid, &answer)
        && answer["uid"].as_str() != Some(asked)
    {
        let text = format!("grafana saved the dashboard as {} and not as {asked}", answer["uid"]);
        return Err(failure(FailureClass::Remote, text));
    }
    match answer {
        None => Err(failure(FailureClass::Remote, format!("grafana has no {}", saving.path.join("/")))),
        Some(_) => Ok(()),
    }
}

fn method(verb: Verb) -> Method {
    match verb {
        Verb::Post => Method::POST,
        Verb::Put => Method::PUT,
    }
}

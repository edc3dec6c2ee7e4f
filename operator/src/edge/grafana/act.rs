//! Carries out one write to Grafana. I/O.

use reqwest::Method;
use serde_json::json;

use crate::core::effect::{GrafanaEffect, Verb};
use crate::core::facts::{Failure, FailureClass};
use crate::edge::failure::failure;
use crate::edge::grafana::client::Grafana;

/// Carries out one write; the call has the client's deadline.
pub async fn execute(grafana: &Grafana, effect: &GrafanaEffect) -> Result<(), Failure> {
    let mut body = effect.body.clone();
    let mut secrets = Vec::new();
    if let (Some(body), Some(password)) = (&mut body, &effect.password) {
        body["secureJsonData"] = json!({"password": password.expose()});
        secrets.push(password.expose());
    }
    let path: Vec<&str> = effect.path.iter().map(String::as_str).collect();
    let answer = grafana.send(method(effect.verb), &path, body.as_ref(), &secrets).await?;
    if let (Some(asked), Some(answer)) = (&effect.uid, &answer)
        && answer["uid"].as_str() != Some(asked)
    {
        let text = format!("grafana saved the dashboard as {} and not as {asked}", answer["uid"]);
        return Err(failure(FailureClass::Remote, text));
    }
    match answer {
        // What is gone is as it should be.
        None if effect.verb == Verb::Delete => Ok(()),
        None => Err(failure(FailureClass::Remote, format!("grafana has no {}", effect.path.join("/")))),
        Some(_) => Ok(()),
    }
}

fn method(verb: Verb) -> Method {
    match verb {
        Verb::Post => Method::POST,
        Verb::Put => Method::PUT,
        Verb::Delete => Method::DELETE,
    }
}

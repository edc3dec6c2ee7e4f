//! Which properties of a connector hold secrets. Pure.

/// Ends of the names of properties that hold secrets: `spec.source.connect.config` takes them as placeholders alone.
pub const ENDINGS: [&str; 7] =
    ["password", "secret", "token", "jaas.config", "keystore.key", "user.info", "secret.access.key"];

/// What else a name may have in it whose value is better not shown.
const PARTS: [&str; 5] = ["password", "passphrase", "secret", "jaas", "credential"];

/// Whether the value of a property may be a secret: then it is in no log, plan, status or error.
pub fn is_secret(property: &str) -> bool {
    let name = property.to_ascii_lowercase();
    ENDINGS.iter().any(|ending| name.ends_with(ending)) || PARTS.iter().any(|part| name.contains(part))
}

/// Whether a value is a placeholder that Connect resolves, and so no secret itself.
pub fn is_placeholder(value: &str) -> bool {
    value.starts_with("${")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_schema_refuses_and_what_is_hidden_are_one_table() {
        let definition = crate::manifest::definition().to_string();
        let rule = definition.split("connect.config may not hold a secret").nth(1).unwrap_or_default();
        let rule = rule.split('}').nth(1).unwrap_or_default();
        let mut found: Vec<&str> =
            rule.split("endsWith('").skip(1).filter_map(|rest| rest.split('\'').next()).collect();
        let mut known = ENDINGS.to_vec();
        found.sort_unstable();
        known.sort_unstable();
        assert_eq!(found, known);
    }

    #[test]
    fn a_secret_is_known_by_its_name_however_it_is_written() {
        for property in [
            "database.password",
            "signal.consumer.sasl.jaas.config",
            "producer.override.sasl.jaas.config",
            "database.ssl.keyPassword",
            "schema.registry.basic.auth.user.info",
            "aws.secret.access.key",
            "oauth.client.secret.id",
            "sasl.oauthbearer.token",
        ] {
            assert!(is_secret(property), "{property}");
        }
        for property in ["database.user", "sasl.oauthbearer.token.endpoint.url", "slot.name", "key.converter"]
        {
            assert!(!is_secret(property), "{property}");
        }
    }
}

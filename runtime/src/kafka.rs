//! librdkafka client properties from the sink's configuration or from secrets in memory. I/O: reads
//! credential files; connects nowhere.

use std::fs;

use rdkafka::ClientConfig;
use tidemark_crds::sink_config::KafkaConfig;

use crate::credentials::{Credentials, Secret};

/// How to reach a Kafka cluster, with the secrets themselves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Connection {
    /// `host:port[,host:port]`.
    pub bootstrap_servers: String,
    /// TLS, absent for plain text.
    pub tls: Option<Tls>,
    /// SASL, absent for none.
    pub sasl: Option<Sasl>,
}

/// TLS material of a Kafka connection, PEM texts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Tls {
    /// Certificate authority; absent: the system's.
    pub ca: Option<String>,
    /// Client certificate.
    pub certificate: Option<String>,
    /// Client key.
    pub key: Option<Secret>,
}

/// SASL of a Kafka connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sasl {
    /// librdkafka's name of the mechanism, such as `SCRAM-SHA-512`.
    pub mechanism: String,
    /// User and password.
    pub credentials: Credentials,
}

/// A file of the Kafka configuration that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("kafka {what} file {path:?} cannot be read: {source}; mount the Secret that has it")]
pub struct UnreadableFile {
    what: &'static str,
    path: String,
    source: std::io::Error,
}

impl Connection {
    /// Reads the mounted files of the sink's configuration as they are now.
    pub fn read(config: &KafkaConfig) -> Result<Self, UnreadableFile> {
        let file = |what: &'static str, path: &String| {
            fs::read_to_string(path).map_err(|source| UnreadableFile { what, path: path.clone(), source })
        };
        let line = |what, path| file(what, path).map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
        let tls = config
            .tls
            .as_ref()
            .map(|tls| {
                Ok(Tls {
                    ca: tls.ca.as_ref().map(|path| file("ca", path)).transpose()?,
                    certificate: tls
                        .certificate
                        .as_ref()
                        .map(|path| file("certificate", path))
                        .transpose()?,
                    key: tls.key.as_ref().map(|path| file("key", path)).transpose()?.map(Secret::new),
                })
            })
            .transpose()?;
        let sasl = config
            .sasl
            .as_ref()
            .map(|sasl| {
                let username = line("username", &sasl.username_file)?;
                let password = line("password", &sasl.password_file)?;
                Ok(Sasl {
                    mechanism: sasl.mechanism.clone(),
                    credentials: Credentials::new(username, password),
                })
            })
            .transpose()?;
        Ok(Self { bootstrap_servers: config.bootstrap_servers.clone(), tls, sasl })
    }

    /// Properties that every client of this cluster shares: address, security, identity.
    pub fn client_config(&self, client_id: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap_servers).set("client.id", client_id);
        // A broker that moves to another address is found again within seconds.
        config.set("broker.address.ttl", "5000").set("reconnect.backoff.max.ms", "3000");
        config.set(
            "security.protocol",
            match (&self.tls, &self.sasl) {
                (None, None) => "plaintext",
                (Some(_), None) => "ssl",
                (None, Some(_)) => "sasl_plaintext",
                (Some(_), Some(_)) => "sasl_ssl",
            },
        );
        if let Some(tls) = &self.tls {
            for (name, value) in [("ssl.ca.pem", &tls.ca), ("ssl.certificate.pem", &tls.certificate)] {
                if let Some(pem) = value {
                    config.set(name, pem);
                }
            }
            if let Some(key) = &tls.key {
                config.set("ssl.key.pem", key.expose());
            }
        }
        if let Some(sasl) = &self.sasl {
            config
                .set("sasl.mechanism", &sasl.mechanism)
                .set("sasl.username", &sasl.credentials.username)
                .set("sasl.password", sasl.credentials.password.expose());
        }
        config
    }

    /// Properties of a producer that loses nothing that it was told was written.
    pub fn producer_config(&self, client_id: &str) -> ClientConfig {
        let mut config = self.client_config(client_id);
        config
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            .set("delivery.timeout.ms", "30000");
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scram_user_over_tls_becomes_sasl_ssl_and_its_password_stays_out_of_debug_output() {
        let connection = Connection {
            bootstrap_servers: "kafka:9093".into(),
            tls: Some(Tls { ca: Some("PEM".into()), ..Tls::default() }),
            sasl: Some(Sasl {
                mechanism: "SCRAM-SHA-512".into(),
                credentials: Credentials::new("shop", "hunter2"),
            }),
        };
        let config = connection.client_config("test");
        assert_eq!(config.get("security.protocol"), Some("sasl_ssl"));
        assert_eq!(config.get("ssl.ca.pem"), Some("PEM"));
        assert_eq!(config.get("sasl.password"), Some("hunter2"));
        assert!(!format!("{connection:?}").contains("hunter2"));
    }

    #[test]
    fn files_are_read_without_their_last_line_break() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        fs::write(path("user"), "shop\n").unwrap();
        fs::write(path("password"), "hunter2\n").unwrap();
        let text = format!(
            r#"{{"bootstrapServers":"k:9092","groupId":"g","topicPrefix":"p","heartbeatTopic":"h","maxMessageBytes":1,
                "sasl":{{"mechanism":"PLAIN","usernameFile":"{}","passwordFile":"{}"}}}}"#,
            path("user"),
            path("password")
        );
        let config: KafkaConfig = serde_json::from_str(&text).unwrap();
        let connection = Connection::read(&config).unwrap();
        assert_eq!(connection.sasl.unwrap().credentials, Credentials::new("shop", "hunter2"));
        assert!(connection.tls.is_none());
    }
}

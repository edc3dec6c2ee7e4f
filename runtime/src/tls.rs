//! TLS: who signs a server's certificate, whether its name counts, and why it was refused. I/O: reads the system's
//! certificates.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::foreign::{Hidden, Text};

/// Builds the TLS configuration; `pem` absent: the system's authorities. Without `check_name` any name that
/// the authority vouches for will do.
///
/// # Errors
/// What is wrong with the authority, in words.
pub fn client_config(pem: Option<&str>, check_name: bool) -> Result<ClientConfig, String> {
    // A second call finds the provider installed, which is just as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bad = |text: String| format!("the certificate authority is not valid: {text}");
    let mut roots = RootCertStore::empty();
    if let Some(pem) = pem {
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|error| bad(error.to_string()))?;
            roots.add(certificate).map_err(|error| bad(error.to_string()))?;
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if roots.is_empty() {
        return Err(bad("it has no certificate".to_owned()));
    }
    if check_name {
        return Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
    }
    let inner =
        WebPkiServerVerifier::builder(Arc::new(roots)).build().map_err(|error| bad(error.to_string()))?;
    Ok(ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyName(inner)))
        .with_no_client_auth())
}

/// Why TLS refused a server, where an error comes of that; names of its certificate are its own words.
pub fn refusal(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(refused) = error.downcast_ref::<Error>() {
        return Some(Text::new(refused.to_string()).shown(&Hidden::default()));
    }
    // The source of an error of the system is that of what it wraps, which may be the one looked for.
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let wrapped = wrapped.and_then(|inner| refusal(inner));
    wrapped.or_else(|| error.source().and_then(refusal))
}

/// Checks everything but the host name: PostgreSQL's `verify-ca`.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The name is looked at after the signature, validity and usage passed.
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_that_is_no_certificate_is_refused() {
        assert!(client_config(Some("no pem"), true).is_err());
    }
}

//! TLS to servers whose certificates the user trusts by a file: certificates in it, and those signed by an authority in
//! it.

use std::fmt;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error as TlsError, OtherError,
    RootCertStore, SignatureScheme, StreamOwned,
};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use crate::text_file;

/// Makes TLS connections that trust the certificates of a file. Without one it does nothing, so that the next connector
/// uses the system's certificates.
#[derive(Default)]
pub(super) struct TrustingConnector(Option<Arc<ClientConfig>>);

impl TrustingConnector {
    /// Creates a connector that trusts the certificates in `file`. The error is one line.
    pub(super) fn new(file: &Path) -> Result<Self, String> {
        let shown = file.display();
        let pem = text_file::read(file, text_file::MAX_SETTINGS)
            .map_err(|error| format!("cannot read the certificates in {shown}: {}", text_file::reason(&error)))?;
        if text_file::is_utf_16(&pem) {
            return Err(format!("{shown} is UTF-16 or UTF-32, not PEM"));
        }
        let named: Vec<_> =
            CertificateDer::pem_slice_iter(text_file::without_bom(&pem)).filter_map(Result::ok).collect();
        if named.is_empty() {
            return Err(format!("{shown} contains no PEM certificate"));
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(named.iter().cloned());
        let unusable = |error: &dyn fmt::Display| format!("cannot use the certificates in {shown}: {error}");
        let provider = Arc::new(default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| unusable(&error))?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?
            .dangerous() // the verifier asks the library's own one first
            .with_custom_certificate_verifier(Arc::new(Verifier { verifier, named }))
            .with_no_client_auth();
        Ok(Self(Some(Arc::new(config))))
    }
}

/// Trusts what the library trusts, and each certificate in the file, even if it is an authority's or names no host.
/// `openssl req -x509` creates such certificates: self-signed, of an authority, without a subjectAltName.
#[derive(Debug)]
struct Verifier {
    verifier: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        match self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // By now its validity period has been checked, but not its name.
            Err(TlsError::InvalidCertificate(error)) if is_unsigned(&error) && self.named.contains(end_entity) => {
                match verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name) {
                    // Only the server that the file means has its key.
                    Err(TlsError::InvalidCertificate(error)) if is_nameless(&error) => {}
                    verified => verified?,
                }
                Ok(ServerCertVerified::assertion())
            }
            Err(TlsError::InvalidCertificate(error)) if is_unsigned(&error) => {
                let other = OtherError(Arc::new(NotNamed { is_self_signed: is_authority(&error) }));
                Err(TlsError::InvalidCertificate(CertificateError::Other(other)))
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// The file contains neither the server's certificate nor its issuer's.
#[derive(Debug, thiserror::Error)]
#[error("not the certificate in the file")]
pub(super) struct NotNamed {
    pub(super) is_self_signed: bool,
}

/// Whether a certificate was rejected because it names no host.
fn is_nameless(error: &CertificateError) -> bool {
    matches!(error, CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty())
}

/// Whether a certificate was rejected only because of its issuer.
fn is_unsigned(error: &CertificateError) -> bool {
    *error == CertificateError::UnknownIssuer || is_authority(error)
}

/// Whether a certificate was rejected because it is an authority's. The library has no error of its own for that.
pub(super) fn is_authority(error: &CertificateError) -> bool {
    matches!(error, CertificateError::Other(other) if other.0.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity))
}

impl<In: Transport> Connector<In> for TrustingConnector {
    type Out = Either<In, Encrypted>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else { return Ok(None) };
        let Some(config) = self.0.as_ref().filter(|_| details.needs_tls() && !transport.is_tls()) else {
            return Ok(Some(Either::A(transport)));
        };
        let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|_| Error::Tls("a certificate cannot name its host"))?;
        let mut tls = ClientConnection::new(Arc::clone(config), name)?;
        let mut adapter = TransportAdapter::new(transport.boxed(), Arc::clone(&details.current_time));
        adapter.set_timeout(details.timeout);
        tls.complete_io(&mut adapter)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(Encrypted { buffers, stream: StreamOwned::new(tls, adapter) })))
    }
}

impl fmt::Debug for TrustingConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustingConnector").finish_non_exhaustive()
    }
}

/// An encrypted connection.
pub(super) struct Encrypted {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl Transport for Encrypted {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.get_mut().set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.get_mut().set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for Encrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encrypted").finish_non_exhaustive()
    }
}

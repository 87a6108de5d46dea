//! Explains why a connection cannot be made, now or later, and what to do.

use jiff::Timestamp;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{CertificateError, Error as TlsError, OtherError};
use ureq::Error;

use super::tls::{NotNamed, is_authority};

/// Returns why TLS or a proxy refuses the connection, and what to do; `None` for errors that may be temporary.
pub(crate) fn refusal(error: &Error) -> Option<String> {
    match error {
        Error::Rustls(error) => tls(error),
        Error::Io(error) => tls(error.get_ref()?.downcast_ref()?),
        Error::ConnectProxyFailed(reason) => by_proxy(reason),
        Error::Other(error) => Some(error.downcast_ref::<ProxyRefusal>()?.to_string()),
        _ => None,
    }
}

/// A proxy cannot be used, or refuses the connection; the text says why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct ProxyRefusal(pub(super) String);

impl From<ProxyRefusal> for Error {
    fn from(refusal: ProxyRefusal) -> Self {
        Self::Other(Box::new(refusal))
    }
}

/// Explains a message of the library, such as `proxy server responded 403/403`.
fn by_proxy(reason: &str) -> Option<String> {
    let status: u16 = reason.rsplit(['/', ' ']).next()?.parse().ok()?;
    match status {
        407 => Some(WANTS_CREDENTIALS.to_owned()),
        400..500 => {
            Some(format!("the proxy refuses to connect to it ({status}): allow it there, or add its host to NO_PROXY"))
        }
        _ => None,
    }
}

/// The explanation of status 407.
pub(crate) const WANTS_CREDENTIALS: &str =
    "the proxy requires a user and a password (407): write it as http://USER:PASSWORD@HOST:PORT";

fn tls(error: &TlsError) -> Option<String> {
    Some(match error {
        TlsError::InvalidCertificate(error) => certificate(error),
        TlsError::InvalidMessage(_) => "it does not speak TLS: is it http://, or another port?".to_owned(),
        TlsError::AlertReceived(alert) => {
            format!("it refuses the TLS connection (alert {alert:?}): its log may have the reason")
        }
        TlsError::PeerIncompatible(why) => format!("it does not support TLS 1.2 or 1.3 as prismq does ({why:?})"),
        TlsError::NoCertificatesPresented => "it presented no certificate".to_owned(),
        _ => return None,
    })
}

fn certificate(error: &CertificateError) -> String {
    const TRUST: &str = "name it, or the certificate of its issuer, in ca_file (PRISMQ_CA_FILE)";
    const UNSIGNED: &str = "its certificate is not signed by a trusted authority";
    const SELF_SIGNED: &str = "its certificate is self-signed and not trusted";
    if let CertificateError::Other(OtherError(other)) = error
        && let Some(NotNamed { is_self_signed }) = other.downcast_ref()
    {
        let what = if *is_self_signed { SELF_SIGNED } else { UNSIGNED };
        return format!("{what}: {TRUST}; the certificate in that file is a different one");
    }
    match error {
        CertificateError::UnknownIssuer => format!("{UNSIGNED}: {TRUST}"),
        error if is_authority(error) => format!("{SELF_SIGNED}: {TRUST}"),
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("its certificate has expired, {}: renew it", day(*not_after))
        }
        CertificateError::Expired => "its certificate has expired: renew it".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("its certificate is not valid before {}: is this machine's clock right?", day(*not_before))
        }
        CertificateError::NotValidYet => "its certificate is not valid yet: is this machine's clock right?".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } if presented.is_empty() => {
            let (kind, host) = match expected {
                ServerName::IpAddress(_) => ("IP", expected.to_str()),
                _ => ("DNS", expected.to_str()),
            };
            format!(
                "its certificate has no subjectAltName, so it is valid for no host: make one with `openssl req … -addext \
                 subjectAltName={kind}:{host}`"
            )
        }
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "its certificate is not for {} but for {}: use that name, or give it a certificate for this one",
            expected.to_str(),
            presented.iter().map(|name| bare(name)).collect::<Vec<_>>().join(", ")
        ),
        CertificateError::NotValidForName => "its certificate is for another host".to_owned(),
        CertificateError::Revoked => "its certificate was revoked: replace it".to_owned(),
        other => format!("its certificate is not accepted ({other}): replace it"),
    }
}

/// Extracts the name from the library's `DnsName("localhost")`.
fn bare(name: &str) -> &str {
    name.split(['"', '(', ')']).rfind(|part| !part.is_empty()).unwrap_or(name)
}

/// Formats the day in UTC.
fn day(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or_else(|_| "far away".to_owned(), |time| time.strftime("%Y-%m-%d").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_bare() {
        for name in [r#"DnsName("tasks.example")"#, "IpAddress(tasks.example)", "tasks.example"] {
            assert_eq!(bare(name), "tasks.example");
        }
    }

    #[test]
    fn a_certificate_without_a_name_is_for_no_host() {
        for (host, expected) in [("localhost", "DNS:localhost"), ("127.0.0.1", "IP:127.0.0.1")] {
            let expected_name = ServerName::try_from(host).unwrap();
            let error = CertificateError::NotValidForNameContext { expected: expected_name, presented: Vec::new() };
            assert!(certificate(&error).contains(&format!("subjectAltName={expected}`")));
        }
    }

    #[test]
    fn refusals_by_a_proxy_are_final_and_unreachable_hosts_are_not() {
        let refusal =
            |status: u16| refusal(&Error::ConnectProxyFailed(format!("proxy server responded {status}/{status}")));
        assert!(refusal(403).unwrap().contains("NO_PROXY"));
        assert_eq!(refusal(407).as_deref(), Some(WANTS_CREDENTIALS));
        assert_eq!((refusal(502), refusal(503)), (None, None));
        let silent = Error::ConnectProxyFailed("proxy server did not respond".to_owned());
        assert_eq!(super::refusal(&silent), None);
    }
}

//! Why TLS did not come about, told apart by what one can do about it.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// Why TLS did not come about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsProblem {
    /// Nobody whom we trust has certified the broker.
    #[error("its certificate is from an authority that is not trusted here")]
    UnknownAuthority,
    /// The certificate is for other names.
    #[error("its certificate is not for this name{}", .0.as_ref().map_or_else(String::new, |names| format!(" but for {names}")))]
    WrongName(Option<String>),
    /// The certificate has ended.
    #[error("its certificate has expired")]
    Expired,
    /// The certificate has not begun.
    #[error("its certificate is not valid yet")]
    NotYetValid,
    /// There is something else wrong with the certificate.
    #[error("its certificate cannot be used: {0}")]
    BadCertificate(String),
    /// The broker wants a certificate of ours.
    #[error("it wants a client certificate")]
    ClientCertificateMissing,
    /// The broker does not take our certificate.
    #[error("it does not accept the client certificate ({0})")]
    ClientCertificateRefused(&'static str),
    /// What answers there does not speak TLS.
    #[error("what answers there does not speak TLS")]
    NotTls,
    /// The other side closed the connection in the middle of the handshake.
    #[error("it closed the connection in the TLS handshake")]
    Closed,
    /// No version or cipher in common.
    #[error("it speaks no TLS that is safe enough: {0}")]
    TooOld(String),
    /// The network failed in the middle.
    #[error("the connection broke in the TLS handshake: {0}")]
    Io(String),
    /// Something else.
    #[error("TLS failed: {0}")]
    Other(String),
}

impl TlsProblem {
    /// Out of the error of a handshake.
    pub(crate) fn of_handshake(error: &io::Error) -> TlsProblem {
        if let Some(problem) = TlsProblem::within(error) {
            return problem;
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => TlsProblem::Closed,
            _ => TlsProblem::Io(error.to_string()),
        }
    }

    /// What TLS says in an error of a stream, if it is TLS that speaks. In TLS 1.3 a broker judges our certificate when the
    /// handshake is over for us, and its verdict comes where its first answer should.
    pub(crate) fn within(error: &io::Error) -> Option<TlsProblem> {
        let error = error.get_ref()?.downcast_ref::<Error>()?;
        Some(match error {
            Error::InvalidCertificate(error) => of_certificate(error),
            Error::AlertReceived(alert) => of_alert(*alert),
            Error::InvalidMessage(_) => TlsProblem::NotTls,
            Error::PeerIncompatible(why) => TlsProblem::TooOld(format!("{why:?}")),
            other => TlsProblem::Other(other.to_string()),
        })
    }
}

fn of_certificate(error: &CertificateError) -> TlsProblem {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            TlsProblem::UnknownAuthority
        }
        CertificateError::NotValidForName => TlsProblem::WrongName(None),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names = presented.iter().map(|name| readable(name));
            let names = names.collect::<Vec<_>>().join(", ");
            TlsProblem::WrongName((!names.is_empty()).then_some(names))
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsProblem::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            TlsProblem::NotYetValid
        }
        other => TlsProblem::BadCertificate(other.to_string()),
    }
}

/// webpki writes names as `DnsName("b.example")` and `IpAddress(127.0.0.1)`.
fn readable(name: &str) -> String {
    let inner = name
        .split_once('(')
        .and_then(|(_, inner)| inner.strip_suffix(')'));
    inner
        .unwrap_or(name)
        .trim_matches('"')
        .escape_debug()
        .to_string()
}

fn of_alert(alert: AlertDescription) -> TlsProblem {
    use TlsProblem::ClientCertificateRefused as Refused;
    match alert {
        AlertDescription::CertificateRequired => TlsProblem::ClientCertificateMissing,
        // Of another authority with the same name, the signature does not hold.
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            Refused("of an authority that it does not know")
        }
        AlertDescription::CertificateExpired => Refused("expired"),
        AlertDescription::CertificateRevoked => Refused("revoked"),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => Refused("not one for logging in there"),
        AlertDescription::ProtocolVersion
        | AlertDescription::HandshakeFailure
        | AlertDescription::InsufficientSecurity => TlsProblem::TooOld(format!("{alert:?}")),
        other => TlsProblem::Other(format!("the broker says {other:?}")),
    }
}

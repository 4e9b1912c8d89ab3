//! What a broker's certificate says, for people. Whether it is believed is decided elsewhere.

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// More names than these are not told.
const MAX_NAMES: usize = 16;

/// A certificate that the broker showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Its subject, in one line.
    pub subject: String,
    /// The hosts and addresses that it is for, the first so many.
    pub names: Vec<String>,
    /// Until when it is valid, seconds since the epoch; none when it does not parse.
    pub expires: Option<u64>,
}

impl Certificate {
    pub(super) fn of(der: &CertificateDer<'_>) -> Certificate {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return Certificate {
                subject: String::new(),
                names: Vec::new(),
                expires: None,
            };
        };
        let names = match certificate.subject_alternative_name() {
            Ok(Some(names)) => names
                .value
                .general_names
                .iter()
                .filter_map(name)
                .take(MAX_NAMES)
                .collect(),
            _ => Vec::new(),
        };
        Certificate {
            subject: certificate.subject().to_string(),
            names,
            expires: u64::try_from(certificate.validity().not_after.timestamp()).ok(),
        }
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|ip| std::net::Ipv4Addr::from(ip).to_string()),
            16 => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|ip| std::net::Ipv6Addr::from(ip).to_string()),
            _ => None,
        },
        _ => None,
    }
}

//! `certificate`: makes certificates for a home or a lab.

use std::path::PathBuf;

use super::GlobalArguments;
use super::failure::{Code, Failure};
use crate::settings::Settings;
use crate::transport::authority::{self, Authority, AuthorityError, Made};
use sealpost_core::UserId;

/// What making certificates takes.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub(super) struct CertificateArguments {
    /// Where the authority and its certificates lie; made if need be.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Certify this user, who then may log in with the certificate. May be repeated.
    #[arg(long, value_name = "USER", value_parser = |name: &str| UserId::parse(name))]
    client: Vec<UserId>,
    /// Certify the broker for these names and addresses: all those that clients connect to.
    #[arg(value_name = "NAME", required_unless_present = "client")]
    names: Vec<String>,
}

/// Makes what is asked for, and says what to do with it.
pub(super) fn run(global: GlobalArguments, arguments: CertificateArguments) -> Result<(), Failure> {
    let CertificateArguments { dir, client, names } = arguments;
    let (file, overrides) = global.into_overrides();
    let settings = Settings::load(file, overrides)?;
    // The settings that name the files may be read in another directory.
    let dir = std::path::absolute(&dir).unwrap_or(dir);
    let ca = authority::certificate_path(&dir);
    let (authority, is_new) = Authority::open(&dir, &settings.realm)?;
    if is_new {
        println!(
            "{}: a new authority. Give this file to every client; keep ca.key to yourself.",
            ca.display()
        );
    }
    if !names.is_empty() {
        let Made { certificate, key } = authority.certify_server(&names)?;
        println!(
            "{}: for {}. Settings of the broker:",
            certificate.display(),
            names.join(", ")
        );
        println!("\n[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n");
    }
    for user in client {
        let Made { certificate, key } = authority.certify_user(&user)?;
        println!(
            "{} and {}: log {user} in where the broker's settings say client_ca = {ca:?} under [tls]",
            certificate.display(),
            key.display(),
        );
    }
    Ok(())
}

impl From<AuthorityError> for Failure {
    fn from(error: AuthorityError) -> Failure {
        let (code, hint) = match &error {
            AuthorityError::Io { .. } => (Code::Failed, "choose another directory with --dir"),
            AuthorityError::Exists(_) => (
                Code::Failed,
                "nothing is overwritten: to renew it, move the certificate and its key away first",
            ),
            AuthorityError::NotAnAuthority { .. } => (
                Code::Failed,
                "take another directory, and a new authority is made there",
            ),
            AuthorityError::BadName(_) => (
                Code::Usage,
                "names are as in broker.lan, localhost, 192.168.1.10 or fd00::1, without port or scheme",
            ),
            AuthorityError::TooManyNames => (Code::Usage, ""),
            AuthorityError::Making(_) => (Code::Failed, ""),
        };
        Failure::new(code, error, hint)
    }
}

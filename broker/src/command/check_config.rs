//! `check-config`: whether a file of settings can be used.

use std::path::PathBuf;

use super::GlobalArguments;
use super::failure::{Code, Failure};
use crate::access::rules::Rules;
use crate::server::ServeError;
use crate::settings::Settings;
use crate::transport::listeners::ListenError;

/// What checking takes.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub(super) struct CheckConfigArguments {
    /// The file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Reads the file, the environment and the flags as `serve` would, and says what is wrong.
pub(super) fn run(global: GlobalArguments, arguments: CheckConfigArguments) -> Result<(), Failure> {
    let (other, overrides) = global.into_overrides();
    if other.is_some() {
        let why = "the file is named twice";
        return Err(Failure::new(
            Code::Usage,
            why,
            "leave --config out: sealpost-broker check-config FILE",
        ));
    }
    let settings = Settings::load(Some(arguments.file.clone()), overrides)?;
    // What they name is read as `serve` reads it.
    if let Some(tls) = &settings.tls {
        tls.files.load().map_err(ListenError::from)?;
    }
    if let Some(rules) = &settings.rules {
        Rules::read(rules).map_err(ServeError::from)?;
    }
    println!("{} can be used", arguments.file.display());
    Ok(())
}

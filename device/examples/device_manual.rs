//! Writes man pages and completions of `sealpost-device`: `make man`. Two folders, which must be there: for the pages, and for the
//! completions.

use std::error::Error;
use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;
use sealpost_device::cli::Cli;

fn main() -> Result<(), Box<dyn Error>> {
    let mut folders = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(pages), Some(completions)) = (folders.next(), folders.next()) else {
        return Err("give a folder for man pages and one for completions".into());
    };
    let mut command = Cli::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "sealpost-device", &completions)?;
    }
    clap_mangen::generate_to(command, &pages)?;
    Ok(())
}

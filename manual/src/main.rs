//! Writes man pages and shell completions of Sealpost's programs: `make man`. Two folders, which must be there: for the pages, and for
//! the completions. A program of its own, so that none of those that are installed grows by it, and so that a release build of
//! these four with it is one build.
#![forbid(unsafe_code)]

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_complete::Shell;

fn main() -> Result<(), Box<dyn Error>> {
    let mut folders = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(pages), Some(completions), None) = (folders.next(), folders.next(), folders.next())
    else {
        return Err("give a folder for man pages and one for completions".into());
    };
    write(sealpost::cli::Cli::command(), &pages, &completions)?;
    write(
        sealpost_broker::command::Arguments::command(),
        &pages,
        &completions,
    )?;
    write(sealpost_archiver::cli::Cli::command(), &pages, &completions)?;
    write(sealpost_device::cli::Cli::command(), &pages, &completions)?;
    Ok(())
}

fn write(mut command: Command, pages: &Path, completions: &Path) -> Result<(), Box<dyn Error>> {
    let program = command.get_name().to_owned();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, &program, completions)?;
    }
    clap_mangen::generate_to(command, pages)?;
    Ok(())
}

//! `sealpost completions` and `sealpost man`: the command line, described for shells and for readers.

use std::io::{self, Write};

use clap::CommandFactory;

use crate::cli::{Cli, Paper};
use crate::exit::{Code, Failure};

pub(super) fn run(paper: Paper) -> Result<(), Failure> {
    let mut command = Cli::command();
    match paper {
        Paper::Completions(shell) => {
            // In one piece: a shell that reads half of it is worse than one that reads nothing.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, "sealpost", &mut script);
            Ok(io::stdout().write_all(&script)?)
        }
        Paper::Man(dir) => clap_mangen::generate_to(command, &dir).map_err(|error| {
            Failure::new(
                Code::Failed,
                format!("cannot write man pages into {}: {error}", dir.display()),
                "Make the folder first; /usr/local/share/man/man1 is where `man` looks.",
            )
        }),
    }
}

//! `sealpost agent`: holds the key of the unlocked keystore, so that other commands do not ask.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use zeroize::Zeroizing;

use super::Start;
use crate::agent::{self, DEFAULT_TIME, Held, Holder};
use crate::cli::AgentCommand;
use crate::clock;
use crate::event::{Event, Time};
use crate::exit::{Code, Failure};

/// The longest hand-over to a new agent, in bytes.
const MAX_HELD: u64 = 1_024;
/// What a new agent says when it listens.
const READY: &str = "ready";

pub(super) async fn run(
    mut start: Start,
    time: Option<Duration>,
    foreground: bool,
    command: Option<AgentCommand>,
    started: impl FnOnce() + Send,
) -> Result<(), Failure> {
    match command {
        Some(AgentCommand::Status) => {
            let until = agent::status(start.home.path()).map(Time);
            start.printer.print(&Event::Agent { until })?;
            Ok(())
        }
        Some(AgentCommand::Lock) => {
            let _ = agent::lock(start.home.path());
            start.printer.print(&Event::Agent { until: None })?;
            Ok(())
        }
        Some(AgentCommand::Serve) => serve(start, started).await,
        None => {
            // Not from another agent: whoever starts one knows the passphrase.
            let account = start.ask_and_unlock()?;
            let key = account.keystore_key().ok_or_else(|| {
                Failure::new(
                    Code::Usage,
                    "the keys are not protected by a passphrase: there is nothing to hold",
                    "No command asks for one. To protect them: sealpost keys passphrase",
                )
            })?;
            drop(account);
            let until = clock::now().saturating_add(time.unwrap_or(DEFAULT_TIME));
            let _ = agent::lock(start.home.path());
            if foreground {
                started();
                let holder = Holder::bind(start.home.path(), key, until)?;
                start.printer.print(&Event::Agent {
                    until: Some(Time(until)),
                })?;
                holder.serve(start.stop).await;
                return Ok(());
            }
            spawn(&start, &Held::new(&key, until))?;
            start.printer.print(&Event::Agent {
                until: Some(Time(until)),
            })?;
            Ok(())
        }
    }
}

/// Starts a process of its own, and waits until it listens. The key goes through a pipe, which nobody else sees.
fn spawn(start: &Start, held: &Held) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(
            Code::Failed,
            format!("the agent does not start: {error}"),
            "Try it with --foreground.",
        )
    };
    let mut child = Command::new(std::env::current_exe().map_err(failed)?)
        .args(["--user", start.settings.user.as_str()])
        .args(["--realm", start.settings.realm.as_str()])
        .arg("--home")
        .arg(start.home.path())
        .args(["agent", "serve"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&held.line()).map_err(failed)?;
    }
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        let mut stdout = BufReader::new(stdout.take(MAX_HELD));
        stdout.read_line(&mut line).map_err(failed)?;
    }
    if line.trim_end() == READY {
        return Ok(());
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(failed(std::io::Error::other("it said nothing")))
}

/// What such a process does.
async fn serve(start: Start, started: impl FnOnce() + Send) -> Result<(), Failure> {
    // Apart from the terminal, whose end is not its own; and no core dump and no debugger shows the key.
    let _ = rustix::process::setsid();
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_HELD as usize));
    // Not the standard library's reader, whose buffer would keep a copy.
    let stdin = File::open("/dev/stdin")?.take(MAX_HELD);
    BufReader::with_capacity(1, stdin).read_until(b'\n', &mut line)?;
    let held = Held::parse(&line).and_then(|held| Some((held.key()?, held.until()?)));
    let Some((key, until)) = held else {
        return Err(Failure::new(
            Code::Usage,
            "this is started by `sealpost agent`, which gives it the key",
            "Start that.",
        ));
    };
    drop(line);
    started();
    let holder = Holder::bind(start.home.path(), key, until)?;
    {
        let mut stdout = std::io::stdout();
        writeln!(stdout, "{READY}")?;
        stdout.flush()?;
    }
    holder.serve(start.stop).await;
    Ok(())
}

//! One run of a command for one message: its input, its environment, its end.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::signals::KillAtEnd;

/// How long it and what it started may take to end after SIGTERM, before SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// What is never passed on: by these, somebody gets at the passphrase, or becomes a user of the broker.
const SECRETS: [&str; 2] = ["SEALPOST_PASSPHRASE", "SEALPOST_INVITATION"];

/// A command and what it is given.
#[derive(Debug)]
pub(super) struct Job<'a> {
    /// For `/bin/sh -c`.
    pub(super) command: &'a str,
    /// For its standard input.
    pub(super) input: &'a [u8],
    /// For its environment.
    pub(super) variables: &'a [(&'static str, OsString)],
    /// Where its output goes.
    pub(super) output: Output,
    /// How long it may take.
    pub(super) time: Duration,
}

/// Where the output of a command goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// Where ours goes.
    Standard,
    /// To standard error, for standard output has events.
    Error,
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With 0.
    Well,
    /// In another way, in words.
    Badly(String),
    /// We were stopped meanwhile.
    Stopped,
}

impl Job<'_> {
    /// Runs it to its end, or to ours. When it is ended by us, what it started ends too, unless it left its process group.
    pub(super) async fn run(&self, stop: &CancellationToken) -> Ended {
        let mut child = match self.start() {
            Ok(child) => child,
            Err(error) => return Ended::Badly(format!("it cannot be started: {error}")),
        };
        let group = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        // A second Ctrl-C ends us at once.
        let _kill_at_end = group.map(KillAtEnd::new);
        let mut input = child.stdin.take();
        let feed = async {
            if let Some(input) = &mut input {
                // Who does not read all of it has its reasons.
                let _ = input.write_all(self.input).await;
            }
            input.take();
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            ended = child.wait() => Some(ended),
            () = feed => None,
            () = tokio::time::sleep(self.time) => None,
            () = stop.cancelled() => None,
        };
        let Some(ended) = ended else {
            let status = end(&mut child, group).await;
            let well = status.is_ok_and(|status| status.success());
            return match (well, stop.is_cancelled()) {
                (true, _) => Ended::Well,
                (false, true) => Ended::Stopped,
                (false, false) => {
                    let seconds = self.time.as_secs_f32();
                    Ended::Badly(format!("it did not end within {seconds} s, and was ended"))
                }
            };
        };
        match ended {
            Ok(status) if status.success() => Ended::Well,
            Ok(status) => Ended::Badly(format!("it ended with {status}")),
            Err(error) => Ended::Badly(error.to_string()),
        }
    }

    fn start(&self) -> io::Result<Child> {
        let mut command = Command::new(Path::new("/bin/sh"));
        command
            .arg("-c")
            .arg(self.command)
            .stdin(Stdio::piped())
            // Its own, so that it can be ended with all that it starts.
            .process_group(0)
            .kill_on_drop(true);
        if self.output == Output::Error {
            command.stdout(io::stderr());
        }
        for (name, _) in std::env::vars_os() {
            let name = name.as_os_str();
            let begins = |secret: &&str| name.as_encoded_bytes().starts_with(secret.as_bytes());
            if SECRETS.iter().any(begins) {
                command.env_remove(name);
            }
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.spawn()
    }
}

/// Ends it and what it started.
async fn end(child: &mut Child, group: Option<Pid>) -> io::Result<ExitStatus> {
    let signal = |signal| {
        if let Some(group) = group {
            // Nobody there is as good as ended.
            let _ = kill_process_group(group, signal);
        }
    };
    signal(Signal::TERM);
    let ended = tokio::time::timeout(GRACE, child.wait()).await;
    // Also what is left of the group when its leader has ended: as long as there is something, the number stays its own.
    signal(Signal::KILL);
    match ended {
        Ok(status) => status,
        Err(_) => child.wait().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(command: &str, time: Duration, stop: &CancellationToken) -> Ended {
        let job = Job {
            command,
            input: b"hello",
            variables: &[("SEALPOST_FROM", "alice; rm -rf /".into())],
            output: Output::Error,
            time,
        };
        job.run(stop).await
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn it_ends_well_with_0_and_badly_otherwise() {
        let go_on = CancellationToken::new();
        for command in [
            "test \"$(cat)\" = hello",
            "test \"$SEALPOST_FROM\" = 'alice; rm -rf /'",
            // It need not read.
            "true",
            "exec <&-; true",
        ] {
            assert_eq!(run(command, LONG, &go_on).await, Ended::Well, "{command}");
        }
        for (command, said) in [
            ("exit 3", "exit status: 3"),
            ("kill -9 $$", "signal: 9"),
            ("/no/such/command 2>/dev/null", "exit status: 127"),
        ] {
            let ended = run(command, LONG, &go_on).await;
            assert!(
                matches!(&ended, Ended::Badly(problem) if problem.contains(said)),
                "{command}: {ended:?}"
            );
        }
    }

    #[tokio::test]
    async fn what_hangs_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pids");
        // Neither obeys SIGTERM.
        let command = format!(
            "trap '' TERM; (while :; do sleep 1; done) & echo $! $$ >'{}'; wait; wait; sleep 100",
            path.display()
        );
        let go_on = CancellationToken::new();
        let ended = run(&command, Duration::from_millis(500), &go_on).await;
        assert!(matches!(ended, Ended::Badly(_)), "{ended:?}");
        for pid in std::fs::read_to_string(&path).unwrap().split_whitespace() {
            let stat = format!("/proc/{pid}/stat");
            // SIGKILL works when the kernel gets to it; and where nobody is there to be its parent, a zombie may stay.
            let until = std::time::Instant::now() + LONG;
            while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
                assert!(std::time::Instant::now() < until, "{pid} goes on");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    #[tokio::test]
    async fn it_ends_when_we_are_stopped_and_may_still_end_well() {
        for (command, expected) in [
            ("sleep 100", Ended::Stopped),
            (
                "trap 'exit 0' TERM; while :; do sleep 0.1; done",
                Ended::Well,
            ),
        ] {
            let stop = CancellationToken::new();
            let soon = stop.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(500)).await;
                soon.cancel();
            });
            assert_eq!(run(command, LONG, &stop).await, expected, "{command}");
        }
    }
}

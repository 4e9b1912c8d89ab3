//! Where the passphrase comes from: a command, or a person at the terminal. Never a flag's value (everybody on the
//! machine can list those) and never a file of ours.

use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::signals::KeepTerminal;

/// The longest passphrase, in bytes: far above any real one, and a bound on what a runaway command can feed us.
const MAX_LEN: usize = 1_024;
/// How long a passphrase command may take: it may itself ask a person.
const COMMAND_TIME: Duration = Duration::from_secs(120);
/// Shorter new passphrases (in characters) get a word of advice.
const ADVISED_LEN: usize = 12;

/// A passphrase, erased when dropped.
pub struct Passphrase(Zeroizing<String>);

/// Why there is no passphrase.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// Neither a command nor a terminal to ask on.
    #[error("the keys are protected by a passphrase and there is no terminal to ask on")]
    NoTerminal,
    /// The command did not start, failed, or printed something that is not text.
    #[error("the passphrase command failed: {0}")]
    Command(String),
    /// Nothing was typed or printed.
    #[error("the passphrase is empty")]
    Empty,
    /// More than a kilobyte.
    #[error("the passphrase is longer than {MAX_LEN} bytes")]
    TooLong,
    /// The two entries of a new passphrase differ.
    #[error("the two passphrases differ")]
    Differ,
    /// The terminal went away.
    #[error("cannot read from the terminal: {0}")]
    Terminal(io::Error),
}

/// Why there is no password for the broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerPasswordError {
    /// The command did not start, failed, or printed something that is not text.
    #[error("the command for your password at the broker failed: {0}")]
    Command(String),
    /// It printed nothing.
    #[error("the command for your password at the broker prints nothing")]
    Empty,
    /// It printed more than a kilobyte.
    #[error("your password at the broker is longer than {MAX_LEN} bytes")]
    TooLong,
}

impl Passphrase {
    /// Takes text over; a line end at its end is not part of a passphrase.
    pub fn new(text: Zeroizing<String>) -> Result<Passphrase, PassphraseError> {
        if text.is_empty() {
            return Err(PassphraseError::Empty);
        }
        if text.len() > MAX_LEN {
            return Err(PassphraseError::TooLong);
        }
        Ok(Passphrase(text))
    }

    /// For a library that derives the key itself.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// For the key derivation only.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// The passphrase of existing keys.
pub fn existing(command: Option<&str>, user: &str) -> Result<Passphrase, PassphraseError> {
    known(command, &format!("{user}'s keys"))
}

/// The passphrase of an existing backup.
pub fn of_backup(command: Option<&str>) -> Result<Passphrase, PassphraseError> {
    known(command, "the backup")
}

/// Our password at the broker, as this command prints it.
pub fn at_broker(command: &str) -> Result<Passphrase, BrokerPasswordError> {
    from_command(command).map_err(|error| match error {
        PassphraseError::Empty => BrokerPasswordError::Empty,
        PassphraseError::TooLong => BrokerPasswordError::TooLong,
        PassphraseError::Command(problem) => BrokerPasswordError::Command(problem),
        other => BrokerPasswordError::Command(other.to_string()),
    })
}

fn known(command: Option<&str>, of: &str) -> Result<Passphrase, PassphraseError> {
    match command {
        Some(command) => from_command(command),
        None => ask(&format!("Passphrase of {of}: ")),
    }
}

/// A passphrase for new keys: typed twice when it is typed.
pub fn fresh(command: Option<&str>, user: &str) -> Result<Passphrase, PassphraseError> {
    new(command, &format!("{user}'s keys"))
}

/// A passphrase for a new backup: typed twice when it is typed.
pub fn for_backup(command: Option<&str>) -> Result<Passphrase, PassphraseError> {
    new(command, "the backup")
}

fn new(command: Option<&str>, what: &str) -> Result<Passphrase, PassphraseError> {
    if let Some(command) = command {
        return from_command(command);
    }
    let first = ask(&format!("New passphrase for {what}: "))?;
    let second = ask("The same again: ")?;
    if first.as_bytes() != second.as_bytes() {
        return Err(PassphraseError::Differ);
    }
    if first.0.chars().count() < ADVISED_LEN {
        let _ = writeln!(
            io::stderr(),
            "sealpost: a passphrase under {ADVISED_LEN} characters is quickly guessed once the file is stolen; \
             four or five random words are better"
        );
    }
    Ok(first)
}

fn ask(prompt: &str) -> Result<Passphrase, PassphraseError> {
    // rpassword makes the terminal raw, and Ctrl-C a character.
    let _keep = KeepTerminal::new();
    // It asks on /dev/tty, so that standard input stays free for the message.
    match rpassword::prompt_password(prompt) {
        Ok(text) => Passphrase::new(Zeroizing::new(text)),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => {
            crate::signals::interrupted();
            Err(PassphraseError::Terminal(e))
        }
        Err(e)
            if matches!(e.kind(), io::ErrorKind::NotFound)
                || e.raw_os_error() == Some(ENXIO)
                || e.raw_os_error() == Some(ENOTTY) =>
        {
            Err(PassphraseError::NoTerminal)
        }
        Err(e) => Err(PassphraseError::Terminal(e)),
    }
}

/// "No such device or address": /dev/tty of a process without a terminal.
const ENXIO: i32 = 6;
/// "Not a typewriter".
const ENOTTY: i32 = 25;

fn from_command(command: &str) -> Result<Passphrase, PassphraseError> {
    from_command_within(command, COMMAND_TIME)
}

fn from_command_within(command: &str, time: Duration) -> Result<Passphrase, PassphraseError> {
    let deadline = Instant::now() + time;
    let failed = |problem: String| PassphraseError::Command(problem);
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    let stdout = child
        .stdout
        .take()
        .ok_or_else(|| failed("no output".into()))?;
    let (tx, rx) = mpsc::channel();
    std::thread::spawn(move || {
        // Room for all at once: a buffer that grows leaves copies behind.
        let mut output = Zeroizing::new(Vec::with_capacity(MAX_LEN + 3));
        let read = stdout.take(MAX_LEN as u64 + 3).read_to_end(&mut output);
        let _ = tx.send(read.map(|_| output));
    });
    let ended = match rx.recv_timeout(time) {
        Ok(output) => wait_until(&mut child, deadline)
            .and_then(|status| Ok((output?, status)))
            .map_err(|e| failed(e.to_string())),
        Err(_) => Err(failed(format!("no answer in {} s", time.as_secs()))),
    };
    if ended.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let (output, status) = ended?;
    if !status.success() && output.len() <= MAX_LEN {
        return Err(failed(status.to_string()));
    }
    let line = output.split(|&b| b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line).map_err(|_| failed("its output is not UTF-8".into()))?;
    Passphrase::new(Zeroizing::new(text.to_owned()))
}

/// Its output is closed, so it usually ends right away.
fn wait_until(child: &mut Child, deadline: Instant) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            return Err(io::Error::other("it printed and then did not end in time"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_command_is_the_passphrase() {
        for command in [
            "echo 'correct horse'",
            "printf 'correct horse'",
            "printf 'correct horse\\r\\nsecond line\\n'",
        ] {
            assert_eq!(
                from_command(command).unwrap().as_bytes(),
                b"correct horse",
                "{command}"
            );
        }
    }

    #[test]
    fn a_command_that_fails_or_says_nothing_is_an_error() {
        assert!(matches!(
            from_command("exit 3"),
            Err(PassphraseError::Command(_))
        ));
        assert!(matches!(
            from_command("echo x; exit 1"),
            Err(PassphraseError::Command(_))
        ));
        assert!(matches!(
            from_command("/no/such/program 2>/dev/null"),
            Err(PassphraseError::Command(_))
        ));
        assert!(matches!(from_command("true"), Err(PassphraseError::Empty)));
        assert!(matches!(
            from_command("printf '\\377'"),
            Err(PassphraseError::Command(_))
        ));
    }

    #[test]
    fn a_command_that_never_stops_printing_is_bounded() {
        assert!(matches!(
            from_command("yes x | tr -d '\\n'"),
            Err(PassphraseError::TooLong)
        ));
    }

    #[test]
    fn a_command_that_does_not_end_is_bounded_before_and_after_its_output() {
        for command in ["exec sleep 60", "echo x; exec sleep 60 >&-"] {
            let begun = Instant::now();
            let failed = from_command_within(command, Duration::from_secs(1));
            assert!(
                matches!(failed, Err(PassphraseError::Command(_))),
                "{command}"
            );
            assert!(begun.elapsed() < Duration::from_secs(20), "{command}");
        }
    }

    #[test]
    fn debug_shows_nothing() {
        let passphrase = Passphrase::new(Zeroizing::new("hunter2".into())).unwrap();
        assert_eq!(format!("{passphrase:?}"), "Passphrase(..)");
    }
}

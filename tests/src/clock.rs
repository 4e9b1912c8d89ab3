//! A clock that a test sets and a real program sees, by way of libfaketime.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// A clock that goes as this machine's does, ahead of it or behind it. Timers and intervals are not touched, as they are not when
/// somebody sets a machine's clock.
#[derive(Debug)]
pub struct Clock {
    dir: TempDir,
    library: String,
    lazy: bool,
}

impl Clock {
    /// A clock that is right.
    ///
    /// # Panics
    /// Where faketime is not installed; `make test-tools` does that.
    #[must_use]
    pub fn new() -> Clock {
        // It knows where its library lies.
        let mut command = Command::new("faketime");
        command.args(["-m", "-f", "+0", "sh", "-c", "echo \"$LD_PRELOAD\""]);
        let output = command
            .output()
            .expect("faketime is installed (`make test-tools`)");
        assert!(output.status.success(), "{output:?}");
        let library = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        let clock = Clock {
            dir: tempfile::tempdir().unwrap(),
            library,
            lazy: false,
        };
        clock.set(0);
        clock
    }

    /// One that a program with much to do looks at less often: it sees a jump within two seconds.
    #[must_use]
    pub fn lazy() -> Clock {
        Clock {
            lazy: true,
            ..Clock::new()
        }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("offset")
    }

    /// Sets it so many seconds ahead, or behind..
    pub fn set(&self, seconds: i64) {
        // In one step: the other end reads at any time.
        let new = self.dir.path().join("new");
        std::fs::write(&new, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(new, self.file()).unwrap();
    }

    /// Puts it on a program that is about to start.
    pub fn put_on(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", self.file())
            .env("FAKETIME_NO_CACHE", if self.lazy { "0" } else { "1" })
            .env("FAKETIME_CACHE_DURATION", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
    }
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new()
    }
}

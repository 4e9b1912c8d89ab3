//! A terminal as people have it: a shell in a pane of tmux, whose keys are pressed and whose screen is read.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{PATIENCE, Person, program};

/// How often the screen is looked at: tmux does not say when it changes.
const LOOK: Duration = Duration::from_millis(30);

/// A pane with a shell in it. Its tmux is its own, and goes with it.
#[derive(Debug)]
pub struct Pane {
    dir: TempDir,
}

impl Pane {
    /// A shell in a terminal of this size, in an empty home, which finds our programs.
    #[must_use]
    pub fn open(columns: u16, rows: u16) -> Pane {
        Pane::open_with(columns, rows, &[])
    }

    /// The same with variables in its environment.
    #[must_use]
    pub fn open_with(columns: u16, rows: u16, environment: &[(&str, &str)]) -> Pane {
        let pane = Pane {
            dir: tempfile::tempdir().unwrap(),
        };
        let programs = program("sealpost").parent().unwrap().to_owned();
        let path = std::env::var("PATH").unwrap_or_default();
        let home = pane.dir.path().display().to_string();
        let mut shell = vec![
            "env".to_owned(),
            "-i".to_owned(),
            format!("HOME={home}"),
            format!("PATH={}:{path}", programs.display()),
            "TERM=tmux-256color".to_owned(),
            "LANG=C.UTF-8".to_owned(),
            "PS1=ready> ".to_owned(),
        ];
        shell.extend(
            environment
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
        shell.extend([
            "bash".to_owned(),
            "--norc".to_owned(),
            "--noprofile".to_owned(),
        ]);
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let mut arguments = vec![
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &columns,
            "-y",
            &rows,
        ];
        arguments.extend(shell.iter().map(String::as_str));
        pane.tmux(&arguments);
        // What a program may put on a clipboard is seen as a buffer.
        pane.tmux(&["set-option", "-s", "set-clipboard", "on"]);
        pane.tmux(&["set-option", "-g", "focus-events", "on"]);
        pane.expect("ready>");
        pane
    }

    /// The home of its shell.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.dir.path()
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let socket = self.dir.path().join("tmux");
        let output = Command::new("tmux")
            .env_remove("TMUX")
            .args(["-u", "-S"])
            .arg(&socket)
            .args(arguments)
            .output()
            .expect("tmux is installed by make test-tools");
        assert!(output.status.success(), "tmux {arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Presses keys, by their tmux names.
    pub fn press(&self, keys: &[&str]) {
        let mut arguments = vec!["send-keys"];
        arguments.extend(keys);
        self.tmux(&arguments);
    }

    /// Types a text.
    pub fn type_text(&self, text: &str) {
        self.tmux(&["send-keys", "-l", "--", text]);
    }

    /// Types a text and Enter.
    pub fn enter(&self, text: &str) {
        self.type_text(text);
        self.press(&["Enter"]);
    }

    /// Pastes a text, as terminals do who say where it begins and ends.
    pub fn paste(&self, text: &str) {
        self.tmux(&["set-buffer", "-b", "pasted", "--", text]);
        self.tmux(&["paste-buffer", "-p", "-d", "-b", "pasted"]);
    }

    /// Pastes what is in a file, in the same way.
    pub fn paste_file(&self, path: &Path) {
        self.tmux(&["load-buffer", "-b", "pasted", path.to_str().unwrap()]);
        self.tmux(&["paste-buffer", "-p", "-d", "-b", "pasted"]);
    }

    /// Runs `sealpost` alone as this person.
    pub fn chat_as(&self, person: &Person) {
        let command = person.command();
        let words = command
            .get_args()
            .map(|word| format!("'{}'", word.to_str().unwrap()));
        let words: Vec<String> = words.collect();
        self.enter(&format!("clear; sealpost {}", words.join(" ")));
    }

    /// Tells the program that somebody looks at the terminal, as terminals do; without a client, tmux tells it the contrary.
    pub fn look(&self) {
        self.tmux(&["send-keys", "-H", "1b", "5b", "49"]);
    }

    /// What is seen.
    #[must_use]
    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// The same with its colours, as escape sequences.
    #[must_use]
    pub fn coloured(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// A variable of tmux's about the pane.
    #[must_use]
    pub fn ask(&self, what: &str) -> String {
        self.tmux(&["display-message", "-p", &format!("#{{{what}}}")])
            .trim_end()
            .to_owned()
    }

    /// What programs have put on the clipboard.
    #[must_use]
    pub fn clipboard(&self) -> String {
        self.tmux(&["list-buffers"])
    }

    /// Makes it larger or smaller.
    pub fn resize(&self, columns: u16, rows: u16) {
        self.tmux(&[
            "resize-window",
            "-x",
            &columns.to_string(),
            "-y",
            &rows.to_string(),
        ]);
    }

    /// Waits until the screen is so, and gives it.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let patience = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if wanted(&screen) {
                return screen;
            }
            assert!(Instant::now() < patience, "{what} did not come:\n{screen}");
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until the screen has this text.
    pub fn expect(&self, text: &str) -> String {
        self.wait_for(text, |screen| screen.contains(text))
    }

    /// Waits until the screen has this text no more.
    pub fn expect_no(&self, text: &str) -> String {
        self.wait_for(&format!("the end of {text:?}"), |screen| {
            !screen.contains(text)
        })
    }

    /// The process that the shell has started.
    #[must_use]
    pub fn pid(&self) -> u32 {
        let shell = self.ask("pane_pid");
        let children = format!("/proc/{shell}/task/{shell}/children");
        let patience = Instant::now() + PATIENCE;
        loop {
            let pids = std::fs::read_to_string(&children).unwrap();
            if let Some(pid) = pids.split_whitespace().next() {
                return pid.parse().unwrap();
            }
            assert!(Instant::now() < patience, "the shell runs nothing");
            std::thread::sleep(LOOK);
        }
    }

    /// The settings of its terminal, by its shell.
    #[must_use]
    pub fn settings(&self) -> String {
        let tty = self.ask("pane_tty");
        let output = Command::new("stty")
            .args(["-a", "-F", &tty])
            .output()
            .unwrap();
        // The size is not what programs change.
        let all = String::from_utf8_lossy(&output.stdout).into_owned();
        all.split_once("; line")
            .map_or(all.clone(), |(_, rest)| rest.to_owned())
    }
}

impl Drop for Pane {
    fn drop(&mut self) {
        let socket = self.dir.path().join("tmux");
        let _ = Command::new("tmux")
            .arg("-S")
            .arg(socket)
            .arg("kill-server")
            .output();
    }
}

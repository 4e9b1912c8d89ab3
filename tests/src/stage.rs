//! A machine of its own on which the commands of a page are run as they are written: ports, `/etc`, `/var/lib` and names of hosts are
//! this page's alone, and nothing is left of it. Made of Linux namespaces, so it needs a user who may make those.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::page::{Action, Page, Step};
use crate::{program, root};

/// What is run first. What a page changes in /etc and /var/lib is gone with the namespace; names of hosts are this machine's.
const PROLOGUE: &str = r#"
set -eE
ip link set lo up
ip addr add 192.168.1.10/32 dev lo
for folder in /etc /var/lib; do
    mkdir -p "$STAGE/real$folder"
    mount --rbind $folder "$STAGE/real$folder"
    mount -t tmpfs -o mode=755 tmpfs $folder
    ln -s "$STAGE/real$folder"/* $folder/
done
[ ! -d /srv ] || mount -t tmpfs tmpfs /srv
rm -f /etc/hosts /etc/nsswitch.conf /etc/mosquitto
printf '127.0.0.1 localhost\n192.168.1.10 broker.lan broker.example new.example\n' >/etc/hosts
printf 'hosts: files\n' >/etc/nsswitch.conf
mkdir /etc/mosquitto
mkdir "$STAGE/terminals"
# shows TERMINAL TEXT: waits until that terminal shows the text.
shows() {
    local until=$((SECONDS + 60))
    until grep -qF -- "$2" "$STAGE/terminals/$1" 2>/dev/null; do
        if [ "$SECONDS" -ge "$until" ]; then
            echo "terminal $1 never showed \"$2\", but:"
            cat "$STAGE/terminals/$1"
            return 1
        fi
        sleep 0.05
    done
}
# types TERMINAL LINE
types() { printf '%s\n' "$2" >"$STAGE/terminals/$1.keys"; }
# ends TERMINAL: as Ctrl-C and a closed window do.
ends() {
    local pid
    pid=$(cat "$STAGE/terminals/$1.pid")
    pkill -INT -P "$pid" || true
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
}
failed() {
    code=$?
    echo "$where: code $code"
    for terminal in "$STAGE"/terminals/*; do
        if [ -f "$terminal" ]; then
            echo "--- terminal ${terminal##*/}"
            tail -n 30 "$terminal"
        fi
    done
    exit 1
}
trap failed ERR
cd "$STAGE/here"
"#;

/// A page on its stage.
#[derive(Debug)]
pub struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    /// Sets one up, with the examples and settings of the repository in the working directory; nothing, said aloud, where this user
    /// may not.
    #[must_use]
    pub fn set_up() -> Option<Stage> {
        let folder = tempfile::tempdir().unwrap();
        let may = namespaces().arg("true").output();
        if !may.is_ok_and(|output| output.status.success()) {
            // Not by a macro: those are silent when the test passes.
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED a page's commands: this user may not make namespaces (unshare --user --mount --net)"
            );
            return None;
        }
        let here = folder.path().join("here");
        std::fs::create_dir_all(folder.path().join("home")).unwrap();
        std::fs::create_dir(&here).unwrap();
        for name in ["config", "examples"] {
            let copied = Command::new("cp")
                .args(["-r", "--"])
                .arg(root().join(name))
                .arg(&here)
                .status();
            assert!(copied.unwrap().success());
        }
        Some(Stage { folder })
    }

    /// Runs everything in the page that can be run; panics with what was seen if something fails.
    pub fn play(&self, page: &Page) {
        let script = self.folder.path().join("script");
        std::fs::write(&script, self.script(page)).unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut command = namespaces();
        command
            .args(["timeout", "--kill-after=5", "300", "bash"])
            .arg(&script)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", path())
            .env("HOME", self.folder.path().join("home"))
            .env("STAGE", self.folder.path())
            .env("LANG", "C.UTF-8")
            .env("TERM", "dumb")
            // Nobody is there to type it.
            .env(
                "SEALPOST_PASSPHRASE_COMMAND",
                "echo correct horse battery staple",
            )
            .stdin(Stdio::null())
            .stdout(writer.try_clone().unwrap())
            .stderr(writer);
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut seen = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut seen).unwrap();
        let status = child.wait().unwrap();
        let seen = String::from_utf8_lossy(&seen);
        assert!(status.success(), "{:?}: {status}\n{seen}", page.path());
    }

    fn script(&self, page: &Page) -> String {
        let mut script = String::from(PROLOGUE);
        let mut terminal = 0;
        let name = page.path().file_name().unwrap().to_string_lossy();
        for step in page.steps() {
            let Step { line, text, .. } = &step;
            let (where_, heredoc) = (format!("{name}:{line}"), format!("END_OF_{line}"));
            writeln!(script, "where={where_}; echo '--- {where_}'").unwrap();
            match &step.action {
                Action::NotRun(_) | Action::Remark => {}
                Action::File(path) | Action::MoreOf(path) => {
                    let arrow = if matches!(step.action, Action::File(_)) {
                        ">"
                    } else {
                        ">>"
                    };
                    writeln!(script, "mkdir -p \"$(dirname {path})\"").unwrap();
                    writeln!(script, "cat {arrow}{path} <<'{heredoc}'\n{text}{heredoc}").unwrap();
                }
                _ if step.language != "sh" => {}
                Action::Plain | Action::Hidden => script.push_str(text),
                Action::Fails => {
                    writeln!(
                        script,
                        "if (\n{text}); then echo 'that did not fail'; false; fi"
                    )
                    .unwrap();
                }
                Action::GoesOn(until) => {
                    terminal += 1;
                    let file = format!("\"$STAGE/terminals/{terminal}\"");
                    writeln!(script, "mkfifo \"$STAGE/terminals/{terminal}.keys\"").unwrap();
                    writeln!(
                        script,
                        "{{\n{text}}} 0<>\"$STAGE/terminals/{terminal}.keys\" >{file} 2>&1 &"
                    )
                    .unwrap();
                    writeln!(script, "echo $! >\"$STAGE/terminals/{terminal}.pid\"").unwrap();
                    if !until.is_empty() {
                        writeln!(script, "shows {terminal} '{until}'").unwrap();
                    }
                }
            }
        }
        script
    }
}

fn namespaces() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--net"]);
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command
}

/// The programs first, then what the machine has.
fn path() -> std::ffi::OsString {
    let ours = program("sealpost").parent().map(Path::to_owned).unwrap();
    let theirs = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let all = [ours.clone(), ours.join("examples")]
        .into_iter()
        .chain(std::env::split_paths(&theirs));
    std::env::join_paths(all.chain(system)).unwrap()
}

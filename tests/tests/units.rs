//! The units of systemd, as `make install` and as the packages install them: systemd understands them, and they give away little.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sealpost_tests::{program, root};

/// What `systemd-analyze security` may say, in tenths, from 0 (closed) to 100 (open). It calls up to 19 "OK". A service with a network
/// cannot be at 0.
const EXPOSURE: u32 = 18;

const SERVICES: [&str; 3] = ["sealpost-broker", "sealpost-archiver", "sealpost-device"];

fn analyze(arguments: &[&str], units: &[PathBuf]) -> Output {
    Command::new("systemd-analyze")
        .args(arguments)
        .args(units)
        .output()
        .expect("systemd-analyze is installed (`make test-tools`)")
}

/// Writes all units into a folder, with the programs where they were built.
fn install(dir: &Path, own_users: bool) -> Vec<PathBuf> {
    let programs = program("sealpost-broker");
    let programs = programs.parent().unwrap();
    let mut files = Vec::new();
    for unit in std::fs::read_dir(root().join("config/systemd")).unwrap() {
        let unit = unit.unwrap().path();
        let mut command = Command::new(root().join("packaging/unit"));
        command.arg(&unit).arg(programs).arg("/etc");
        if own_users {
            command.arg(unit.file_stem().unwrap());
        }
        let printed = command.output().unwrap();
        assert!(printed.status.success(), "{printed:?}");
        let text = String::from_utf8(printed.stdout).unwrap();
        assert!(!text.contains("/usr/local"), "{text}");
        if unit.extension().unwrap() == "service" {
            assert_eq!(text.contains("\nUser="), own_users, "{text}");
            assert_eq!(text.contains("\nDynamicUser=yes"), !own_users, "{text}");
        }
        let file = dir.join(unit.file_name().unwrap());
        std::fs::write(&file, text).unwrap();
        files.push(file);
    }
    assert_eq!(files.len(), SERVICES.len() + 1);
    files
}

#[test]
fn systemd_understands_every_unit_and_finds_them_closed() {
    for own_users in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let units = install(dir.path(), own_users);
        let verified = analyze(&["verify"], &units);
        let said = String::from_utf8_lossy(&verified.stderr);
        let ours: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("sealpost"))
            .collect();
        assert!(verified.status.success() && ours.is_empty(), "{said}");
        for service in SERVICES {
            let threshold = format!("--threshold={EXPOSURE}");
            let unit = dir.path().join(format!("{service}.service"));
            let judged = analyze(
                &["security", "--offline=true", "--no-pager", &threshold],
                &[unit],
            );
            assert!(
                judged.status.success(),
                "{}",
                String::from_utf8_lossy(&judged.stdout)
            );
        }
    }
}

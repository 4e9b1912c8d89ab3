//! Finds out how this is built.
//!
//! The commit is what `SEALPOST_COMMIT` says, for who builds from an archive; otherwise what git says, in release builds: with every
//! commit the programs would be compiled anew, which those who work on them do not want.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SEALPOST_COMMIT");
    let profile = variable("PROFILE");
    let commit = match env::var("SEALPOST_COMMIT") {
        Ok(commit) if is_plain(&commit) => commit,
        _ if profile == "release" => commit().unwrap_or_else(|| "unknown".to_owned()),
        _ => "unknown".to_owned(),
    };
    let compiler = output(Command::new(variable("RUSTC")).arg("--version"));
    println!("cargo::rustc-env=SEALPOST_BUILD_COMMIT={commit}");
    println!("cargo::rustc-env=SEALPOST_BUILD_PROFILE={profile}");
    println!(
        "cargo::rustc-env=SEALPOST_BUILD_TARGET={}",
        variable("TARGET")
    );
    println!(
        "cargo::rustc-env=SEALPOST_BUILD_COMPILER={}",
        compiler.unwrap_or_else(|| "unknown".to_owned())
    );
}

/// One of those that cargo sets.
fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| "unknown".to_owned())
}

/// The commit that this folder is of, and whether files were changed since. None outside git, and in somebody else's.
fn commit() -> Option<String> {
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    for name in ["HEAD", "logs/HEAD", "index"] {
        let path = git(&["rev-parse", "--git-path", name])?;
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(match changed.is_empty() {
        true => commit,
        false => format!("{commit}, with changes"),
    })
}

fn git(arguments: &[&str]) -> Option<String> {
    output(Command::new("git").args(arguments))
}

/// What it prints, without the line end; none when it fails.
fn output(command: &mut Command) -> Option<String> {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned())
}

/// What may stand in a line of ours.
fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-+._".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

//! The pages of documentation hold what they say: their commands are run as they stand there, in order, on a machine of their own
//! (`tests/src/stage.rs`); what is not run says why, and is at least understood; links lead somewhere; the book has every page.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sealpost_tests::page::{Action, Page};
use sealpost_tests::{Stage, misunderstood, root};

/// A test for each page whose commands are run.
macro_rules! pages {
    ($($test:ident: $page:literal,)*) => {
        const RUN: &[&str] = &[$($page),*];
        $(
            #[test]
            fn $test() {
                let Some(stage) = Stage::set_up() else { return };
                stage.play(&Page::read(&root().join($page)));
            }
        )*
    };
}

pages! {
    the_commands_of_the_readme_work: "README.md",
    the_commands_of_the_tour_work: "docs/tour.md",
    the_commands_about_tls_work: "docs/tls.md",
    the_commands_about_access_work: "docs/access.md",
    the_commands_about_backup_work: "docs/backup.md",
    the_commands_about_files_work: "docs/files.md",
    the_commands_about_archives_work: "docs/archive.md",
    the_commands_about_operations_work: "docs/operations.md",
    the_commands_about_devices_work: "docs/devices.md",
    the_commands_about_other_brokers_work: "docs/other-brokers.md",
}

/// Everything that people read: in the repository's folders, and in the book.
fn pages() -> Vec<Page> {
    let mut pages = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                let others = ["target", "node_modules", "transcripts", "tour"];
                if !name.starts_with('.') && !others.contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if name.ends_with(".md") {
                pages.push(Page::read(&path));
            }
        }
    }
    pages
}

fn book() -> Vec<Page> {
    let paths = std::fs::read_dir(root().join("docs")).unwrap();
    let paths = paths.map(|entry| entry.unwrap().path());
    let pages = paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut pages: Vec<Page> = pages.map(|path| Page::read(&path)).collect();
    pages.push(Page::read(&root().join("README.md")));
    pages
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_command_of_the_book_is_run_or_says_why_not() {
    let mut wrong = Vec::new();
    for page in book() {
        let name = page.path().strip_prefix(root()).unwrap().to_owned();
        let is_run = RUN.contains(&name.to_str().unwrap());
        for step in page.steps() {
            let at = format!("{}:{}", name.display(), step.line);
            match step.action {
                Action::Remark => wrong.push(format!("{at}: what is <!-- {} -->?", step.text)),
                _ if step.language.is_empty() => {
                    wrong.push(format!("{at}: a block of which language?"));
                }
                Action::NotRun(_) => {}
                _ if step.language == "sh" && !is_run => {
                    wrong.push(format!("{at}: nobody runs this page's commands"));
                }
                _ => {}
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn commands_that_are_not_run_are_understood() {
    let mut wrong = Vec::new();
    for page in pages() {
        for step in page.steps() {
            let at = format!("{}:{}", page.path().display(), step.line);
            if step.language.is_empty() {
                // Pages that are not of the book, whose blocks are not all commands.
                let ours = step
                    .text
                    .lines()
                    .filter(|line| line.starts_with("sealpost"));
                let wrongs = ours.flat_map(misunderstood);
                wrong.extend(wrongs.map(|what| format!("{at}: {what}")));
            }
            if step.language != "sh" || step.action == Action::Hidden {
                continue;
            }
            let mut shell = Command::new("sh")
                .arg("-n")
                .stdin(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut input = shell.stdin.take().unwrap();
            input.write_all(step.text.as_bytes()).unwrap();
            drop(input);
            if !shell.wait().unwrap().success() {
                wrong.push(format!("{at}: that is no shell"));
            }
            wrong.extend(
                misunderstood(&step.text)
                    .iter()
                    .map(|what| format!("{at}: {what}")),
            );
        }
    }
    assert_none(&wrong);
}

#[test]
fn commands_in_sentences_are_understood() {
    let mut wrong = Vec::new();
    let mut asked = BTreeSet::new();
    for page in pages() {
        if page.path().ends_with("CHANGELOG.md") {
            continue;
        }
        for (line, span) in page.spans() {
            if span.starts_with("sealpost") && asked.insert(span.clone()) {
                let at = format!("{}:{line}", page.path().display());
                wrong.extend(
                    misunderstood(&span)
                        .iter()
                        .map(|what| format!("{at}: {what}")),
                );
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut wrong = Vec::new();
    for page in pages() {
        for (line, link) in page.links() {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => page.path().to_owned(),
                path => page.path().parent().unwrap().join(path),
            };
            let at = format!("{}:{line}", page.path().display());
            if !target.exists() {
                wrong.push(format!("{at}: there is no {path}"));
            } else if !anchor.is_empty()
                && target
                    .extension()
                    .is_some_and(|extension| extension == "md")
                && !Page::read(&target)
                    .anchors()
                    .iter()
                    .any(|there| there == anchor)
            {
                wrong.push(format!("{at}: {path} has no #{anchor}"));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn the_book_has_every_page() {
    let docs = root().join("docs");
    let summary = Page::read(&docs.join("SUMMARY.md"));
    let listed: BTreeSet<PathBuf> = summary
        .links()
        .into_iter()
        .map(|(_, link)| link.into())
        .collect();
    let there: BTreeSet<PathBuf> = std::fs::read_dir(&docs)
        .unwrap()
        .map(|entry| PathBuf::from(entry.unwrap().file_name()))
        .filter(|name| name.extension().is_some_and(|extension| extension == "md"))
        .filter(|name| name != Path::new("SUMMARY.md"))
        .collect();
    assert_eq!(listed, there);
}

//! A page of documentation as somebody works through it: its commands in order, its files, its links.
//!
//! What a page says to this reader alone stands in HTML comments before a fenced block, and nobody else sees it:
//!
//! - `<!-- not run: REASON -->`: the commands are not run, but checked as far as that goes.
//! - `<!-- goes on: TEXT -->`: the commands go on in a terminal of their own; what follows waits until they print TEXT.
//! - `<!-- fails -->`: the last command ends with another code than 0.
//! - `<!-- file: PATH -->`, `<!-- more of: PATH -->`: the block is (added to) this file.
//! - `<!-- test: COMMANDS -->`, without a block: what nobody writes in a page, such as what has to be so now.

use std::path::{Path, PathBuf};

/// A fenced block, or commands that only the test has.
#[derive(Debug, Clone)]
pub struct Step {
    /// The line of the page where it begins.
    pub line: usize,
    /// The block's language; empty if it has none.
    pub language: String,
    /// What is in it.
    pub text: String,
    /// What becomes of it.
    pub action: Action,
}

/// What becomes of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It is run, if it is commands; otherwise it is looked at by people.
    Plain,
    /// A comment of another kind, which pages of the book do not have: it would be a slip of the pen.
    Remark,
    /// It is run, and readers of the page do not see it.
    Hidden,
    /// It is run and has to fail.
    Fails,
    /// It goes on in the background; what follows waits for this text.
    GoesOn(String),
    /// It is written to this file.
    File(String),
    /// It is added to this file.
    MoreOf(String),
    /// It is not run, for this reason.
    NotRun(String),
}

/// A page.
#[derive(Debug)]
pub struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    /// Reads one.
    #[must_use]
    pub fn read(path: &Path) -> Page {
        let text =
            std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        Page {
            path: path.to_owned(),
            text,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its fenced blocks and hidden commands, in order.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut action = Action::Plain;
        let mut lines = self.text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            if let Some(language) = line.trim_start().strip_prefix("```") {
                let indent = line.len() - line.trim_start().len();
                let mut text = String::new();
                loop {
                    let (_, line) = lines.next().unwrap_or_else(|| {
                        panic!(
                            "{:?}: the block of line {} has no end",
                            self.path,
                            number + 1
                        )
                    });
                    if line.trim() == "```" {
                        break;
                    }
                    text.push_str(line.get(indent..).unwrap_or(line));
                    text.push('\n');
                }
                steps.push(Step {
                    line: number + 1,
                    language: language.trim().to_owned(),
                    text,
                    action: std::mem::replace(&mut action, Action::Plain),
                });
            } else if let Some(begun) = line.trim_start().strip_prefix("<!--") {
                let mut comment = begun.to_owned();
                while !comment.contains("-->") {
                    let (_, line) = lines.next().unwrap_or_else(|| {
                        panic!(
                            "{:?}: the comment of line {} has no end",
                            self.path,
                            number + 1
                        )
                    });
                    comment.push('\n');
                    comment.push_str(line);
                }
                let comment = comment.split("-->").next().unwrap_or_default().trim();
                let (word, rest) = comment.split_once(':').unwrap_or((comment, ""));
                let rest = rest.trim().to_owned();
                match word {
                    "not run" => {
                        assert!(!rest.is_empty(), "{:?}:{}: why?", self.path, number + 1);
                        action = Action::NotRun(rest);
                    }
                    "goes on" => action = Action::GoesOn(rest),
                    "fails" => action = Action::Fails,
                    "file" => action = Action::File(rest),
                    "more of" => action = Action::MoreOf(rest),
                    "test" => steps.push(Step {
                        line: number + 1,
                        language: "sh".into(),
                        text: rest + "\n",
                        action: Action::Hidden,
                    }),
                    _ => steps.push(Step {
                        line: number + 1,
                        language: String::new(),
                        text: comment.to_owned(),
                        action: Action::Remark,
                    }),
                }
            } else {
                assert!(
                    action == Action::Plain || line.trim().is_empty(),
                    "{:?}:{}: a block has to follow its comment at once",
                    self.path,
                    number + 1
                );
            }
        }
        steps
    }

    /// The page without its blocks and comments: lines with their numbers.
    #[must_use]
    pub fn prose(&self) -> Vec<(usize, &str)> {
        let (mut inside, mut hidden) = (false, false);
        let mut prose = Vec::new();
        for (number, line) in self.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                inside = !inside;
            } else if !inside {
                hidden |= line.contains("<!--");
                if !hidden {
                    prose.push((number + 1, line));
                }
                hidden &= !line.contains("-->");
            }
        }
        prose
    }

    /// What stands in back quotes in its prose, with line numbers.
    #[must_use]
    pub fn spans(&self) -> Vec<(usize, String)> {
        // A span may go over the end of a line.
        let mut spans = Vec::new();
        let mut open: Option<(usize, String)> = None;
        for (number, line) in self.prose() {
            if line.trim().is_empty() {
                open = None;
                continue;
            }
            let mut parts = line.split('`');
            if let Some((_, text)) = &mut open {
                text.push(' ');
                text.push_str(parts.next().unwrap_or_default());
            } else {
                parts.next();
            }
            for part in parts {
                match open.take() {
                    Some(span) => spans.push(span),
                    None => open = Some((number, part.to_owned())),
                }
            }
        }
        spans
    }

    /// Where its links go, with line numbers.
    #[must_use]
    pub fn links(&self) -> Vec<(usize, String)> {
        let mut links = Vec::new();
        for (number, line) in self.prose() {
            // What is code is no link.
            let words: String = line.split('`').step_by(2).collect::<Vec<_>>().join("x");
            for part in words.split("](").skip(1) {
                let target = part.split(')').next().unwrap_or_default();
                links.push((number, target.to_owned()));
            }
        }
        links
    }

    /// The anchors of its headings, as GitHub and mdBook make them.
    #[must_use]
    pub fn anchors(&self) -> Vec<String> {
        let mut anchors: Vec<String> = Vec::new();
        for (_, line) in self.prose() {
            let title = line.trim_start_matches('#');
            if title.len() == line.len() || !title.starts_with(' ') {
                continue;
            }
            let name: String = title
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect();
            anchors.push(name);
        }
        anchors
    }
}
